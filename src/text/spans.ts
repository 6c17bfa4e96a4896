import { UserError } from '../base/errors.ts';
import type { Segment } from './added-tokens.ts';

/** Which characters of a text a token came from: UTF-16 offsets, `end` exclusive. */
export interface TokenSpan {
  readonly id: number;
  readonly start: number;
  readonly end: number;
}

/** A segment of the text with its tokens in the vocabulary's own form. */
export interface EncodedSegment {
  readonly segment: Segment;
  readonly tokens: readonly string[];
  readonly ids: readonly number[];
}

/**
 * Spans by counting bytes: a byte-level token spells its bytes out, a sentencepiece token its characters, and together they spell the text.
 * That they do is checked, so a span is exact or an error. A token with a part of a character only gets the whole character.
 */
export const tokenSpans = (text: string, segments: readonly EncodedSegment[], form: TokenForm, normalise: Normalise): TokenSpan[] =>
  segments.flatMap(({ segment, tokens, ids }) => {
    if (segment.token !== undefined) return [{ id: segment.token.id, start: segment.start, end: segment.end }];
    const spelt = tokens.map((token) => tokenBytes[form](token));
    const sources = byteSources(text.slice(segment.start, segment.end), spelt.flat(), form, normalise);
    let byteIndex = 0;
    return spelt.map((bytes, index) => {
      const first = sources[byteIndex];
      const last = sources[byteIndex + bytes.length - 1] ?? first;
      byteIndex += bytes.length;
      return { id: ids[index] ?? 0, start: segment.start + (first?.start ?? 0), end: segment.start + (last?.end ?? 0) };
    });
  });

/** How tokens spell bytes: `byte-level` (GPT-2's alphabet of 256 printable characters) or `sentencepiece` (`▁` for a space, `<0x0A>` for a byte). */
export type TokenForm = 'byte-level' | 'sentencepiece';

export type Normalise = (text: string) => string;

interface Source {
  readonly start: number;
  readonly end: number;
}

/**
 * For each byte that the tokens spell, the characters it came from. Tried in turn: the text as it is; normalised; and each with the space that
 * sentencepiece puts in front, which counts as part of the first character.
 */
const byteSources = (text: string, spelt: readonly number[], form: TokenForm, normalise: Normalise): readonly Source[] => {
  for (const stretches of [plainStretches(text), normalisedStretches(text, normalise)]) {
    const bytes: number[] = [];
    const sources: Source[] = [];
    for (const { spelling, start, end } of stretches) {
      // A user's own ▁ cannot be told from a space in sentencepiece.
      for (const byte of utf8.encode(form === 'sentencepiece' ? spelling.replaceAll('▁', ' ') : spelling)) {
        bytes.push(byte);
        sources.push({ start, end });
      }
    }
    if (sameBytes(bytes, spelt)) return sources;
    const first = sources[0];
    if (first !== undefined && sameBytes([0x20, ...bytes], spelt)) return [first, ...sources];
  }
  throw new UserError(
    `Character spans are not known for this tokenizer: its tokens do not spell ${JSON.stringify(text.slice(0, 40))}. ` +
      'They need a byte-level or sentencepiece tokenizer whose normaliser keeps the text.',
  );
};

const utf8 = new TextEncoder();

const sameBytes = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((byte, index) => byte === b[index]);

interface Stretch extends Source {
  /** What it is after normalisation. */
  readonly spelling: string;
}

function* plainStretches(text: string, offset = 0): Generator<Stretch> {
  let start = offset;
  for (const spelling of text) {
    yield { spelling, start, end: start + spelling.length };
    start += spelling.length;
  }
}

/** What Unicode normalisation treats by itself: a base with its marks, a Hangul syllable. Where it changes nothing, character by character. */
function* normalisedStretches(text: string, normalise: Normalise): Generator<Stretch> {
  const clusters = /(?:[\u1100-\u115f][\u1160-\u11a7]?|[\uac00-\ud7a3])[\u11a8-\u11ff]?\p{M}*|\P{M}\p{M}*|\p{M}+/gsu;
  for (const { 0: cluster, index } of text.matchAll(clusters)) {
    const spelling = normalise(cluster);
    if (spelling === cluster) yield* plainStretches(cluster, index);
    else yield { spelling, start: index, end: index + cluster.length };
  }
}

/** GPT-2's table from bytes to printable characters: printable Latin-1 stands for itself, the others for U+0100 onwards, in order. */
const characterOfByte: readonly string[] = (() => {
  const isPrintable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
})();

const byteOfCharacter: ReadonlyMap<string, number> = new Map(characterOfByte.map((character, byte) => [character, byte]));

/** A text's UTF-8 bytes in GPT-2's alphabet, as the vocabulary of a byte-level tokenizer spells them. */
export const spellBytes = (text: string): string => Array.from(utf8.encode(text), (byte) => characterOfByte[byte]).join('');

const tokenBytes: Record<TokenForm, (token: string) => number[]> = {
  'byte-level': (token) => Array.from(token, (character) => byteOfCharacter.get(character) ?? -1),
  sentencepiece: (token) => {
    const byte = /^<0x([0-9A-F]{2})>$/.exec(token)?.[1];
    return byte === undefined ? [...utf8.encode(token.replaceAll('▁', ' '))] : [Number.parseInt(byte, 16)];
  },
};
