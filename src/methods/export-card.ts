import { basename } from 'node:path';
import { z } from 'zod';
import { sha256OfFile } from '../base/folders.ts';
import type { ExportFormatName, ExportRow, ResponseFormat } from '../responses/export-formats.ts';
import type { Response } from '../responses/response.ts';
import { responsesFile } from '../responses/response-store.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { packageVersion } from '../run-folder/versions.ts';
import { runProvenance } from './run-provenance.ts';

export interface ExportCardFacts {
  readonly run: RunFolder;
  readonly arm: string;
  /** The arm that was asked for these answers. */
  readonly answersOf: string;
  /** The folder that they are in. */
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
});
type Source = z.output<typeof sourceSchema>;

/** The README beside exported answers: what they are, how they came about, under which terms, and how to train on them. */
export const exportCard = async (facts: ExportCardFacts): Promise<string> => {
  const { run, arm, answersOf, store, format, formatName, isPrimed, rows, responses, hash, files } = facts;
  const { source, licences } = await provenanceOf(run, answersOf);
  const dates = responses.map(({ collectedAt }) => collectedAt).sort();
  const [first, last] = [dates[0], dates.at(-1)];
  const { protocol } = await run.manifest();
  const teachers = [...new Set(responses.map(({ teacher }) => teacher))].join(', ');
  const table = [
    ['answers', `${rows.length}; right by the strict rule: ${responses.filter(({ strict }) => strict).length}`],
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
    ...(licences.length === 0 ? ['Nothing is known of the terms of these answers.'] : licences.map((note) => `- ${note}`)),
    '',
    '## Training',
    ...trainingLines(files, format),
    '',
  ].join('\n');
};

const sourceRows = ({ strategy, sampling, failures }: Source): string[][] => [
  [
    'primed by',
    strategy.text === '' ? 'nothing' : `${strategy.name}, version ${strategy.version}, ${strategy.placement}: ${strategy.text}`,
  ],
  ['sampling', JSON.stringify(sampling)],
  [
    'failed, and not among them',
    Object.entries(failures)
      .map(([reason, count]) => `${count} ${reason}`)
      .join(', ') || 'none',
  ],
];

const trainingLines = (files: readonly string[], { fileName }: ResponseFormat): string[] => [
  ...(files.includes('trl.yaml') ? ['- TRL: `trl sft --config trl.yaml`'] : []),
  ...(files.includes('llama-factory.yaml') ? ['- LLaMA-Factory: `llamafactory-cli train llama-factory.yaml`'] : []),
  `- Anything else on Hugging Face’s \`datasets\`: \`load_dataset('${fileName.endsWith('.parquet') ? 'parquet' : 'json'}', data_files='${fileName}')\``,
];

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll(/\r?\n/g, '<br>');

/** What the run's provenance card says of the arm's answers. */
const provenanceOf = async (
  run: RunFolder,
  name: string,
): Promise<{ readonly source: Source | undefined; readonly licences: readonly string[] }> => {
  const { arms } = await runProvenance(run);
  const arm = arms.find((candidate) => candidate.name === name);
  return { source: sourceSchema.safeParse(arm?.answers).data, licences: arm?.licences ?? [] };
};
