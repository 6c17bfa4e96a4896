/** A pre-tokenizer in two parts. */
export interface PreTokenizer {
  /** The steps that cut a text into words, for the tokenizer library. */
  readonly splitting: unknown;
  /** Whether words are then spelt out in GPT-2's byte alphabet. Done apart, so that known words need not be spelt again. */
  readonly spellsBytes: boolean;
}

/**
 * The pre-tokenizer of a tokenizer.json, with the steps replaced that @huggingface/tokenizers 0.2 reads with JavaScript's character classes:
 * `Digits` (`\d` is ASCII there, any number character in Hugging Face's) and the built-in pattern of `ByteLevel` (JavaScript's `\s` has
 * U+FEFF and lacks U+0085). As patterns of `Split` steps, which the library translates faithfully, both come out the same.
 */
export const exactPreTokenizer = (preTokenizer: unknown): PreTokenizer => {
  const steps = exactSteps(preTokenizer);
  const last = steps.at(-1);
  const spellsBytes = last?.['type'] === 'ByteLevel' && last['use_regex'] === false && last['add_prefix_space'] !== true;
  return { splitting: { type: 'Sequence', pretokenizers: spellsBytes ? steps.slice(0, -1) : steps }, spellsBytes };
};

type Step = Readonly<Record<string, unknown>>;

const exactSteps = (step: unknown): readonly Step[] => {
  if (!isStep(step)) return [];
  if (step['type'] === 'Sequence' && Array.isArray(step['pretokenizers'])) return step['pretokenizers'].flatMap(exactSteps);
  if (step['type'] === 'Digits') return [isolated(step['individual_digits'] === true ? '\\p{N}' : '\\p{N}+')];
  // With a space put in front first (add_prefix_space), splitting cannot come before: such tokenizers keep the library's own pattern.
  if (step['type'] === 'ByteLevel' && step['use_regex'] !== false && step['add_prefix_space'] !== true) {
    return [isolated(gpt2Pattern), { ...step, use_regex: false }];
  }
  return [step];
};

/** GPT-2's splitting pattern (Radford et al. 2019, encoder.py), built into `ByteLevel`. */
const gpt2Pattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const isolated = (pattern: string): Step => ({ type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false });

const isStep = (value: unknown): value is Step => typeof value === 'object' && value !== null;
