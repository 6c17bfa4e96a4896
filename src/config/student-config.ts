import { z } from 'zod';
import type { ConfigContext } from './config-context.ts';
import { modelText } from './path-text.ts';

/** Which model is trained, and which of its parameters. */
export const studentSchema = (context: ConfigContext) =>
  z
    .strictObject({
      model: modelText(context, 'The model that is trained.'),
      name: z.string().min(1).exactOptional().describe('Its name in tables and folders; without it, the last part of `model`.'),
      initialisation: z
        .enum(['folder', 'random'])
        .default('folder')
        .describe("folder: start from the model's weights. random: draw new ones for its config.json, by the run's seed."),
      parameters: parametersSchema.prefault({ kind: 'lora' }),
    })
    .superRefine(({ initialisation, parameters }, issues) => {
      if (initialisation === 'folder' || parameters.kind === 'all') return;
      issues.addIssue({
        code: 'custom',
        path: ['initialisation'],
        message: 'new weights are trained as a whole, since an adapter would be kept without them: add `parameters: { kind: all }`',
      });
    })
    .describe('The model that learns.');

const loraTargets = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

export const parametersSchema = z
  .discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('lora'),
      rank: z.int().min(1).default(8),
      alpha: z.number().positive().default(16).describe('The update is scaled by alpha / rank.'),
      dropout: z.number().min(0).lt(1).default(0).describe("On the adapter's input, while training."),
      targets: z.array(z.string().min(1)).min(1).default(loraTargets).describe('Linear modules that get an adapter, by their PEFT names.'),
    }),
    z.strictObject({ kind: z.literal('all') }),
  ])
  .describe('What is trained: adapters (lora) or every parameter (all).');

export type StudentConfig = z.output<ReturnType<typeof studentSchema>>;
