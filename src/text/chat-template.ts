import { createHash } from 'node:crypto';
import { Template } from '@huggingface/jinja';
import { messageOf, UserError } from '../base/errors.ts';
import type { ChatMessage } from './chat-message.ts';
import { dateString, formatDateMacro } from './template-date.ts';

/** Renders messages as the model was taught to read them. */
export interface ChatTemplate {
  /** Where it comes from, for records: `tokenizer_config.json`, `plain fallback` … */
  readonly name: string;
  /** The text with its special tokens. For token ids use `promptTokens` or `trainingRow`, which keep users' text apart from special tokens. */
  render(messages: readonly ChatMessage[], options: { readonly addGenerationPrompt: boolean }): string;
  /** SHA-256 over the source, the date and all variables: rendering is a function of these and the messages. In hexadecimal. */
  readonly hash: string;
  /**
   * The system text that the template puts in front by itself when the first message is not a system message; '' for none. It is kept: teacher,
   * student and evaluation all see what the model was trained with. A system message replaces it (so a priming sent as one removes it).
   */
  readonly systemText: string;
  /** The date that templates with a date are shown, ISO: never today's unless asked for. */
  readonly date: string;
}

export interface ChatTemplateOptions {
  readonly bosToken?: string | undefined;
  readonly eosToken?: string | undefined;
  readonly padToken?: string | undefined;
  readonly unknownToken?: string | undefined;
  readonly name?: string;
  /** The day that templates are shown, ISO; absent: `pinnedDate`. */
  readonly date?: string;
  /** Further variables of a template: `{ enable_thinking: false }`. They win over those that are always there. */
  readonly variables?: Readonly<Record<string, string | number | boolean>>;
}

/** The day that Llama 3.1's template falls back on; pinned so that prompts, hashes and scores are the same tomorrow. */
export const pinnedDate = '2024-07-26';

/**
 * Compiles a Jinja chat template as transformers renders it: `bos_token` and its kind where the tokenizer has them, `add_generation_prompt`,
 * `date_string`, `strftime_now`, and `tools` and `documents` as none. A template that raises an exception for these messages is a UserError
 * with its text.
 */
export const createChatTemplate = (source: string, options: ChatTemplateOptions = {}): ChatTemplate => {
  const { name = 'chat template', date = pinnedDate } = options;
  const compiled = compileTemplate(source, name, date);
  const tokens = { bos_token: options.bosToken, eos_token: options.eosToken, pad_token: options.padToken, unk_token: options.unknownToken };
  const present = Object.fromEntries(Object.entries(tokens).filter(([, token]) => token !== undefined));
  const variables = { tools: null, documents: null, date_string: dateString(date), ...present, ...options.variables };
  const render: ChatTemplate['render'] = (messages, { addGenerationPrompt }) => {
    try {
      return compiled.render({
        messages: messages.map(({ role, content }) => ({ role, content })),
        add_generation_prompt: addGenerationPrompt,
        ...variables,
      });
    } catch (error) {
      const roles = messages.map(({ role }) => role).join(', ');
      throw new UserError(`The chat template (${name}) refuses these messages (${roles}): ${messageOf(error)}`, { cause: error });
    }
  };
  return {
    name,
    render,
    hash: createHash('sha256')
      .update(JSON.stringify([source, date, variables]))
      .digest('hex'),
    systemText: defaultSystemText(render),
    date,
  };
};

/**
 * For models without a template: a line with the role, the text, and EOS after an assistant's turn. Plain words, so that any tokenizer can say
 * them; recorded in a run by its name.
 */
export const plainTemplateSource =
  "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize + ':\n' + message['content'] }}" +
  "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}";

/** Not a chat at all: what the tokenizer puts before any text, the texts with a line each, and EOS after an answer. */
export const rawTemplateSource =
  "{{ raw_prefix }}{% for message in messages %}{{ message['content'] }}{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}";

const compileTemplate = (source: string, name: string, date: string): Template => {
  try {
    const template = new Template(source);
    // Passed to render, strftime_now would be declared twice; as the template's first statement a macro replaces the built-in one.
    template.parsed.body.unshift(...new Template(formatDateMacro(date)).parsed.body);
    return template;
  } catch (error) {
    throw new UserError(`The chat template (${name}) cannot be read: ${messageOf(error)}`, { cause: error });
  }
};

/** Renders with a known system text and without one; what stands in its place is the template's own. */
const defaultSystemText = (render: ChatTemplate['render']): string => {
  const system = 'retort-system-marker';
  const user: ChatMessage = { role: 'user', content: 'retort-user-marker' };
  const attempt = (messages: ChatMessage[]): string | undefined => {
    try {
      return render(messages, { addGenerationPrompt: false });
    } catch (error) {
      if (error instanceof UserError) return undefined; // Templates without system messages (Gemma) raise.
      throw error;
    }
  };
  const given = attempt([{ role: 'system', content: system }, user]);
  const without = attempt([user]);
  const at = given?.indexOf(system) ?? -1;
  if (given === undefined || without === undefined || at < 0) return '';
  const before = given.slice(0, at);
  const after = given.slice(at + system.length);
  const isDefault = without.startsWith(before) && without.endsWith(after) && without.length >= before.length + after.length;
  return isDefault ? without.slice(before.length, without.length - after.length) : '';
};
