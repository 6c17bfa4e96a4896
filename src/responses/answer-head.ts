import { isJson, parseJsonLine, readByteLines } from '../base/json-lines.ts';
import { parseResponse, type Response } from './response.ts';

/** A line of a store without its texts: all that collecting and counting look at. */
export type AnswerHead = Omit<Response, 'text' | 'reasoning' | 'tokens'> & { readonly isEmpty: boolean };

/** How a line is written: the texts come last, so that its head can be read without them. */
export const withTextsLast = ({ text, reasoning, tokens, ...head }: Response): Response => ({
  ...head,
  text,
  ...(reasoning === undefined ? {} : { reasoning }),
  ...(tokens === undefined ? {} : { tokens }),
});

/** Where the texts begin. Quotes inside of JSON's strings are escaped, so that these bytes stand nowhere else. */
const textMark = Buffer.from(',"text":"');

/**
 * The heads of a store's lines in their order, a fifth of the time and memory that whole lines take: 100,000 answers of 400 tokens are 250 MB.
 * A line that somebody else wrote is read whole. What stands behind the head is not looked at.
 */
export async function* readAnswerHeads(path: string): AsyncGenerator<AnswerHead> {
  for await (const { line, bytes, isTerminated } of readByteLines(path)) {
    const head = isTerminated ? headOf(bytes) : undefined;
    if (head !== undefined) {
      yield head;
      continue;
    }
    const whole = bytes.toString('utf8');
    if (whole.trim() === '') continue;
    if (!isTerminated && !isJson(whole)) return; // Torn: its writer was stopped in the middle of it.
    const { text, reasoning: _, tokens: __, ...rest } = parseResponse(parseJsonLine(whole, path, line), `${path}:${line}`);
    yield { ...rest, isEmpty: text.trim() === '' };
  }
}

const headOf = (bytes: Buffer): AnswerHead | undefined => {
  const end = bytes.indexOf(textMark);
  if (end < 0 || bytes.at(-1) !== 0x7d) return undefined;
  const head = jsonOf(`${bytes.toString('utf8', 0, end)}}`);
  const start = end + textMark.length;
  const isEmpty = /^(?:\\[nrt]|\s)*"/.test(bytes.toString('latin1', start, start + 64));
  return isHead(head) ? { ...head, isEmpty } : undefined;
};

/** Our own lines are trusted when they have the fields that only a whole head has. */
const isHead = (value: unknown): value is Omit<AnswerHead, 'isEmpty'> =>
  typeof value === 'object' &&
  value !== null &&
  'requestKey' in value &&
  typeof value.requestKey === 'string' &&
  'status' in value &&
  'finishReason' in value &&
  'source' in value &&
  'tryCount' in value &&
  'collectedAt' in value;

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
