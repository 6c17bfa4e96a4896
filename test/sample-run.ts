import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { randomFrom } from '../src/base/random.ts';
import type { AnswerRecord, LikelihoodRecord } from '../src/evaluation/answer-record.ts';
import { type Subject, subjectName } from '../src/run-folder/arm.ts';
import type { RunManifest, StageRecord } from '../src/run-folder/manifest.ts';
import { createRun, type RunFolder } from '../src/run-folder/run-folder.ts';
import { stageNames } from '../src/run-folder/stage.ts';

/** What a made-up run holds: for tests of everything that reads runs. */
export interface SampleRunOptions {
  readonly sources?: readonly string[];
  readonly compared?: readonly string[];
  readonly seedCount?: number;
  readonly questionCount?: number;
  /** P(strictly right) of a subject. */
  readonly accuracy?: (subject: Subject) => number;
  readonly textOf?: (subject: Subject, id: string, isRight: boolean) => string;
  readonly primaryMeasure?: 'strict' | 'flexible' | 'likelihood';
  readonly failing?: string;
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** The answers of one subject: right with its accuracy, drawn with a seed of its name, so that a run is the same each time. */
export const sampleAnswers = (subject: Subject, options: SampleRunOptions): AnswerRecord[] => {
  const { questionCount = 60, accuracy = () => 0.5, textOf } = options;
  const random = randomFrom(0, subjectName(subject));
  return Array.from({ length: questionCount }, (_, index) => {
    const isRight = random.uniform() < accuracy(subject);
    const isFormatted = isRight || random.uniform() < 0.5;
    const id = `q${index}`;
    const number = isRight ? '7' : '8';
    return {
      id,
      question: `What is ${index} times 7?`,
      questionHash: sha256(id),
      promptHash: sha256(`prompt ${id}`),
      requestHash: sha256(`${subjectName(subject)} ${id}`),
      text: textOf?.(subject, id, isRight) ?? `Some words. ${isFormatted ? `#### ${number}` : number}`,
      tokens: null,
      tokenCount: 20 + (index % 7),
      promptTokenCount: 30,
      finishReason: index % 10 === 0 ? 'length' : 'stop',
      gold: '7',
      strictExtraction: isFormatted ? number : null,
      flexibleExtraction: number,
      strict: isRight,
      flexible: isRight,
      followsFormat: isFormatted,
    };
  });
};

const sampleLikelihoods = (subject: Subject, options: SampleRunOptions): LikelihoodRecord[] => {
  const random = randomFrom(1, subjectName(subject));
  return Array.from({ length: options.questionCount ?? 60 }, (_, index) => ({
    id: `q${index}`,
    questionHash: sha256(`q${index}`),
    requestHash: sha256(`likelihood ${subjectName(subject)} ${index}`),
    logLikelihood: -(40 + index) * (1.4 - 0.5 * (options.accuracy?.(subject) ?? 0.5) + 0.1 * random.normal()),
    tokenCount: 40 + index,
    isTruncated: false,
  }));
};

/** Writes a whole run of made-up answers to `folder`. */
export const writeSampleRun = async (folder: string, options: SampleRunOptions = {}): Promise<RunFolder> => {
  const { sources = ['none', 'teacher', 'gold'], compared = ['teacher'], seedCount = 2, questionCount = 60 } = options;
  const now = () => new Date('2026-01-02T03:04:05Z');
  const arms = sources.flatMap((source) =>
    Array.from({ length: seedCount }, (_, seed): Subject => ({ kind: 'arm', arm: { source, method: 'lora', student: 'smollm2', seed } })),
  );
  const subjects: Subject[] = [...arms, { kind: 'untouched', student: 'smollm2' }, { kind: 'teacher' }];
  const run = await createRun(folder, {
    configText: 'task: gsm8k\n',
    resolvedConfig: { task: 'gsm8k', sources: [...sources] },
    protocol: {
      task: 'gsm8k',
      instruction: sha256('instruction'),
      primaryMeasure: options.primaryMeasure ?? 'strict',
      baseline: 'none',
      compared: [...compared],
      testQuestionCount: questionCount,
    },
    plannedStages: [
      ...sources.map(stageNames.collect),
      ...subjects.flatMap((subject) => [
        ...(subject.kind === 'arm' ? [stageNames.train(subject.arm)] : []),
        stageNames.evaluate(subject),
        ...(subject.kind === 'teacher' ? [] : [stageNames.likelihood(subject)]),
      ]),
    ],
    versions: { 'retort-kd': '0.1.0', node: '24.0.0', onnxruntime: '1.30.0' },
    machine: { platform: 'linux', architecture: 'x64', processor: 'Example 3000', coreCount: 2, memoryBytes: 8 * 2 ** 30 },
    now,
  });
  await run.openTest('evaluation of all arms');
  const stages = new Map<string, SampleStage>();
  for (const source of sources) {
    const cost = source === 'teacher' ? { promptTokenCount: 20_000, completionTokenCount: 9_000, costUsd: 0.0042 } : {};
    stages.set(stageNames.collect(source), { facts: { keptCount: 250, failedCount: 6, rejectedCount: 0, ...cost } });
  }
  for (const subject of subjects) await writeSubject(run, subject, options, stages);
  await run.update((manifest) => withStages(manifest, stages, now().toISOString()));
  return run;
};

/** A stage to record: done, or failed with an error. */
interface SampleStage {
  readonly facts?: Record<string, number>;
  readonly file?: { readonly path: string; readonly text: string };
  readonly error?: string;
}

/** Recorded in one go: a manifest that is written and synced for each of a hundred stages would make tests slow. */
const withStages = (manifest: RunManifest, stages: ReadonlyMap<string, SampleStage>, at: string): RunManifest => {
  const records = [...stages].map(([name, { facts = {}, file, error }]): [string, StageRecord] => {
    const begun = { key: sha256(name), startedAt: at, finishedAt: at, files: file === undefined ? [] : [file.path], facts };
    return [name, error === undefined ? { ...begun, status: 'done', durationMs: 0 } : { ...begun, status: 'failed', error }];
  });
  const files = [...stages.values()].flatMap(({ file }) =>
    file === undefined ? [] : [[file.path, { sha256: sha256(file.text), sizeBytes: Buffer.byteLength(file.text) }] as const],
  );
  return { ...manifest, stages: Object.fromEntries(records), files: Object.fromEntries(files) };
};

const writeSubject = async (
  run: RunFolder,
  subject: Subject,
  options: SampleRunOptions,
  stages: Map<string, SampleStage>,
): Promise<void> => {
  if (subject.kind === 'arm') {
    const hasFailed = subjectName(subject) === options.failing;
    const facts = { rowCount: 250, droppedCount: 1, trainedTokenCount: 31000, stepCount: 64 };
    stages.set(stageNames.train(subject.arm), hasFailed ? { error: 'the loss is not a number at step 12' } : { facts });
    if (hasFailed) return;
  }
  const write = async (stage: string, path: string, rows: readonly object[]) => {
    const text = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
    stages.set(stage, { file: { path: relative(run.path, path), text } });
  };
  await write(stageNames.evaluate(subject), run.paths.answers(subject), sampleAnswers(subject, options));
  if (subject.kind !== 'teacher')
    await write(stageNames.likelihood(subject), run.paths.likelihoods(subject), sampleLikelihoods(subject, options));
};
