import type { TeacherRequest, Usage } from '../teachers/teacher.ts';

type Asked = Pick<TeacherRequest, 'messages' | 'sampling'>;

/** Says what a request uses at most, and learns from what requests used. */
export interface UsageMeasure {
  /** What it takes when it is answered in full. */
  full(request: Asked): Usage;
  observe(request: Pick<Asked, 'messages'>, usage: Usage): void;
}

/** Around the messages a template writes role names and end tokens. */
const tokensPerMessage = 8;

/** A measured ratio gets so much on top: the next prompt may be of another kind. */
const margin = 1.25;

export const usageMeasure = (): UsageMeasure => {
  // No tokenizer makes more tokens of a text than it has bytes; what the teacher counts soon tells better.
  let tokensPerByte = 1;
  let measured = 0;
  return {
    full: ({ messages, sampling }) => ({
      promptTokens: Math.ceil(byteCount(messages) * Math.min(1, tokensPerByte)) + tokensPerMessage * messages.length,
      completionTokens: sampling.maximumTokens,
    }),
    observe: ({ messages }, usage) => {
      measured = Math.max(measured, usage.promptTokens / Math.max(1, byteCount(messages)));
      tokensPerByte = measured * margin;
    },
  };
};

const byteCount = (messages: TeacherRequest['messages']): number =>
  messages.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0);
