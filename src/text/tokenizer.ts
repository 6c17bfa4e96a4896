import { createHash } from 'node:crypto';
import { Tokenizer as PretrainedTokenizer } from '@huggingface/tokenizers';
import { messageOf, UserError } from '../base/errors.ts';
import type { TokenizerFiles } from '../weights/tensor-source.ts';
import { type AddedToken, addedTokenMatcher, splitAtAddedTokens } from './added-tokens.ts';
import { spellBytes, type TokenSpan, tokenSpans } from './spans.ts';
import { parseTokenizerFiles } from './tokenizer-files.ts';

/** Text to token ids and back. Nothing is added to a text by itself: a chat template, or `rawPrefix`, says what belongs around it. */
export interface Tokenizer {
  /** Token ids of a text. By default the text is a user's: `<|im_end|>` in it is ten characters, not the token that ends a turn. */
  encode(text: string, options?: EncodeOptions): number[];
  /** The text of token ids. Ids that no token has (padding of the vocabulary) give nothing. */
  decode(ids: readonly number[], options?: { readonly skipSpecialTokens?: boolean }): string;
  /** As `encode`, with the characters each token came from. Tokens that share one character all get its whole span. */
  spans(text: string, options?: EncodeOptions): TokenSpan[];
  /** One more than the highest id. */
  readonly vocabularySize: number;
  tokenId(token: string): number | undefined;
  /** The token's own form (`Ġthe`), not the text it stands for. */
  token(id: number): string | undefined;
  readonly specialTokens: readonly AddedToken[];
  /** The special token that a text spells at a position (UTF-16), if any. */
  specialTokenAt(text: string, position: number): AddedToken | undefined;
  readonly bosToken: NamedToken | undefined;
  readonly eosToken: NamedToken | undefined;
  readonly padToken: NamedToken | undefined;
  /** What the tokenizer itself puts around raw text (Llama 3: BOS before it). Chat templates write such tokens themselves. */
  readonly rawPrefix: readonly number[];
  readonly rawSuffix: readonly number[];
  /** SHA-256 of tokenizer.json, in hexadecimal. */
  readonly hash: string;
}

export interface NamedToken {
  readonly token: string;
  readonly id: number;
}

export interface EncodeOptions {
  /**
   * Whether the text of a special token stands for the token: `text` (default) never, `parse` everywhere, and a set of positions: everywhere but
   * at those (UTF-16 offsets), which is how text of a user's own inside a rendered chat stays text.
   */
  readonly specialTokens?: 'text' | 'parse' | { readonly textAt: ReadonlySet<number> };
  /** The text goes on from other text: sentencepiece then puts no space in front of it. Byte-level tokenizers never do. */
  readonly isContinuation?: boolean;
}

/**
 * Makes a tokenizer from the parsed tokenizer.json and tokenizer_config.json. Splitting at added tokens is ours (so that users' text stays
 * text); normalising, pre-tokenising, merging and decoding are @huggingface/tokenizers'. A lone surrogate counts as U+FFFD.
 */
