/** Byte-level BPE (Sennrich et al. 2016) with whole numbers apart from words, and role markers, in the form of Hugging Face's tokenizer.json. */
export interface TokenizerFiles {
  readonly tokenizer: object;
  readonly configuration: object;
  readonly vocabularySize: number;
}

/** Padding, end of turn, and who speaks. They are the first ids. */
export const specialTokens = ['<|pad|>', '<|end|>', '<|system|>', '<|user|>', '<|assistant|>'] as const;

const chatTemplate =
  "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/** Learns merges from the texts until there are `mergeCount` or no pair occurs twice. */
export const buildTokenizer = (texts: readonly string[], mergeCount: number): TokenizerFiles => {
  const words = countWords(texts);
  const merges = learnMerges(words, mergeCount);
  const vocabulary = [...specialTokens, ...byteCharacters, ...merges.map(([left, right]) => left + right)];
  return {
    vocabularySize: vocabulary.length,
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: specialTokens.map((content, id) => ({
        id,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: null,
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [
          { type: 'Digits', individual_digits: false },
          { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
        ],
      },
      post_processor: null,
      decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
        merges: merges.map(([left, right]) => `${left} ${right}`),
      },
    },
    configuration: {
      add_bos_token: false,
      bos_token: null,
      eos_token: '<|end|>',
      pad_token: '<|pad|>',
      unk_token: null,
      clean_up_tokenization_spaces: false,
      model_max_length: 512,
      tokenizer_class: 'PreTrainedTokenizerFast',
      chat_template: chatTemplate,
    },
  };
};

/** GPT-2's table from bytes to printable characters: printable bytes stand for themselves, the others follow from U+0100. */
const byteCharacters: readonly string[] = (() => {
  const isPrintable = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : next++));
})();

/** GPT-2's word pattern, which ByteLevel applies after the digits were split off. */
const wordPattern = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

const countWords = (texts: readonly string[]): Map<string, number> => {
  const counts = new Map<string, number>();
  for (const text of texts)
    for (const piece of text.split(/(\p{N}+)/u))
      for (const word of piece.match(wordPattern) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
};

/** Joins the most frequent pair of neighbours, again and again; of equally frequent ones the first in code-point order. */
const learnMerges = (words: ReadonlyMap<string, number>, mergeCount: number): [string, string][] => {
  const spelt = [...words].map(([word, count]) => ({
    pieces: [...new TextEncoder().encode(word)].map((byte) => byteCharacters[byte] ?? ''),
    count,
  }));
  const merges: [string, string][] = [];
  while (merges.length < mergeCount) {
    const pairs = new Map<string, number>();
    for (const { pieces, count } of spelt)
      for (let i = 1; i < pieces.length; i++) {
        const pair = `${pieces[i - 1]} ${pieces[i]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + count);
      }
    let best: [string, number] | undefined;
    for (const [pair, count] of pairs) {
      if (count < 2) continue;
      if (best === undefined || count > best[1] || (count === best[1] && pair < best[0])) best = [pair, count];
    }
    if (best === undefined) break;
    const [left = '', right = ''] = best[0].split(' ');
    merges.push([left, right]);
    for (const word of spelt) word.pieces = joinPair(word.pieces, left, right);
  }
  return merges;
};

const joinPair = (pieces: readonly string[], left: string, right: string): string[] => {
  const joined: string[] = [];
  for (const piece of pieces) {
    if (piece === right && joined.at(-1) === left) joined[joined.length - 1] = left + right;
    else joined.push(piece);
  }
  return joined;
};
