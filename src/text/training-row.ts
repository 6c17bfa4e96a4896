import { UserError } from '../base/errors.ts';
import type { ChatMessage } from './chat-message.ts';
import type { ChatTemplate } from './chat-template.ts';
import { type ContentSpan, type RenderedChat, renderChat } from './rendered-chat.ts';
import type { Tokenizer } from './tokenizer.ts';

/** A sequence to train on. `weights[i]` is 1 where the prediction of `tokens[i]` is to be learnt: answers and the token that ends them. */
export interface TrainingRow {
  readonly tokens: readonly number[];
  readonly weights: readonly number[];
  /** The tokens before the first trained one. */
  readonly promptTokenCount: number;
  readonly weightedTokenCount: number;
  /** Whether `maximumLength` cut the end off: the last trained turn then has no end to learn. */
  readonly isTruncated: boolean;
  /**
   * `prefix`: generation's prompt is a prefix of the rendered row, so training continues exactly what generation continues. `spans`: the template
   * rewrites turns, and the answer was found by its place in the rendered text.
   */
  readonly alignment: 'prefix' | 'spans';
}

export interface RowOptions {
  /** Rows are cut to this many tokens. */
  readonly maximumLength: number;
  /** Whether the token that ends an answer is learnt; it is when this is absent. */
  readonly learnsEnd?: boolean;
  /** Where the row comes from, for errors: file, line, id. */
  readonly where: string;
}

/** The token ids from which a model generates its answer to these messages. */
export const promptTokens = (template: ChatTemplate, tokenizer: Tokenizer, messages: readonly ChatMessage[]): number[] =>
  encodeRendered(tokenizer, renderChat(template, tokenizer, messages, { addGenerationPrompt: true }));

/**
 * A prompt and its answer. The two are encoded apart, as generation meets them (merges would cross the border), and the answer without white
 * space around it, since generation prompts end in it and turns do not. Undefined when `maximumLength` leaves nothing of the answer.
 */
export const trainingRow = (
  template: ChatTemplate,
  tokenizer: Tokenizer,
  messages: readonly ChatMessage[],
  answer: string,
  options: RowOptions,
): TrainingRow | undefined =>
  conversationRow(template, tokenizer, [...messages, { role: 'assistant', content: answer }], { ...options, train: 'last' });

/** Which assistant turns are learnt: all, the last, or those from a message on (counted from 0). */
export type TrainedTurns = 'all' | 'last' | { readonly from: number };

/** A conversation whose assistant turns are learnt. Undefined when `maximumLength` leaves nothing to learn. */
export const conversationRow = (
  template: ChatTemplate,
  tokenizer: Tokenizer,
  conversation: readonly ChatMessage[],
  options: RowOptions & { readonly train: TrainedTurns },
): TrainingRow | undefined => {
  const { where, train, learnsEnd = true } = options;
  const messages = conversation.map((message) =>
    message.role === 'assistant' ? { ...message, content: message.content.trim() } : message,
  );
  const turns = messages.flatMap(({ role }, index) => (role === 'assistant' ? [index] : []));
  const trained = train === 'last' ? turns.slice(-1) : turns.filter((turn) => train === 'all' || turn >= train.from);
  checkTurns(messages, trained, where);
  const full = renderChat(template, tokenizer, messages, { addGenerationPrompt: false });
  const turnEnd = endOfTurn(template, tokenizer);
  const located = trained.map((turn) => locateTurn({ template, tokenizer, messages, turn, full, turnEnd, where }));
  const spans = learnsEnd ? located : located.map((span) => ({ ...span, end: span.end - turnEnd.token.length }));
  const alignment = spans.every(({ isPrefix }) => isPrefix) ? 'prefix' : 'spans';
  return buildRow(tokenizer, full, spans, { ...options, alignment });
};

