import { z } from 'zod';

const apiKeyVariable = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'expected the name of an environment variable, not a key')
  .optional()
  .describe("The environment variable that holds the key for this server. Known providers' own variables need not be named.");
const revision = z.string().min(1).optional().describe('Pins what the name alone does not: answers of another revision are other answers.');
const timeoutSeconds = z.number().positive().max(86_400).optional().describe('For one whole answer.');
const omit = z
  .array(z.enum(['temperature', 'topP', 'seed']))
  .optional()
  .describe('Sampling parameters that this model refuses.');
const concurrency = z.int().min(1).max(4096).optional().describe('Requests under way at once.');

/** A teacher in a config, by `kind`. */
export const teacherSchema = z.discriminatedUnion('kind', [
  z
    .strictObject({
      kind: z.literal('local'),
      model: z.string().min(1).describe('A folder with config.json, weights and tokenizer, a .gguf file, or the id of a model on the hub.'),
      batchSize: z.int().min(1).max(1024).optional().describe('Questions answered together.'),
    })
    .describe('A model that runs in this process.'),
  z
    .strictObject({
      kind: z.literal('openai-compatible'),
      baseUrl: z.string().describe('Up to and including the version: https://api.openai.com/v1 or http://localhost:8000/v1.'),
      model: z.string().min(1).describe("The model's name at that server."),
      apiKeyVariable,
      revision,
      concurrency,
      timeoutSeconds,
      omit,
      tokenLimitParameter: z
        .enum(['max_tokens', 'max_completion_tokens'])
        .optional()
        .describe('The name under which the token limit is sent.'),
      reasoningEffort: z.string().min(1).optional().describe('Sent as reasoning_effort to models that think.'),
    })
    .describe("A server that speaks OpenAI's chat completions: a provider, vLLM, llama.cpp, Ollama."),
  z
    .strictObject({
      kind: z.literal('anthropic'),
      model: z.string().min(1).describe("The model's name at Anthropic."),
      baseUrl: z.string().optional().describe('Another server that speaks the same: up to and including the version.'),
      apiKeyVariable,
      revision,
      concurrency,
      timeoutSeconds,
      omit: omit.describe('Sampling parameters that this model refuses; without it, topP.'),
    })
    .describe("Anthropic's messages."),
  z
    .strictObject({ kind: z.literal('recorded'), file: z.string().min(1).describe('JSON lines: {"id" or "question", "answer"}.') })
    .describe('Answers from a file.'),
  z.strictObject({ kind: z.literal('fake') }).describe('Made-up answers, for trying a config out.'),
]);

export type TeacherConfig = z.infer<typeof teacherSchema>;
