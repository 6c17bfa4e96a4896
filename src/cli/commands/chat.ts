import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { UserError } from '../../base/errors.ts';
import type { ChatMessage } from '../../text/chat-message.ts';
import { promptTokens } from '../../text/training-row.ts';
import type { Act, CommandContext } from '../command-context.ts';
import { addAdapterOptions, addSamplingOptions, type ModelOptions, openModel, type SamplingOptions, samplingOf } from '../model-options.ts';
import { printable } from '../printable.ts';

interface ChatOptions extends Omit<ModelOptions, 'model'>, SamplingOptions {
  readonly system?: string;
}

export const addChat = (program: Command, act: Act): void => {
  const command = program
    .command('chat')
    .description('talk to a model, with or without an adapter')
    .argument('<model>', 'a folder, a .gguf file, or owner/name on the hub')
    .option('--system <text>', 'a system message');
  addSamplingOptions(addAdapterOptions(command), 0.7, 256).action(act(chat));
};

/** Reads a line at a time from standard input: from a person, or from a pipe. An empty line starts a new conversation; the end of input ends it. */
const chat = async (context: CommandContext, modelName: string, options: ChatOptions): Promise<void> => {
  const { terminal, signal } = context;
  const model = await openModel({ ...options, model: modelName }, context);
  const lines = createInterface({ input: process.stdin, terminal: false });
  signal.addEventListener('abort', () => lines.close());
  try {
    const begin = (): ChatMessage[] => (options.system === undefined ? [] : [{ role: 'system', content: options.system }]);
    let messages = begin();
    context.progress.say('An empty line starts anew; Ctrl-D ends.');
    const prompt = (): void => terminal.writeMessage(terminal.isInteractive ? '> ' : '');
    prompt();
    for await (const line of lines) {
      if (line.trim() === '') {
        if (messages.length > begin().length) context.progress.say('A new conversation.');
        messages = begin();
      } else {
        messages = [...messages, { role: 'user', content: line }];
        const answer = await answerTo(messages, model, options, messages.length, signal);
        messages = [...messages, { role: 'assistant', content: answer }];
        terminal.writeOutput(
          context.options.json ? `${JSON.stringify({ role: 'assistant', content: answer })}\n` : `${printable(answer)}\n`,
        );
      }
      prompt();
    }
  } finally {
    lines.close();
    await model.engine.release();
  }
};

const answerTo = async (
  messages: readonly ChatMessage[],
  { engine, text }: Awaited<ReturnType<typeof openModel>>,
  options: ChatOptions,
  turn: number,
  signal: AbortSignal,
): Promise<string> => {
  const tokens = promptTokens(text.template, text.tokenizer, messages);
  const sampling = samplingOf(options);
  const { contextLength } = engine.information;
  if (tokens.length + sampling.maximumTokens > contextLength) {
    throw new UserError(
      `The conversation has ${tokens.length} tokens, and the model's context holds ${contextLength}. Start a new one with an empty line, or lower --maximum-tokens.`,
    );
  }
  const [sample] = await engine.sample([{ tokens, seed: sampling.seed + turn }], { ...sampling, endTokens: text.endTokens }, { signal });
  return text.tokenizer.decode(sample?.tokens ?? [], { skipSpecialTokens: true }).trim();
};
