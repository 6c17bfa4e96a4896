/**
 * Makes the quickstart's teacher and student anew: writes tokenizer, blank models and training data into quickstart/build, trains both with
 * `retort train` and puts what comes out into quickstart/teacher and quickstart/student. Killed and started again, it continues.
 *
 *     npm run quickstart:make
 */
import { spawnSync } from 'node:child_process';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../src/base/errors.ts';
import { type Chat, drillChats, studentChats, teacherChats, tokenizerTexts } from './chats.ts';
import { buildTokenizer, type TokenizerFiles } from './tokenizer.ts';

const here = import.meta.dirname;
const build = join(here, 'build');

/** Rows of each training, one pass each. The seeds differ, so that teacher and student read different problems. */
const data = {
  'teacher-1': () => drillChats({ seed: 11, count: 14_000 }),
  'teacher-2': () => teacherChats({ seed: 1, count: 36_000 }),
  'student-1': () => drillChats({ seed: 21, count: 12_000 }),
  'student-2': () => studentChats({ seed: 2, count: 28_000 }),
} satisfies Record<string, () => Chat[]>;

/** Layers, width and heads. */
const shapes = {
  teacher: { num_hidden_layers: 4, hidden_size: 64, intermediate_size: 192, num_attention_heads: 2 },
  student: { num_hidden_layers: 3, hidden_size: 48, intermediate_size: 128, num_attention_heads: 2 },
};

const make = async (): Promise<void> => {
  const tokenizer = buildTokenizer(
    [...tokenizerTexts({ seed: 1, count: 2000 }), 'Calculate 2+3, then -4.', 'Calculate 2*3, then /2.'],
    1000,
  );
  for (const [name, shape] of Object.entries(shapes)) await writeBlank(name, shape, tokenizer);
  for (const [name, chats] of Object.entries(data)) {
    await writeFile(
      join(build, `${name}.jsonl`),
      chats()
        .map((chat) => `${JSON.stringify(chat)}\n`)
        .join(''),
    );
  }
  if (process.argv.includes('--prepare')) return;
  for (const name of Object.keys(data)) train(name);
  for (const name of Object.keys(shapes)) await takeOver(name);
};

/** A model folder without weights: what a training from scratch starts from. */
const writeBlank = async (
  name: string,
  shape: (typeof shapes)['teacher'],
  { tokenizer, configuration, vocabularySize }: TokenizerFiles,
): Promise<void> => {
  const folder = join(build, `${name}-blank`);
  await mkdir(folder, { recursive: true });
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: vocabularySize,
    ...shape,
    num_key_value_heads: shape.num_attention_heads,
    head_dim: shape.hidden_size / shape.num_attention_heads,
    hidden_act: 'silu',
    // Larger than the usual 0.02, which is meant for widths of thousands: here it would slow the start.
    initializer_range: 0.1,
    max_position_embeddings: 512,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: true,
    bos_token_id: null,
    eos_token_id: 1,
    pad_token_id: 0,
  };
  await writeFile(join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
  await writeFile(join(folder, 'tokenizer.json'), `${JSON.stringify(tokenizer, null, 1)}\n`);
  await writeFile(join(folder, 'tokenizer_config.json'), `${JSON.stringify(configuration, null, 2)}\n`);
};

const train = (name: string): void => {
  console.log(`train ${name}`);
  const { status } = spawnSync(process.execPath, [join(here, '../src/cli/main.ts'), 'train', join(here, `${name}.yaml`)], {
    stdio: 'inherit',
  });
  if (status !== 0) throw new UserError(`retort train quickstart/${name}.yaml ended with ${status}`);
};

/** Only what makes a model: records of the training stay in build. */
const takeOver = async (name: string): Promise<void> => {
  await mkdir(join(here, name), { recursive: true });
  for (const file of ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors']) {
    await copyFile(join(build, `${name}-2`, file), join(here, name, file));
  }
};

await make();
