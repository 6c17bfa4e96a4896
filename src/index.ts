/**
 * retort as a library: the stages that the command runs, and what they are made of. A name that is exported here keeps its meaning within a
 * major version; anything else may change.
 * @module
 */

// Errors
export { InternalError, UserError } from './base/errors.ts';
// Configs
export { type ConfigSurroundings, type ParsedConfig, parseRunConfig, parseTrainConfig } from './config/parse-config.ts';
export { ConfigError, type ConfigProblem } from './config/problem.ts';
export type { RunConfig } from './config/run-config.ts';
export type { TrainConfig } from './config/train-config.ts';
// Data
export type { DataRow } from './data/data-row.ts';
export type { DataAccess } from './data/open-data.ts';
export { type ReadRowsOptions, readRows } from './data/read-rows.ts';
// Engines and models
export { createEngine } from './engines/create-engine.ts';
export type * from './engines/engine.ts';
export { checkRun, describeCheck, isSound, type RunCheck } from './evaluation/check-run.ts';
export { type AnswerComparison, type CompareAnswersOptions, compareAnswers } from './evaluation/compare-answers.ts';
export { compareLikelihoods, compareScores, type PairCounts, type PairedDifference, pairCounts } from './evaluation/compare-arms.ts';
export { crossedMean, type MeanEstimate, type MeanOptions, type SeedTable } from './evaluation/crossed.ts';
export { detectableDifference, detectableFrom } from './evaluation/detectable.ts';
export { holm } from './evaluation/holm.ts';
export { planStudy, type StudyPlan } from './evaluation/plan.ts';
export { type Interval, wilsonInterval } from './evaluation/proportion.ts';
export { type AnswerFile, readAnswerFile } from './evaluation/read-answer-file.ts';
export { type ScoredAnswer, scoreAnswers } from './evaluation/score-answers.ts';
export { exactSignFlipTest, mcnemarTest } from './evaluation/sign-flip.ts';
export { summariseRun } from './evaluation/summarise-run.ts';
export type { RunSummary } from './evaluation/summary.ts';
// Attention
export {
  type AttentionMaps,
  type HeadMeasures,
  headSimilarities,
  measureHeads,
  withoutFirstToken,
} from './inspection/attention-measures.ts';
export { renderAttentionPage } from './inspection/attention-page.ts';
export {
  type AttentionPrompt,
  type AttentionStudy,
  engineMaps,
  type MapSource,
  mapMeasurer,
  type StudyOptions,
  studyAttention,
} from './inspection/attention-study.ts';
export { type HeadMap, renderHeadMap } from './inspection/head-map.ts';
export {
  type InspectRunOptions,
  inspectHead,
  inspectRun,
  type RunHeadOptions,
  type StudyModelOptions,
  studyModel,
} from './inspection/inspect-run.ts';
export { openMapsFolder } from './inspection/maps-folder.ts';
export {
  type AnswerSummary,
  type EvaluateModelOptions as EvaluateOptions,
  evaluateModel as evaluate,
  type ModelEvaluation,
  meanLogLikelihood,
  summariseAnswers,
} from './methods/evaluate-model.ts';
export { type ExportedArm, type ExportResponsesOptions, exportResponses } from './methods/export-responses.ts';
export { type ForgetOptions, type ForgetReport, forgetInRun } from './methods/forget.ts';
export { type Completion, type GenerateOptions, type GenerateReport, generate } from './methods/generate.ts';
export { type LocalModel, type LocalModelOptions, openLocalModel } from './methods/local-model.ts';
export { type RunOptions, runResponsePriming } from './methods/response-priming.ts';
// Stages, each as its command does it
export { collect, planRun, planTraining, profileTraining, type RunResult, run, type StageOptions, train } from './methods/stages.ts';
export type { StageProgress, Surroundings } from './methods/surroundings.ts';
export type { PlannedTraining, TrainReport } from './methods/train.ts';
export { primedMessages, studentMessages } from './priming/primed-messages.ts';
export { strategies } from './priming/strategies.ts';
export type { PrimingStrategy } from './priming/strategy.ts';
export { renderComparison } from './report/render-comparison.ts';
export { renderJson, renderMarkdown, renderTerminal } from './report/render-text.ts';
export { type WrittenReport, writeReport } from './report/write-report.ts';
// Answers
export { type BatchOptions, type ReadBatch, readBatchFile, type WrittenBatch, writeBatchFiles } from './responses/batch-file.ts';
export { CollectionStoppedError, type CollectOptions, collect as collectResponses } from './responses/collect.ts';
export { planCollection } from './responses/collection-plan.ts';
export { checkNotTheSameSet, findContamination } from './responses/decontaminate.ts';
export { findDuplicates } from './responses/duplicates.ts';
export { type Estimate, estimateCollection, estimateText } from './responses/estimate.ts';
export { forgetQuestion } from './responses/forget.ts';
export { patientTeacher } from './responses/patient-teacher.ts';
export type { Response } from './responses/response.ts';
export { readResponses, storeResponses } from './responses/response-store.ts';
export { type KeepPolicy, selectResponses, yieldOf } from './responses/select.ts';
export { goldResponses, shuffledResponses } from './responses/sources.ts';
export { type Verification, verifyByTask } from './responses/verify.ts';
// Runs and what they found
export { openRun, type RunFolder } from './run-folder/run-folder.ts';
// Tasks and priming
export * from './tasks/index.ts';
// Teachers: one's own is an object with `generate`
export { type AiSdkTeacherOptions, aiSdkTeacher } from './teachers/ai-sdk.ts';
export { type AnthropicOptions, anthropicProfile, anthropicTeacher } from './teachers/anthropic.ts';
export type { BatchFormat, BatchingTeacher, BatchService } from './teachers/batches.ts';
export { type EngineTeacherOptions, engineTeacher } from './teachers/engine.ts';
export { type FakeTeacher, type FakeTeacherOptions, fakeTeacher } from './teachers/fake.ts';
export { type FaultServer, type FaultServerOptions, startFaultServer } from './teachers/fault-server.ts';
export { type OpenAiCompatibleOptions, openAiCompatibleProfile, openAiCompatibleTeacher } from './teachers/openai-compatible.ts';
export { type ListedPrices, listedPrices, type Prices } from './teachers/prices.ts';
export { recordedTeacher } from './teachers/recorded.ts';
export type * from './teachers/teacher.ts';
export { TeacherError } from './teachers/teacher-error.ts';
export { termsFor } from './teachers/terms.ts';
export { createModelText, loadModelText, type ModelText } from './text/model-text.ts';
export { type Adapter, readAdapter, writeAdapter } from './weights/adapter.ts';
export { type ModelFolder, openModelFolder } from './weights/model-folder.ts';
export { writeMerged } from './weights/model-writer.ts';
export { resolveModel } from './weights/resolve-model.ts';
