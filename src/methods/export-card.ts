import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import { hasCode, sha256OfFile } from '../base/folders.ts';
import type { ExportFormatName, ExportRow, ResponseFormat } from '../responses/export-formats.ts';
import { provenanceFile } from '../responses/provenance.ts';
import type { Response } from '../responses/response.ts';
import { responsesFile } from '../responses/response-store.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { packageVersion } from '../run-folder/versions.ts';

export interface ExportCardFacts {
  readonly run: RunFolder;
  readonly arm: string;
  /** The folder of its answers. */
  readonly store: string;
  readonly formatName: ExportFormatName;
  readonly format: ResponseFormat;
  readonly isPrimed: boolean;
  readonly rows: readonly ExportRow[];
  readonly responses: readonly Response[];
  /** SHA-256 of the data. */
  readonly hash: string;
  readonly files: readonly string[];
}

const sourceSchema = z.looseObject({
  teacher: z.looseObject({
    kind: z.string(),
    model: z.string().optional(),
    revision: z.string().optional(),
    provider: z.string().optional(),
  }),
  reportedModels: z.record(z.string(), z.number()),
  strategy: z.looseObject({ name: z.string(), version: z.number(), text: z.string(), placement: z.string() }),
  sampling: z.record(z.string(), z.unknown()),
  failures: z.record(z.string(), z.number()),
  terms: z.array(z.string()),
});
const cardSchema = z.looseObject({ sources: z.record(z.string(), z.unknown()) });

/** The README beside exported answers: what they are, how they came about, under which terms, and how to train on them. */
export const exportCard = async (facts: ExportCardFacts): Promise<string> => {
  const { run, arm, store, format, formatName, isPrimed, rows, responses, hash, files } = facts;
  const source = await sourceOf(store);
  const dates = responses.map(({ collectedAt }) => collectedAt).sort();
  const [first, last] = [dates[0], dates.at(-1)];
  const { protocol } = await run.manifest();
  const teachers = [...new Set(responses.map(({ teacher }) => teacher))].join(', ');
  const table = [
    ['answers', `${rows.length}, all kept; right by the strict rule: ${responses.filter(({ strict }) => strict).length}`],
    ['questions', `${new Set(responses.map(({ exampleId }) => exampleId)).size} of the task ${protocol.task}`],
    ['answered by', [teachers, ...Object.keys(source?.reportedModels ?? {})].join('; as reported: ')],
    ['collected', first === last ? `${first}` : `${first} to ${last}`],
    ...(source === undefined ? [] : sourceRows(source)),
    ['prompts', isPrimed ? 'as the teacher saw them' : 'as students see them: the question and the task’s instruction, without priming'],
    ['format', formatName],
    [`SHA-256 of ${format.fileName}`, hash],
    [`SHA-256 of the run’s ${basename(store)}/responses.jsonl`, await sha256OfFile(responsesFile(store))],
  ];
  return [
    '---',
    'configs:',
    '- config_name: default',
    '  data_files:',
    '  - split: train',
    `    path: ${format.fileName}`,
    '---',
    `# ${run.name}: ${arm}`,
    '',
    `Written by retort ${packageVersion()} (\`retort export responses\`).`,
    '',
    '| | |',
    '| --- | --- |',
    ...table.map(([name, value]) => `| ${name} | ${cell(value ?? '')} |`),
    '',
    '## Terms',
    ...termsLines(source),
    '',
    '## Training',
    ...trainingLines(files, format),
    '',
  ].join('\n');
};

const sourceRows = ({ strategy, sampling, failures }: z.infer<typeof sourceSchema>): string[][] => [
  [
    'primed by',
    strategy.text === '' ? 'nothing' : `${strategy.name}, version ${strategy.version}, ${strategy.placement}: ${strategy.text}`,
  ],
  ['sampling', JSON.stringify(sampling)],
  [
    'not among them',
    Object.entries(failures)
      .map(([reason, count]) => `${count} ${reason}`)
      .join(', ') || 'none failed',
  ],
];

const termsLines = (source: z.infer<typeof sourceSchema> | undefined): string[] => {
  if (source === undefined)
    return ['These answers were not asked of a teacher by retort: the terms are those of the data that they come from.'];
  if (source.terms.length === 0)
    return ["Nothing is known here of terms that restrict training on these answers; the teacher's own licence decides."];
  return source.terms.map((note) => `- ${note}`);
};

const trainingLines = (files: readonly string[], { fileName }: ResponseFormat): string[] => [
  ...(files.includes('trl.yaml') ? ['- TRL: `trl sft --config trl.yaml`'] : []),
  ...(files.includes('llama-factory.yaml') ? ['- LLaMA-Factory: `llamafactory-cli train llama-factory.yaml`'] : []),
  `- Anything else on Hugging Face’s \`datasets\`: \`load_dataset('${fileName.endsWith('.parquet') ? 'parquet' : 'json'}', data_files='${fileName}')\``,
];

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll(/\r?\n/g, '<br>');

/** The arm's (or the one's that it was chosen of) part of the provenance card; undefined where no teacher was asked. */
const sourceOf = async (folder: string): Promise<z.infer<typeof sourceSchema> | undefined> => {
  const path = provenanceFile(folder);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT')) return undefined;
    throw thrown;
  }
  try {
    return sourceSchema.parse(cardSchema.parse(JSON.parse(text)).sources[basename(folder)]);
  } catch (thrown) {
    throw new UserError(
      `${path} is damaged: the terms under which these answers came are not known. Write it anew with: retort collect CONFIG`,
      {
        cause: thrown,
      },
    );
  }
};
