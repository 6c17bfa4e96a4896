/** A token that is matched in the text as it stands, before any splitting: `<|im_start|>`, `<think>`. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Control tokens: left out of decoded text on request, and never read out of what a user wrote unless asked. */
  readonly special: boolean;
  /** Swallows white space on its left (right). */
  readonly leftStrip: boolean;
  readonly rightStrip: boolean;
  /** Matches only when no letter, digit or underscore touches it. */
  readonly singleWord: boolean;
}

/** A stretch of text, in UTF-16 code units: an added token, or text between added tokens. */
export interface Segment {
  readonly start: number;
  readonly end: number;
  readonly token: AddedToken | undefined;
}

/** Finds the longest added token that starts at a position of a text. */
export type AddedTokenMatcher = (text: string, position: number) => AddedToken | undefined;

export const addedTokenMatcher = (tokens: readonly AddedToken[]): AddedTokenMatcher => {
  const byFirstCharacter = new Map<string, AddedToken[]>();
  for (const token of tokens) {
    const first = token.content.charAt(0);
    byFirstCharacter.set(first, [...(byFirstCharacter.get(first) ?? []), token]);
  }
  for (const candidates of byFirstCharacter.values()) candidates.sort((a, b) => b.content.length - a.content.length);
  return (text, position) =>
    byFirstCharacter
      .get(text.charAt(position))
      ?.find(
        (token) =>
          text.startsWith(token.content, position) && (!token.singleWord || standsAlone(text, position, position + token.content.length)),
      );
};

/** Splits a text at its added tokens, leftmost first, longest of those that start together. `isText` says which matches to pass over. */
export const splitAtAddedTokens = (
  text: string,
  match: AddedTokenMatcher,
  isText: (token: AddedToken, position: number) => boolean,
): Segment[] => {
  const segments: Segment[] = [];
  let textStart = 0;
  let position = 0;
  while (position < text.length) {
    const token = match(text, position);
    if (token === undefined) {
      position += 1;
      continue;
    }
    const end = position + token.content.length;
    if (isText(token, position)) {
      position = end;
      continue;
    }
    const textEnd = token.leftStrip ? textStart + text.slice(textStart, position).trimEnd().length : position;
    if (textEnd > textStart) segments.push({ start: textStart, end: textEnd, token: undefined });
    const rest = text.slice(end);
    position = token.rightStrip ? end + rest.length - rest.trimStart().length : end;
    // White space that a token swallows is part of its segment, as in Hugging Face's offsets.
    segments.push({ start: textEnd, end: position, token });
    textStart = position;
  }
  if (textStart < text.length) segments.push({ start: textStart, end: text.length, token: undefined });
  return segments;
};

const wordCharacter = /[\p{L}\p{N}_]/u;

const standsAlone = (text: string, start: number, end: number): boolean =>
  !wordCharacter.test(text.charAt(start - 1)) && !wordCharacter.test(text.charAt(end));
