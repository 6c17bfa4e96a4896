import type { Command } from 'commander';
import type { Act } from './command-context.ts';

/** Describes a command to the program. */
export type AddCommand = (program: Command, act: Act) => void;

/**
 * Every command, in the order of the help text. Each is loaded when it is asked for: what training needs takes a second to load, and
 * `retort doctor` must answer where it cannot be loaded at all.
 */
export const commandTable: Readonly<Record<string, () => Promise<AddCommand>>> = {
  run: async () => (await import('./commands/run.ts')).addRun,
  collect: async () => (await import('./commands/run.ts')).addCollect,
  train: async () => (await import('./commands/train.ts')).addTrain,
  evaluate: async () => (await import('./commands/evaluate.ts')).addEvaluate,
  generate: async () => (await import('./commands/generate.ts')).addGenerate,
  report: async () => (await import('./commands/report.ts')).addReport,
  compare: async () => (await import('./commands/compare.ts')).addCompare,
  inspect: async () => (await import('./commands/inspect.ts')).addInspect,
  chat: async () => (await import('./commands/chat.ts')).addChat,
  export: async () => (await import('./commands/export.ts')).addExport,
  forget: async () => (await import('./commands/forget.ts')).addForget,
  doctor: async () => (await import('./commands/doctor.ts')).addDoctor,
};