export const createTokenizer = (files: TokenizerFiles): Tokenizer => {
  const parsed = parseTokenizerFiles(files);
  const library = openLibrary(parsed.tokenizerJson, parsed.tokenizerConfigJson);
  const { model } = library;
  if (model === null) throw new UserError('tokenizer.json: it has no model. Fetch the model’s files again.');
  const matcher = addedTokenMatcher(parsed.addedTokens);
  const specialTokens = parsed.addedTokens.filter(({ special }) => special);
  const specialIds = new Set(specialTokens.map(({ id }) => id));

  const idOf = (token: string): number => {
    const id = model.tokens_to_ids.get(token) ?? model.unk_token_id;
    if (id === undefined) throw new UserError(`The tokenizer has no token "${token}" and none for the unknown.`);
    return id;
  };
  const encodeWords = (words: readonly string[]): EncodedText => {
    const spelt = parsed.spellsBytes ? words.map(spellBytes) : [...words];
    const tokens = model(spelt);
    const isLost = parsed.spellsBytes ? tokens.join('') !== spelt.join('') : tokens.length === 0 && spelt.join('') !== '';
    if (isLost && model.unk_token_id === undefined) refuseLost(words.join(''));
    return { tokens, ids: tokens.map(idOf) };
  };
  // Words come again and again, and each is encoded by itself, unless unknown tokens are fused across them.
  const encodeWord = remembering<EncodedText>((word) => encodeWords([word]), 50_000);
  const encodePiece = (text: string, sectionIndex: number): EncodedText => {
    const normalised = library.normalizer === null ? text : library.normalizer(text);
    if (normalised.length === 0) return { tokens: [], ids: [] };
    const words: readonly string[] =
      library.pre_tokenizer === null ? [normalised] : library.pre_tokenizer(normalised, { section_index: sectionIndex });
    if (model.fuse_unk) return encodeWords(words);
    const encoded = words.map(encodeWord);
    return { tokens: encoded.flatMap(({ tokens }) => tokens), ids: encoded.flatMap(({ ids }) => ids) };
  };
  // What the tokenizer makes of the text behind a character that merges with nothing.
  const encodeContinuation = (text: string, sectionIndex: number): EncodedText => {
    if (parsed.tokenForm !== 'sentencepiece') return encodePiece(text, sectionIndex);
    const anchor = '\uf8ff';
    const { length } = encodePiece(anchor, sectionIndex).tokens;
    const { tokens, ids } = encodePiece(anchor + text, sectionIndex);
    return { tokens: tokens.slice(length), ids: ids.slice(length) };
  };
  const encodePieces = (text: string, { specialTokens: rule = 'text', isContinuation = false }: EncodeOptions = {}) => {
    const isText = (token: AddedToken, position: number): boolean =>
      token.special && (rule === 'text' || (rule !== 'parse' && rule.textAt.has(position)));
    return splitAtAddedTokens(text, matcher, isText).map((segment, index) => {
      if (segment.token !== undefined) return { segment, tokens: [segment.token.content], ids: [segment.token.id] };
      const encode = isContinuation && segment.start === 0 ? encodeContinuation : encodePiece;
      return { segment, ...encode(text.slice(segment.start, segment.end), index) };
    });
  };
  const named = (name: string | undefined): NamedToken | undefined => {
    const id = name === undefined ? undefined : model.tokens_to_ids.get(name);
    return name === undefined || id === undefined ? undefined : { token: name, id };
  };
  const around = rawSurroundings(library, idOf);
  return {
    encode: (text, options) => encodePieces(text.toWellFormed(), options).flatMap(({ ids }) => ids),
    decode: (ids, { skipSpecialTokens = false } = {}) => {
      const kept = ids.filter((id) => model.vocab[id] !== undefined && !(skipSpecialTokens && specialIds.has(id)));
      if (kept.length === 0) return '';
      return library.decode(kept, { skip_special_tokens: false, clean_up_tokenization_spaces: parsed.cleanUpSpaces });
    },
    spans: (text, options) => {
      const wellFormed = text.toWellFormed();
      return tokenSpans(wellFormed, encodePieces(wellFormed, options), parsed.tokenForm, (piece) => library.normalizer?.(piece) ?? piece);
    },
    vocabularySize: model.vocab.length,
    tokenId: (token) => model.tokens_to_ids.get(token),
    token: (id) => model.vocab[id],
    specialTokens,
    specialTokenAt: addedTokenMatcher(specialTokens),
    bosToken: named(parsed.named.bos),
    eosToken: named(parsed.named.eos),
    padToken: named(parsed.named.pad),
    rawPrefix: around.prefix,
    rawSuffix: around.suffix,
    hash: createHash('sha256').update(JSON.stringify(files.tokenizerJson)).digest('hex'),
  };
};

/** Refuses a tokenizer with ids for which the model has no embedding: it belongs to another model. */
export const checkTokenizerFits = (tokenizer: Tokenizer, vocabularySize: number, where = 'the model folder'): void => {
  if (tokenizer.vocabularySize <= vocabularySize) return;
  throw new UserError(
    `The tokenizer does not fit the weights in ${where}: its ids go up to ${tokenizer.vocabularySize - 1} ` +
      `("${tokenizer.token(tokenizer.vocabularySize - 1)}"), and config.json says vocab_size ${vocabularySize}. ` +
      'Put the tokenizer.json of this very model beside its weights.',
  );
};

const openLibrary = (tokenizerJson: Record<string, unknown>, tokenizerConfigJson: Record<string, unknown>): PretrainedTokenizer => {
  try {
    return new PretrainedTokenizer(tokenizerJson, tokenizerConfigJson);
  } catch (error) {
    throw new UserError(`tokenizer.json cannot be used: ${messageOf(error)}. Fetch the model's files again.`, { cause: error });
  }
};

interface EncodedText {
  readonly tokens: readonly string[];
  readonly ids: readonly number[];
}

/** A function's results by argument, forgotten all at once when they become too many. */
const remembering = <Result>(compute: (text: string) => Result, limit: number): ((text: string) => Result) => {
  const results = new Map<string, Result>();
  return (text) => {
    const known = results.get(text);
    if (known !== undefined) return known;
    if (results.size >= limit) results.clear();
    const result = compute(text);
    results.set(text, result);
    return result;
  };
};

/** The library drops what no token covers where the vocabulary lacks a character; a lost character would shift every span and lesson. */
const refuseLost = (text: string): never => {
  throw new UserError(
    `The tokenizer cannot spell ${JSON.stringify(text.slice(0, 40))}: its vocabulary lacks characters of it and has no token for the unknown. ` +
      'A byte-level tokenizer needs all 256 bytes in its vocabulary.',
  );
};

/** What the post-processor writes before and after a text. */
const rawSurroundings = (library: PretrainedTokenizer, idOf: (token: string) => number): { prefix: number[]; suffix: number[] } => {
  const marker = '\u0000text\u0000';
  const tokens = library.post_processor === null ? [marker] : library.post_processor([marker], null, true).tokens;
  const at = tokens.indexOf(marker);
  return { prefix: tokens.slice(0, at).map(idOf), suffix: tokens.slice(at + 1).map(idOf) };
};
