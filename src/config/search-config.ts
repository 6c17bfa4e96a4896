import { z } from 'zod';
import type { TrainingConfig } from './training-config.ts';

/** What a search may choose among. */
export const searchLists = {
  learningRate: z.array(z.number().positive()).min(1).exactOptional(),
  epochs: z.array(z.int().min(1)).min(1).exactOptional(),
  alpha: z.array(z.number().min(0).max(1)).min(1).exactOptional().describe('Of the distillation loss: the share of cross-entropy.'),
  temperature: z.array(z.number().positive()).min(1).exactOptional().describe('Of the distillation loss.'),
};

/** Which settings are chosen, and how. */
export const searchSchema = z
  .strictObject({
    ...searchLists,
    candidates: z
      .int()
      .min(1)
      .exactOptional()
      .describe('At most so many of all combinations, drawn by the first seed: the same ones for every arm. Without it, all.'),
    perArm: z
      .boolean()
      .exactOptional()
      .describe('Choose for each arm on its own answers, the same candidates for every arm. Without it, one choice for all arms.'),
    rows: z.int().min(1).exactOptional().describe('Rows that each candidate is trained on; without it, all of the arm.'),
    arm: z.string().exactOptional().describe('The arm whose answers the candidates are trained on; without it, the first.'),
  })
  .describe(
    "Settings to choose among, by the loss of the development questions' own solutions, before the test questions are opened. Candidates are all combinations of the lists.",
  );

export type SearchConfig = z.output<typeof searchSchema>;

/** The lists that a search goes through: those of the distillation loss only where it is trained by. */
export const listsOf = ({ learningRate, epochs, alpha, temperature }: SearchConfig, lossName: TrainingConfig['loss']['name']) => ({
  learningRate,
  epochs,
  ...(lossName === 'distillation' && { alpha, temperature }),
});

/** How many candidates a search has: each is a training of its own. */
export const candidateCountOf = (search: SearchConfig, lossName: TrainingConfig['loss']['name']): number =>
  Math.min(
    Object.values(listsOf(search, lossName)).reduce((product, list) => product * (list?.length ?? 1), 1),
    search.candidates ?? Number.POSITIVE_INFINITY,
  );
