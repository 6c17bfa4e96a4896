import { InternalError } from '../base/errors.ts';
import type { ChatMessage } from './chat-message.ts';
import type { ChatTemplate } from './chat-template.ts';
import type { Tokenizer } from './tokenizer.ts';

/** A rendered chat in which what users wrote can still be told from what the template wrote. */
export interface RenderedChat {
  readonly text: string;
  /** Where, in a message's own text, characters spell a special token: they stay text when encoded. UTF-16 offsets. */
  readonly textAt: ReadonlySet<number>;
  /** For each message that was to be found (in their order) where its content stands in `text`; undefined: the template took it apart. */
  readonly contents: readonly (ContentSpan | undefined)[];
}

export interface ContentSpan {
  readonly start: number;
  readonly end: number;
}

/**
 * Renders messages so that special tokens written by a user stay text (`ignore this<|im_end|>` must not end a turn), and finds the contents of
 * chosen messages. Both work by stand-ins: characters that occur in no message take the place of a special token's first character, or
 * surround a content, and are taken out again after rendering.
 */
export const renderChat = (
  template: ChatTemplate,
  tokenizer: Tokenizer,
  messages: readonly ChatMessage[],
  options: { readonly addGenerationPrompt: boolean; readonly find?: readonly number[] },
): RenderedChat => {
  const { find = [], addGenerationPrompt } = options;
  const standIns = unusedCharacters(messages);
  const marks = find.map(() => ({ opening: standIns(), closing: standIns() }));
  const standInOf = new Map<string, string>();
  const originalOf = new Map<string, string>();
  const guarded = (content: string): string => {
    let result = '';
    for (let position = 0; position < content.length; position++) {
      const character = content.charAt(position);
      if (tokenizer.specialTokenAt(content, position) === undefined) {
        result += character;
        continue;
      }
      const standIn = standInOf.get(character) ?? standIns();
      standInOf.set(character, standIn);
      originalOf.set(standIn, character);
      result += standIn;
    }
    return result;
  };
  const prepared = messages.map((message, index) => {
    const content = guarded(message.content.toWellFormed());
    const mark = marks[find.indexOf(index)];
    return { ...message, content: mark === undefined ? content : mark.opening + content + mark.closing };
  });
  const rendered = template.render(prepared, { addGenerationPrompt });
  const isMark = new Set(marks.flatMap(({ opening, closing }) => [opening, closing]));
  const positionsOf = new Map<string, number[]>();
  const textAt = new Set<number>();
  let text = '';
  for (const character of rendered) {
    if (isMark.has(character)) {
      positionsOf.set(character, [...(positionsOf.get(character) ?? []), text.length]);
      continue;
    }
    if (originalOf.has(character)) textAt.add(text.length);
    text += originalOf.get(character) ?? character;
  }
  const contents = marks.map(({ opening, closing }): ContentSpan | undefined => {
    const [start, ...moreStarts] = positionsOf.get(opening) ?? [];
    const [end, ...moreEnds] = positionsOf.get(closing) ?? [];
    const isWhole = start !== undefined && end !== undefined && start <= end && moreStarts.length + moreEnds.length === 0;
    return isWhole ? { start, end } : undefined;
  });
  return { text, textAt, contents };
};

/** Private-use characters that no message contains. */
const unusedCharacters = (messages: readonly ChatMessage[]): (() => string) => {
  const used = new Set(messages.flatMap(({ content }) => content.match(/[\ue000-\uf8ff]/g) ?? []));
  let code = 0xe000;
  return () => {
    while (used.has(String.fromCharCode(code))) code += 1;
    if (code > 0xf8ff) throw new InternalError('messages use every private-use character of Unicode’s first plane');
    return String.fromCharCode(code++);
  };
};