/** Raw text to continue, without any template: what the tokenizer itself puts around text, the prompt, the completion and EOS. */
export const completionRow = (tokenizer: Tokenizer, prompt: string, completion: string, options: RowOptions): TrainingRow | undefined => {
  const end = tokenizer.eosToken;
  if (end === undefined)
    throw new UserError(
      `${options.where}: the tokenizer has no eos_token, so a student could not learn to stop. Set it in tokenizer_config.json.`,
    );
  if (completion.length === 0) throw new UserError(`${options.where}: the completion is empty. Remove the line or give it an answer.`);
  const before = [...tokenizer.rawPrefix, ...tokenizer.encode(prompt)];
  const after = [...tokenizer.encode(completion, { isContinuation: prompt.length > 0 }), end.id];
  const tokens = [...before, ...after];
  // The first token is predicted from nothing, so nothing can be learnt of it.
  const weights = tokens.map((_, index) => (index >= Math.max(before.length, 1) ? 1 : 0));
  return finishRow(tokenizer, tokens, weights, { ...options, alignment: 'prefix' });
};

/** The special token that ends an assistant's turn: the first that the template writes after the content. */
export interface EndOfTurn {
  readonly token: string;
  readonly id: number;
}

export const endOfTurn = (template: ChatTemplate, tokenizer: Tokenizer): EndOfTurn => {
  const probe: ChatMessage[] = [
    { role: 'user', content: 'question' },
    { role: 'assistant', content: 'answer' },
  ];
  const { text, contents } = renderChat(template, tokenizer, probe, { addGenerationPrompt: false, find: [1] });
  for (let position = contents[0]?.end ?? text.length; position < text.length; position++) {
    const token = tokenizer.specialTokenAt(text, position);
    if (token !== undefined) return { token: token.content, id: token.id };
  }
  throw new UserError(
    `The chat template (${template.name}) puts no special token after an assistant's turn, so a student would never learn to stop. ` +
      'Use a template that ends turns with one, such as eos_token.',
  );
};

/** Every id at which generation must stop: `eos_token_id` of generation_config.json and config.json, the tokenizer's EOS, and the template's end of turn. */
export const endTokens = (configs: readonly unknown[], tokenizer: Tokenizer, template: ChatTemplate): number[] => {
  const configured = configs.flatMap((config) => {
    const ids = typeof config === 'object' && config !== null && 'eos_token_id' in config ? config.eos_token_id : [];
    return (Array.isArray(ids) ? ids : [ids]).filter((id): id is number => Number.isInteger(id));
  });
  const own = tokenizer.eosToken === undefined ? [] : [tokenizer.eosToken.id];
  return [...new Set([...configured, ...own, endOfTurn(template, tokenizer).id])].sort((a, b) => a - b);
};

interface TurnSpan extends ContentSpan {
  /** Whether what stands before the turn is the very prompt that generation would be given. */
  readonly isPrefix: boolean;
}

interface TurnQuery {
  readonly template: ChatTemplate;
  readonly tokenizer: Tokenizer;
  readonly messages: readonly ChatMessage[];
  readonly turn: number;
  readonly full: RenderedChat;
  readonly turnEnd: EndOfTurn;
  readonly where: string;
}

/**
 * Where a trained turn begins and ends in the rendered text. It begins where generation's prompt ends, if the row begins with that prompt;
 * otherwise where the content begins. It ends with the first end-of-turn token that the template wrote.
 */
const locateTurn = ({ template, tokenizer, messages, turn, full, turnEnd, where }: TurnQuery): TurnSpan => {
  const prompt = renderChat(template, tokenizer, messages.slice(0, turn), { addGenerationPrompt: true }).text;
  const isPrefix = full.text.startsWith(prompt);
  const start = isPrefix ? prompt.length : contentStart({ template, tokenizer, messages, turn, full, turnEnd, where });
  let end = full.text.indexOf(turnEnd.token, start);
  while (end >= 0 && full.textAt.has(end)) end = full.text.indexOf(turnEnd.token, end + 1);
  if (end < 0) {
    throw new UserError(
      `${where}: the chat template (${template.name}) does not end this assistant's turn (message ${turn + 1}) with ${turnEnd.token}, ` +
        'so a student would not learn to stop there. Use a template that ends every turn.',
    );
  }
  return { start, end: end + turnEnd.token.length, isPrefix };
};

