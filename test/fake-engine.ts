import type { Engine, LossSums, Sample, SampleOptions, SampleRequest, TokenRow } from '../src/engines/engine.ts';
import { type ChatTemplate, createChatTemplate } from '../src/text/chat-template.ts';
import { createTokenizer, type Tokenizer } from '../src/text/tokenizer.ts';

/** What a fake engine does: answers and losses as functions, so that a test can say what comes out. */
export interface FakeEngineOptions {
  readonly tokenizer: Tokenizer;
  readonly endToken: number;
  /** The text answered to a prompt's text; it is cut at the token limit. Throwing fails the call. */
  readonly answer: (prompt: string, request: SampleRequest, options: SampleOptions) => string;
  /** −log p of a row's token; 1 when absent. */
  readonly loss?: (row: TokenRow, index: number) => number;
  readonly contextLength?: number;
}

/** An engine without a model, for tests of what stands on engines. What it was asked for is kept in `calls`. */
export const fakeEngine = (options: FakeEngineOptions): Engine & { readonly calls: { readonly samples: SampleRequest[][] } } => {
  const { tokenizer, endToken, answer, loss = () => 1 } = options;
  const calls = { samples: [] as SampleRequest[][] };
  const refuse = (name: string) => () => Promise.reject(new Error(`the fake engine has no ${name}`));
  return {
    calls,
    information: {
      architecture: 'fake',
      vocabularySize: tokenizer.vocabularySize,
      contextLength: options.contextLength ?? 2048,
      trainableCount: 0,
      parameterCount: 0,
    },
    sample: async (requests, sampleOptions, control) => {
      calls.samples.push([...requests]);
      const samples = requests.map((request): Sample => {
        const whole = [...tokenizer.encode(answer(tokenizer.decode(request.tokens), request, sampleOptions)), endToken];
        const tokens = whole.slice(0, sampleOptions.maximumTokens);
        return { tokens, logProbabilities: tokens.map(() => -1), finishReason: tokens.length === whole.length ? 'stop' : 'length' };
      });
      for (const [index, sample] of samples.entries()) control?.onSample?.(index, sample);
      return samples;
    },
    forward: async (rows) =>
      rows.map((row): LossSums => {
        const terms = row.tokens.map((_, index) => (row.weights[index] ?? 0) * (row.weights[index] === 0 ? 0 : loss(row, index)));
        const sum = terms.reduce((total, term) => total + term, 0);
        return { sum, tokenCount: row.weights.reduce((total, weight) => total + weight, 0), terms: { 'cross-entropy': sum } };
      }),
    forwardBackward: refuse('forwardBackward'),
    optimStep: refuse('optimStep'),
    score: refuse('score'),
    parameters: refuse('parameters'),
    state: refuse('state'),
    restore: refuse('restore'),
    load: refuse('load'),
    reset: async () => undefined,
    release: async () => undefined,
  };
};

/** Files of a tokenizer with a token per byte (ids 0 to 255) and the two control tokens of ChatML (256 and 257), and its template. */
export const byteTokenizerFiles = () => {
  const isPrintable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 0x100;
  // GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 onwards
  const alphabet = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
  const added = ['<|im_start|>', '<|im_end|>'].map((content, index) => ({ id: 256 + index, content, special: true }));
  return {
    chatTemplate:
      "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}" +
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    tokenizerConfigJson: { eos_token: '<|im_end|>' },
    tokenizerJson: {
      version: '1.0',
      added_tokens: added.map((token) => ({ ...token, single_word: false, lstrip: false, rstrip: false, normalized: false })),
      normalizer: null,
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      post_processor: null,
      decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: {
        type: 'BPE',
        vocab: Object.fromEntries([...alphabet, ...added.map(({ content }) => content)].map((token, id) => [token, id])),
        merges: [],
      },
    },
  };
};

/** That tokenizer and its template. */
export const byteTokenizer = (): { tokenizer: Tokenizer; template: ChatTemplate; endToken: number } => {
  const { chatTemplate, ...files } = byteTokenizerFiles();
  const template = createChatTemplate(chatTemplate, { eosToken: '<|im_end|>', name: 'test ChatML' });
  return { tokenizer: createTokenizer(files), template, endToken: 257 };
};
