import { inferenceLaws } from './engine-laws/inference.ts';
import { mistakeLaws } from './engine-laws/mistakes.ts';
import { parameterLaws } from './engine-laws/parameters.ts';
import { type ConformanceSubject, holdTo } from './engine-laws/suite.ts';
import { trainingLaws } from './engine-laws/training.ts';

/** Every engine passes these on tiny-llama, whatever it runs on. Each test states a law; golden numbers are in tests of their own. */
export const engineConformance = (subject: ConformanceSubject): void =>
  holdTo(subject, [parameterLaws, trainingLaws, inferenceLaws, mistakeLaws]);
