import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { argv } from 'node:process';
import { type TrainerSettings, trainerConfigs } from '../../src/methods/trainer-configs.ts';
import { type ExportFormatName, type ExportRow, exportFormatNames, exportFormats } from '../../src/responses/export-formats.ts';

const texts = [
  'plain',
  'two\nlines, and a third\r\nafter CRLF\n',
  ' "quotes", \'apostrophes\', back\\slashes, <<2+2=4>>, {{content}}, | pipes | ',
  'Ümläute, 漢字, العربية, e\u0301 and é, 🙂👩‍👩‍👧, a no\u00a0break space, line\u2028separators\u2029, a\ttab',
  '\uFEFFa mark at the beginning, \u0000 and \u001b inside',
  '{"json": [1, 2.50, null]}\n#### 1,000',
  '<|im_start|>user\nmarkup of a template<|im_end|>',
  'x'.repeat(100),
];

/** Rows of texts that are easily read wrongly. */
export const sampleRows: readonly ExportRow[] = [
  ...texts.map((text, index) => ({
    id: `q-${index}`,
    messages: [{ role: 'user' as const, content: text }],
    answer: texts.at(-1 - index) ?? '',
  })),
  {
    id: 'q-primed',
    messages: [
      { role: 'system', content: 'Be\nbrief.' },
      { role: 'user', content: 'Why?' },
    ],
    answer: 'So.',
  },
];

/** Settings unlike the trainers' own, so that a default cannot stand in for what was written. */
export const sampleSettings: Omit<TrainerSettings, 'format'> = {
  name: 'sample',
  student: {
    model: 'hub:ada/tiny@v1',
    initialisation: 'folder',
    parameters: { kind: 'lora', rank: 3, alpha: 7, dropout: 0.125, targets: ['q_proj', 'down_proj'] },
  },
  training: {
    epochs: 3,
    rowsPerStep: 5,
    learningRate: 3e-7,
    schedule: 'linear',
    warmupShare: 0.25,
    optimiser: { name: 'adamw', beta1: 0.8, beta2: 0.99, epsilon: 1e-7, weightDecay: 0.02 },
    maximumNorm: 0.75,
    loss: { name: 'cross-entropy' },
    maximumLength: 777,
    stepsPerCheckpoint: 20,
    stepsPerEvaluation: 20,
  },
  seed: 11,
};

/** What is exported in a format, by file name. */
export const sampleFiles = (name: ExportFormatName): ReadonlyMap<string, string | Uint8Array> => {
  const format = exportFormats[name];
  return new Map([[format.fileName, format.encode(sampleRows)], ...trainerConfigs({ ...sampleSettings, format })]);
};

if (import.meta.main) {
  const folder = argv[2] ?? 'exported-samples';
  for (const name of exportFormatNames) {
    await mkdir(join(folder, name), { recursive: true });
    for (const [file, content] of sampleFiles(name)) await writeFile(join(folder, name, file), content);
  }
}
