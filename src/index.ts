/**
 * retort as a library: the stages that the command runs, and what they are made of.
 * @module
 */

export { InternalError, UserError } from './base/errors.ts';
export { type ConfigSurroundings, type ParsedConfig, parseRunConfig, parseTrainConfig } from './config/parse-config.ts';
export { ConfigError, type ConfigProblem } from './config/problem.ts';
export type { RunConfig } from './config/run-config.ts';
export type { TrainConfig } from './config/train-config.ts';
export { createEngine } from './engines/create-engine.ts';
export type * from './engines/engine.ts';
export { strategies } from './priming/strategies.ts';
export type { PrimingStrategy } from './priming/strategy.ts';
export * from './tasks/index.ts';
