import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { UserError } from '../src/base/errors.ts';
import { modelFingerprint, openModelFolder, readModelConfiguration, readTokenizerFiles } from '../src/weights/model-folder.ts';
import { goldenPath } from './golden/golden-files.ts';

const refusal =
  (...parts: readonly string[]) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof UserError, `a ${String(error)} instead of a UserError`);
    for (const part of parts) assert.ok(error.message.includes(part), `"${part}" is not in: ${error.message}`);
    return true;
  };

/** A folder of copied golden files and of texts, by name. */
const folderOf = async (copies: Readonly<Record<string, string>>, texts: Readonly<Record<string, string>> = {}): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'retort-model-'));
  for (const [name, source] of Object.entries(copies)) await copyFile(source, join(folder, name));
  for (const [name, content] of Object.entries(texts)) await writeFile(join(folder, name), content);
  return folder;
};

const gguf = goldenPath('gguf', 'llama.gguf');
const safetensors = goldenPath('tiny-llama', 'model.safetensors');
const config = goldenPath('tiny-llama', 'config.json');

const opened = async (path: string) => {
  const model = await openModelFolder(path);
  await model.tensors.close();
  return model;
};

describe('a model folder', () => {
  it('of config.json and model.safetensors is opened; generation_config.json is read where it lies', async () => {
    const folder = await folderOf(
      { 'config.json': config, 'model.safetensors': safetensors },
      { 'generation_config.json': '{"eos_token_id":[2,3]}' },
    );
    const model = await opened(folder);
    assert.deepEqual(model.config, JSON.parse(await readFile(config, 'utf8')));
    assert.deepEqual(model.generationConfig, { eos_token_id: [2, 3] });
    assert.equal((await opened(goldenPath('tiny-llama'))).generationConfig, undefined);
  });

  it('prefers safetensors to a GGUF beside them', async () => {
    const folder = await folderOf({ 'config.json': config, 'model.safetensors': safetensors, 'model.gguf': gguf });
    assert.equal((await opened(folder)).tensors.names.get('model.norm.weight')?.storage, 'F32');
    assert.deepEqual(
      (await opened(folder)).tensors.names.get('model.norm.weight')?.shape,
      (await opened(goldenPath('tiny-llama'))).tensors.names.get('model.norm.weight')?.shape,
    );
  });

  it('with two GGUF files asks which; the path of one is an answer', async () => {
    const folder = await folderOf({ 'a.gguf': gguf, 'b.gguf': gguf });
    await assert.rejects(openModelFolder(folder), refusal(folder, 'a.gguf, b.gguf', 'Give the path'));
    assert.equal((await opened(join(folder, 'b.gguf'))).folder, folder);
  });

  it('without weights gives its configuration, and says what was looked for when weights are wanted', async () => {
    const folder = await folderOf({ 'config.json': config }, { 'pytorch_model.bin': '' });
    assert.ok((await readModelConfiguration(folder)).config instanceof Object);
    await assert.rejects(
      openModelFolder(folder),
      refusal(folder, 'model.safetensors', 'model.safetensors.index.json', '*.gguf', 'pytorch_model.bin'),
    );
  });

  it('that is none is refused with what lies there', async () => {
    await assert.rejects(openModelFolder(await folderOf({}, { 'notes.txt': '' })), refusal('config.json', '.gguf', 'notes.txt'));
    await assert.rejects(openModelFolder(await folderOf({})), refusal('no files'));
    await assert.rejects(openModelFolder('/no/such/folder'), refusal('/no/such/folder'));
    await assert.rejects(openModelFolder(config), refusal(config, '.gguf'));
  });

  it('with a config.json that is no JSON is refused by that name', async () => {
    const folder = await folderOf({ 'model.safetensors': safetensors }, { 'config.json': '{"hidden_size": 64,}' });
    await assert.rejects(openModelFolder(folder), refusal('config.json', folder, 'not JSON'));
  });
});

describe('the tokenizer files of a folder', () => {
  const tokenizer = goldenPath('tokenizers', 'smol-like.json');

  it('are read as they are', async () => {
    const folder = await folderOf(
      { 'config.json': config, 'tokenizer.json': tokenizer },
      { 'tokenizer_config.json': '{"chat_template":"old"}' },
    );
    const files = await readTokenizerFiles(folder);
    assert.deepEqual(files, {
      tokenizerJson: JSON.parse(await readFile(tokenizer, 'utf8')),
      tokenizerConfigJson: { chat_template: 'old' },
    });
  });

  it('take the template from chat_template.jinja where there is one', async () => {
    const texts = { 'tokenizer_config.json': '{"chat_template":"old","eos_token":"x"}', 'chat_template.jinja': 'new' };
    const files = await readTokenizerFiles(await folderOf({ 'config.json': config, 'tokenizer.json': tokenizer }, texts));
    assert.deepEqual(files.tokenizerConfigJson, { chat_template: 'new', eos_token: 'x' });
  });

  it('come from tokenizer.json rather than from inside the GGUF, whose tokens it must have', async () => {
    const fitting = goldenPath('tokenizers', 'llama3-like.json');
    const files = await readTokenizerFiles(await folderOf({ 'model.gguf': gguf, 'tokenizer.json': fitting }));
    assert.deepEqual(files.tokenizerJson, JSON.parse(await readFile(fitting, 'utf8')));
    const other = await folderOf({ 'model.gguf': gguf, 'tokenizer.json': tokenizer });
    await assert.rejects(
      readTokenizerFiles(other),
      refusal(join(other, 'tokenizer.json'), 'is not the tokenizer of', 'token "!" has id 5 in the GGUF and 3'),
    );
  });

  it('that are missing are missed by name', async () => {
    await assert.rejects(readTokenizerFiles(await folderOf({ 'config.json': config })), refusal('tokenizer.json', 'config.json'));
  });
});

it('the fingerprint is of the weights alone, wherever they lie', async () => {
  const folder = await folderOf({ 'model.gguf': gguf });
  const linked = await mkdtemp(join(tmpdir(), 'retort-model-'));
  await symlink(join(folder, 'model.gguf'), join(linked, 'model.gguf'));
  assert.equal(await modelFingerprint(linked), await modelFingerprint(folder));
  assert.notEqual(await modelFingerprint(goldenPath('gguf', 'qwen2.gguf')), await modelFingerprint(folder));
});
