import { z } from 'zod';

const positiveCount = z.int().min(1);
const usdPerMillion = z.number().min(0);

/** What a teacher's tokens cost. */
export const pricesSchema = z
  .strictObject({
    inputPerMillion: usdPerMillion,
    outputPerMillion: usdPerMillion,
    cachedInputPerMillion: usdPerMillion.exactOptional(),
  })
  .describe('US dollars per million tokens; without it, the list prices of known providers.');

/** How answers are collected, beside who gives them and how: what it may cost and how fast it may go. Decides no answer. */
export const collectionSchema = z
  .strictObject({
    budget: z
      .strictObject({
        usd: z.number().min(0).exactOptional().describe("In US dollars, at the teacher's prices."),
        tokens: positiveCount.exactOptional().describe('Of prompts and answers together.'),
        requests: positiveCount.exactOptional().describe('Sent, tries that failed included.'),
      })
      .prefault({})
      .describe(
        'The most that all answers of the run may cost, earlier starts included. Before a request could cross it, collection stops; raise it to go on.',
      ),
    limits: z
      .strictObject({
        requestsPerMinute: z.number().positive().exactOptional(),
        tokensPerMinute: z.number().positive().exactOptional(),
      })
      .prefault({})
      .describe("How fast may be asked; the provider's own limits lower it."),
    prices: pricesSchema.exactOptional(),
    batch: z
      .strictObject({
        pollSeconds: z.number().positive().max(86_400).default(60).describe('How often is asked whether batches have ended.'),
        requestCount: positiveCount.exactOptional().describe('Requests in one batch at most; without it, what the provider takes.'),
      })
      .exactOptional()
      .describe(
        "Asks in the provider's batches: half the price, answers within a day. Teachers of kind openai-compatible (OpenAI) or anthropic.",
      ),
    retryFailed: z.boolean().default(false).describe('Asks again for answers that were cut off, filtered, refused or empty.'),
  })
  .describe('What collecting answers may cost, and how fast it may go.');

export type CollectionConfig = z.output<typeof collectionSchema>;
