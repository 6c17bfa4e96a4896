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
    const sources = byteSources(text.slice(segment.start, segment.end), spelt.flat(), normalise);
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

/** For each byte of the normalised text the characters it came from. Tries the plain reading first, then one with a space put in front. */
const byteSources = (text: string, spelt: readonly number[], normalise: Normalise): readonly Source[] => {
  for (const split of [codePoints, clusters]) {
    const bytes: number[] = [];
    const sources: Source[] = [];
    for (const { piece, start } of split(text)) {
      for (const byte of utf8.encode(split === codePoints ? piece : normalise(piece))) {
        bytes.push(byte);
        sources.push({ start, end: start + piece.length });
      }
    }
    if (sameBytes(bytes, spelt)) return sources;
    if (sameBytes([0x20, ...bytes], spelt)) return [{ start: 0, end: 0 }, ...sources];
  }
  throw new UserError(
    `Character spans are not known for this tokenizer: its tokens do not spell ${JSON.stringify(text.slice(0, 40))}. ` +
      'They need a byte-level or sentencepiece tokenizer whose normaliser keeps the text.',
  );
};

const utf8 = new TextEncoder();

const sameBytes = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((byte, index) => byte === b[index]);

function* codePoints(text: string): Generator<{ piece: string; start: number }> {
  let start = 0;
  for (const piece of text) {
    yield { piece, start };
    start += piece.length;
  }
}

/** Stretches that Unicode normalisation treats by themselves: a base with its marks, a run of Hangul letters. */
function* clusters(text: string): Generator<{ piece: string; start: number }> {
  for (const match of text.matchAll(/[\u1100-\u11ff\uac00-\ud7a3]+\p{M}*|\P{M}\p{M}*|\p{M}+/gsu))
    yield { piece: match[0], start: match.index };
}

/** GPT-2's table from bytes to printable characters: printable Latin-1 stands for itself, the others for U+0100 onwards, in order. */
const byteOfCharacter: ReadonlyMap<string, number> = new Map(
  (() => {
    const isPrintable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    let next = 0x100;
    return Array.from({ length: 256 }, (_, byte): [string, number] => [String.fromCharCode(isPrintable(byte) ? byte : next++), byte]);
  })(),
);

const tokenBytes: Record<TokenForm, (token: string) => number[]> = {
  'byte-level': (token) => Array.from(token, (character) => byteOfCharacter.get(character) ?? -1),
  sentencepiece: (token) => {
    const byte = /^<0x([0-9A-F]{2})>$/.exec(token)?.[1];
    return byte === undefined ? [...utf8.encode(token.replaceAll('▁', ' '))] : [Number.parseInt(byte, 16)];
  },
};
