import { join } from 'node:path';
import { randomFrom } from '../src/base/random.ts';
import { strategies } from '../src/priming/strategies.ts';
import { collect } from '../src/responses/collect.ts';
import { planCollection } from '../src/responses/collection-plan.ts';
import { estimateCollection, estimateText } from '../src/responses/estimate.ts';
import { readResponses } from '../src/responses/response-store.ts';
import { costUsd, discounted } from '../src/responses/spending.ts';
import { generateWordProblems } from '../src/tasks/word-problem-generator.ts';
import { wordProblems } from '../src/tasks/word-problems.ts';
import type { Fault } from '../src/teachers/fault-server.ts';
import { startFaultServer } from '../src/teachers/fault-server.ts';
import { openAiCompatibleTeacher } from '../src/teachers/openai-compatible.ts';

const prices = { inputPerMillion: 3, outputPerMillion: 15 };
const answerCount = 1000;
/** What `retort collect --estimate` buys of every arm. */
const sampleCount = 10;
const repeatCount = 20;

interface Case {
  readonly name: string;
  readonly faults: Readonly<Partial<Record<Fault, number>>>;
  readonly isBatch: boolean;
}

const cases: readonly Case[] = [
  { name: 'one by one', faults: {}, isBatch: false },
  { name: 'one by one, 2 % broken off after billing', faults: { 'reset-after-billing': 0.02 }, isBatch: false },
  { name: 'in batches', faults: {}, isBatch: true },
];

/** What was estimated after ten answers beside what the server then billed, for answers of 20 to 180 words. */
export const estimateNotes = async (folder: string): Promise<string[]> => {
  const notes: string[] = [];
  for (const [index, { name, faults, isBatch }] of cases.entries()) {
    const errors: number[] = [];
    let insideCount = 0;
    let first = '';
    for (let seed = 0; seed < repeatCount; seed++) {
      const { low, high, real, text } = await estimateOnce(join(folder, `estimate-${index}-${seed}`), seed, faults, isBatch);
      if (real >= low && real <= high) insideCount++;
      errors.push(Math.abs((low + high) / 2 / real - 1));
      if (seed === 0) first = `${text}; it was $${real.toFixed(2)}`;
    }
    const mean = (100 * errors.reduce((sum, value) => sum + value, 0)) / errors.length;
    notes.push(
      `- estimate, ${name}: ${insideCount} of ${repeatCount} times the real cost lay in the range, whose middle was off by ${mean.toFixed(1)} % on average. The first: ${first}`,
    );
  }
  return notes;
};

const estimateOnce = async (folder: string, seed: number, faults: Case['faults'], isBatch: boolean) => {
  const answer = ({ fingerprint }: { readonly fingerprint: string }): string => `${'word '.repeat(wordCountOf(fingerprint, seed))}\n#### 1`;
  const server = await startFaultServer({ seed, answer, faults });
  const teacher = openAiCompatibleTeacher({ baseUrl: server.baseUrl, model: 'big', environment: {}, concurrency: 32 });
  const strategy = strategies['teacher'];
  if (strategy === undefined) throw new Error('no strategy teacher');
  const examples = generateWordProblems({ part: 'train', seed, count: answerCount, fewestSteps: 2, mostSteps: 4 });
  const sampling = { maximumTokens: 512, temperature: 0.7, topP: 1, seed };
  const retries = { firstWaitMs: 2, longestWaitMs: 10 };
  const whole = { examples, task: wordProblems, strategy, teacher, sampling, folder, prices, retries };
  const first = { ...whole, examples: examples.slice(0, sampleCount) };
  const billedUsd = (): number => costUsd(server.billedUsage(), prices);
  try {
    const { keys } = await collect(first);
    const before = billedUsd();
    const sample = await readResponses(folder, { keys });
    const known = new Set(keys);
    const planned = planCollection(whole).filter(({ requestKey }) => !known.has(requestKey));
    const share = isBatch ? teacher.batches.format.priceShare : 1;
    const rest = { prices: discounted(prices, share), concurrency: teacher.concurrency, isBatch };
    const estimate = estimateCollection({ planned, sample, sampled: planCollection(first), ...rest });
    await collect({ ...whole, ...(isBatch && { batch: { pollMs: 5 } }) });
    const { low = 0, high = 0 } = estimate.usd ?? {};
    return { low, high, real: (billedUsd() - before) * share, text: estimateText(estimate) };
  } finally {
    await teacher.release();
    await server.close();
  }
};

/** From 20 to 180 words, most of them in the middle, the same for the same request. */
const wordCountOf = (fingerprint: string, seed: number): number => {
  const random = randomFrom(seed, 'length', fingerprint);
  return 20 + random.integer(81) + random.integer(81);
};
