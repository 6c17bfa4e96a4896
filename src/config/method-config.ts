import { z } from 'zod';
import { armNameText } from './pattern-text.ts';
import { searchLists } from './search-config.ts';
import { parametersSchema } from './student-config.ts';
import { lossSchema } from './training-config.ts';

/** One of several ways in which every arm's student is trained. */
const methodSchema = z.strictObject({
  name: armNameText().describe('Its name in tables and folders.'),
  parameters: parametersSchema.exactOptional().describe("What is trained; without it, the student's `parameters`."),
  learningRate: z.number().positive().exactOptional(),
  epochs: z.int().min(1).exactOptional(),
  loss: lossSchema.exactOptional(),
  search: z.strictObject(searchLists).exactOptional().describe("Lists in place of the search's own; as many candidates must come of them."),
  arms: z.array(z.string()).min(1).exactOptional().describe('The arms that are trained so; without it, all.'),
});

/** Ways of training beside each other: the same answers, student and seeds under each. */
export const methodsSchema = z
  .array(methodSchema)
  .min(1)
  .describe(
    'Several ways of training each arm, such as adapters and all parameters; what a method leaves open is as in `student` and `training`.',
  );

export type MethodConfig = z.output<typeof methodSchema>;
