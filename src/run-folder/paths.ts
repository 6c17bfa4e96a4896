import { join } from 'node:path';
import { type ArmId, armName, type Subject, subjectName } from './arm.ts';

/** Where everything lies in a run's folder. Public and versioned: other programs may rely on it. */
export interface RunPaths {
  readonly manifest: string;
  /** The config as the user gave it, byte by byte. */
  readonly config: string;
  /** The same with every default filled in. */
  readonly resolvedConfig: string;
  readonly log: string;
  /** Collected answers: the response store's folder. */
  readonly responses: string;
  /** A judge's verdicts on answers, a response store's folder for each arm. */
  readonly verdicts: string;
  /** What was looked for in questions and answers before they were learnt from, and what was found. */
  readonly curation: string;
  readonly report: string;
  readonly student: (arm: ArmId) => StudentPaths;
  /** Answers of one subject to the test questions, an `AnswerRecord` a line. */
  readonly answers: (subject: Subject) => string;
  /** Log-likelihoods of the test questions' gold solutions, a `LikelihoodRecord` a line. */
  readonly likelihoods: (subject: Subject) => string;
}

export interface StudentPaths {
  readonly folder: string;
  /** PEFT adapter folder (or a whole model, where every parameter is trained). */
  readonly adapter: string;
  readonly checkpoints: string;
  /** One JSON line per optimiser step or evaluation. */
  readonly metrics: string;
  /** Which questions and answers it was trained on, by their ids and keys, one JSON object a line. */
  readonly rows: string;
}

/** The paths of a run in `folder`; touches no disk. */
export const runPaths = (folder: string): RunPaths => ({
  manifest: join(folder, 'manifest.json'),
  config: join(folder, 'config.yaml'),
  resolvedConfig: join(folder, 'config.resolved.json'),
  log: join(folder, 'log'),
  responses: join(folder, 'responses'),
  verdicts: join(folder, 'verdicts'),
  curation: join(folder, 'curation'),
  report: join(folder, 'report'),
  student: (arm) => studentPaths(join(folder, 'students', armName(arm))),
  answers: (subject) => join(folder, 'evaluations', `${subjectName(subject)}.jsonl`),
  likelihoods: (subject) => join(folder, 'evaluations', `${subjectName(subject)}.likelihood.jsonl`),
});

const studentPaths = (folder: string): StudentPaths => ({
  folder,
  adapter: join(folder, 'adapter'),
  checkpoints: join(folder, 'checkpoints'),
  metrics: join(folder, 'metrics.jsonl'),
  rows: join(folder, 'rows.jsonl'),
});