const contentStart = ({ template, tokenizer, messages, turn, full, where }: TurnQuery): number => {
  const found = renderChat(template, tokenizer, messages, { addGenerationPrompt: false, find: [turn] });
  const content = found.contents[0];
  if (content !== undefined && found.text === full.text) return content.start;
  throw new UserError(
    `${where}: the chat template (${template.name}) rewrites both the prompt and the assistant's text (message ${turn + 1}), so it is not known ` +
      'which tokens to learn. Remove thinking blocks and the like from the answer, or use another template.',
  );
};

/** Encodes the text between and inside the trained spans, each stretch by itself. */
const buildRow = (
  tokenizer: Tokenizer,
  full: RenderedChat,
  spans: readonly ContentSpan[],
  options: RowOptions & { readonly alignment: TrainingRow['alignment'] },
): TrainingRow | undefined => {
  const tokens: number[] = [];
  const weights: number[] = [];
  let position = 0;
  const add = (end: number, weight: 0 | 1): void => {
    const last = tokens.at(-1);
    const isContinuation = last !== undefined && !tokenizer.specialTokens.some(({ id }) => id === last);
    const ids = encodeRendered(tokenizer, stretchOf(full, position, end), isContinuation);
    for (const id of ids) {
      tokens.push(id);
      weights.push(weight);
    }
    position = end;
  };
  for (const span of spans) {
    add(span.start, 0);
    add(span.end, 1);
  }
  return finishRow(tokenizer, tokens, weights, options);
};

const finishRow = (
  tokenizer: Tokenizer,
  tokens: readonly number[],
  weights: readonly number[],
  { maximumLength, where, alignment }: RowOptions & { readonly alignment: TrainingRow['alignment'] },
): TrainingRow | undefined => {
  const bos = tokenizer.bosToken;
  if (bos !== undefined && tokens[0] === bos.id && tokens[1] === bos.id) {
    throw new UserError(
      `${where}: the row begins with "${bos.token}" twice. The template or the text writes one too many: remove it there.`,
    );
  }
  if (!weights.includes(1))
    throw new UserError(`${where}: the row has no trainable token: its answer is empty. Remove the line or give it an answer.`);
  const kept = weights.slice(0, maximumLength);
  const promptTokenCount = weights.indexOf(1);
  const weightedTokenCount = kept.filter((weight) => weight === 1).length;
  if (weightedTokenCount === 0) return undefined;
  return {
    tokens: tokens.slice(0, maximumLength),
    weights: kept,
    promptTokenCount,
    weightedTokenCount,
    isTruncated: tokens.length > maximumLength,
    alignment,
  };
};

const checkTurns = (messages: readonly ChatMessage[], trained: readonly number[], where: string): void => {
  if (trained.length === 0)
    throw new UserError(`${where}: the conversation has no assistant message, so there is nothing to learn. Remove the line.`);
  const empty = trained.find((turn) => messages[turn]?.content === '');
  if (empty !== undefined)
    throw new UserError(`${where}: the assistant's text (message ${empty + 1}) is empty. Remove the line or give it an answer.`);
};

const encodeRendered = (tokenizer: Tokenizer, { text, textAt }: Pick<RenderedChat, 'text' | 'textAt'>, isContinuation = false): number[] =>
  tokenizer.encode(text, { specialTokens: { textAt }, isContinuation });

const stretchOf = ({ text, textAt }: RenderedChat, start: number, end: number): Pick<RenderedChat, 'text' | 'textAt'> => ({
  text: text.slice(start, end),
  textAt: new Set([...textAt].filter((at) => at >= start && at < end).map((at) => at - start)),
});
