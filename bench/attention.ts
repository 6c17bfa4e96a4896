import golden from '../test/golden/smollm2.json' with { type: 'json' };
import type { Benchmark } from './benchmark.ts';
import { contest, entryOf } from './contest.ts';
import { type ContestantProcess, startOurs } from './contestant-process.ts';
import { medianSpeed, pairedRatio, speedOf } from './figures.ts';

const promptCount = 64;
const promptLength = 256;
/** Whole maps are slow: fewer prompts tell as much. */
const wholeMapPromptCount = 8;
const targetSeconds = 120;

/** Windows of word problems, each beginning elsewhere. */
const promptsOf = (count: number): number[][] => {
  const text = golden.rows.flatMap(({ tokens }) => tokens);
  return Array.from({ length: count }, (_, prompt) =>
    Array.from({ length: promptLength }, (_unused, index) => text[(prompt * 29 + index) % text.length] as number),
  );
};

/** Every measure of every head of SmolLM2-135M, as `retort inspect attention` takes them, beside the same of whole maps. */
export const attention: Benchmark = async ({ modelFolder, threadCount, roundCount, log }) => {
  const processes: ContestantProcess[] = [];
  const start = async () => {
    const process = await startOurs('retort-attention.ts', { modelFolder, threadCount });
    processes.push(process);
    return process;
  };
  try {
    const contestants = await contest(
      [
        entryOf('in the program', await start(), { mode: 'sums', prompts: promptsOf(promptCount) }),
        entryOf('of whole maps', await start(), { mode: 'maps', prompts: promptsOf(wholeMapPromptCount) }),
      ],
      roundCount,
      log,
    );
    const [ours, wholeMaps] = contestants;
    const seconds = ours === undefined ? undefined : (promptCount * promptLength) / medianSpeed(ours);
    return {
      workload:
        `SmolLM2-135M-Instruct, all measures of 270 heads, ${promptLength} tokens a prompt, from opening the model to the last interval: ` +
        `${promptCount} prompts measured in the program that makes the maps, ${wholeMapPromptCount} of whole maps that are handed out`,
      versions: {},
      tables: [{ title: 'attention', contestants }],
      targets: [
        {
          name: `attention, ${promptCount} prompts of ${promptLength} tokens`,
          measured: seconds,
          bound: 'at most',
          value: targetSeconds,
          unit: ' s',
        },
        { name: 'attention, against whole maps', measured: pairedRatio(ours, wholeMaps, speedOf), bound: 'at least', value: 2 },
      ],
    };
  } finally {
    for (const process of processes) await process.stop();
  }
};
