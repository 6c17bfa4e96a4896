import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { z } from 'zod';
import { UserError } from '../src/base/errors.ts';
import { sha256 } from '../src/base/folders.ts';
import { readRows } from '../src/data/read-rows.ts';
import { type ExportResponsesOptions, exportResponses } from '../src/methods/export-responses.ts';
import { collect, surroundingsOf } from '../src/methods/stages.ts';
import { studentMessages } from '../src/priming/primed-messages.ts';
import { type ExportFormatName, exportFormatNames } from '../src/responses/export-formats.ts';
import { readResponses, responsesFile } from '../src/responses/response-store.ts';
import { openRun } from '../src/run-folder/run-folder.ts';
import { readTrainingLines } from '../src/text/training-lines.ts';
import golden from './golden/exported-responses.json' with { type: 'json' };
import { sampleFiles, sampleRows, sampleSettings } from './golden/exported-samples.ts';

const root = await mkdtemp(join(tmpdir(), 'retort-export-'));
after(() => rm(root, { recursive: true, force: true }));

const surroundings = await surroundingsOf({ offline: true, environment: {} });

type Turns = readonly (readonly [role: string, content: string])[];
const turnsOfSamples: readonly Turns[] = sampleRows.map(({ messages, answer }) => [
  ...messages.map(({ role, content }) => [role, content] as const),
  ['assistant', answer] as const,
]);

const message = z.object({ role: z.string(), content: z.string() });
const said = z.object({ from: z.enum(['system', 'human', 'gpt']), value: z.string() });
const roles = { system: 'system', human: 'user', gpt: 'assistant' };
const plain = (messages: z.infer<typeof message>[]): Turns => messages.map(({ role, content }) => [role, content]);

/** What a row of each format says, by that format's definition. */
const turnsOf: Record<ExportFormatName, (row: unknown) => Turns> = {
  'chat-jsonl': (row) => plain(z.object({ messages: z.array(message) }).parse(row).messages),
  parquet: (row) => plain(z.object({ messages: z.array(message) }).parse(row).messages),
  sharegpt: (row) =>
    z
      .object({ conversations: z.array(said) })
      .parse(row)
      .conversations.map(({ from, value }) => [roles[from], value]),
  alpaca: (row) => {
    const { system, instruction, input, output } = z
      .object({ system: z.string(), instruction: z.string(), input: z.literal(''), output: z.string() })
      .parse(row);
    const turns = [
      ['system', system],
      ['user', instruction + input],
      ['assistant', output],
    ] as const;
    return turns.filter(([role, content]) => role !== 'system' || content !== '');
  },
  'prompt-completion': (row) => {
    const { prompt, completion } = z.object({ prompt: z.array(message), completion: z.array(message).length(1) }).parse(row);
    return plain([...prompt, ...completion]);
  },
};

const valuesOf = async (source: string): Promise<unknown[]> => {
  const values: unknown[] = [];
  for await (const { value } of readRows(source, { split: 'train', what: 'a test' })) values.push(value);
  return values;
};
const writeFiles = async (folder: string, files: ReadonlyMap<string, string | Uint8Array>): Promise<void> => {
  await mkdir(folder, { recursive: true });
  for (const [name, content] of files) await writeFile(join(folder, name), content);
};

describe('answers in the forms of other trainers', () => {
  for (const name of exportFormatNames) {
    it(`${name} is read back here, byte for byte`, async () => {
      const folder = join(root, 'samples', name);
      await writeFiles(folder, sampleFiles(name));
      assert.deepEqual((await valuesOf(folder)).map(turnsOf[name]), turnsOfSamples);
    });

    it(`${name} is read alike by those trainers, with the settings of the run`, () => {
      const files: Readonly<Record<string, string>> = golden.files;
      for (const [file, content] of sampleFiles(name)) {
        assert.equal(
          sha256(content),
          files[`${name}/${file}`],
          `${name}/${file} is not what they have read: run test/golden/exported_responses.py`,
        );
      }
      assert.deepEqual((golden.datasets.rows[name] as unknown[]).map(turnsOf[name]), turnsOfSamples, 'datasets');
      const trl = Object.entries(golden.trl.rows).find(([format]) => format === name)?.[1];
      const llamaFactory = Object.entries(golden['llama-factory'].rows).find(([format]) => format === name)?.[1];
      assert.equal(trl !== undefined, sampleFiles(name).has('trl.yaml'));
      assert.equal(llamaFactory !== undefined, sampleFiles(name).has('llama-factory.yaml'));
      assert.ok(trl !== undefined || llamaFactory !== undefined);
      if (trl !== undefined) assert.deepEqual(trl, turnsOfSamples, 'TRL');
      if (llamaFactory !== undefined) assert.deepEqual(llamaFactory, turnsOfSamples, 'LLaMA-Factory');
    });
  }

  it('with settings that the trainers’ own parsers understand', () => {
    const { student, training, seed } = sampleSettings;
    const { optimiser } = training;
    assert.ok(optimiser.name === 'adamw' && student.parameters.kind === 'lora');
    const shared = {
      learning_rate: training.learningRate,
      num_train_epochs: training.epochs,
      per_device_train_batch_size: training.rowsPerStep,
      lr_scheduler_type: training.schedule,
      optim: 'adamw_torch',
      adam_beta1: optimiser.beta1,
      adam_beta2: optimiser.beta2,
      adam_epsilon: optimiser.epsilon,
      weight_decay: optimiser.weightDecay,
      max_grad_norm: training.maximumNorm,
      seed,
      model_name_or_path: 'ada/tiny',
    };
    const { rank, alpha, dropout, targets } = student.parameters;
    for (const settings of Object.values(golden.trl.settings)) {
      assert.deepEqual(settings, {
        ...shared,
        ...{ warmup_of_100: 100 * training.warmupShare, max_length: training.maximumLength },
        ...{ use_peft: true, lora_r: rank, lora_alpha: alpha, lora_dropout: dropout, lora_target_modules: targets },
      });
    }
    for (const settings of Object.values(golden['llama-factory'].settings)) {
      assert.deepEqual(settings, {
        ...shared,
        ...{ warmup_of_100: 100 * training.warmupShare, cutoff_len: training.maximumLength, stage: 'sft', finetuning_type: 'lora' },
        ...{ lora_rank: rank, lora_alpha: alpha, lora_dropout: dropout, lora_target: targets },
      });
    }
  });
});

describe('a run’s answers', () => {
  const place = join(root, 'project');
  const runPath = join(place, 'runs', 'trial');
  const priming = 'Answer as a pirate would.';
  before(async () => {
    await mkdir(join(place, 'data'), { recursive: true });
    await writeFile(join(place, 'data', 'train.csv'), 'q,a\r\n"What is ""one"", and one?",2\r\n"Two\nlines",3\r\nThree?,5\r\n');
    await writeFile(join(place, 'data', 'test.csv'), 'q,a\nOther?,7\n');
    const config = [
      'name: trial',
      'task: { name: jsonl, files: { train: data, test: data }, fields: { question: q, answer: a }, instruction: "End with ####.", scorer: { kind: number } }',
      'teacher: { kind: fake }',
      'student: { model: hub:ada/tiny }',
      `arms: [none, { name: pirate, text: ${priming} }, gold, { recorded: said.jsonl }, { selected: recorded, keep: right, name: right }]`,
    ];
    const said = ['#### 2', '#### 4', '#### 5'].map((answer, index) => `${JSON.stringify({ id: `jsonl-train-${index}`, answer })}\n`);
    await writeFile(join(place, 'said.jsonl'), said.join(''));
    await writeFile(join(place, 'run.yaml'), config.join('\n'));
    await collect(join(place, 'run.yaml'), { workingFolder: place, environment: {} });
  });

  const exported = async (output: string, options: Partial<ExportResponsesOptions> = {}) =>
    exportResponses(
      {
        run: await openRun(runPath),
        format: 'chat-jsonl',
        output: join(root, output),
        configSurroundings: { environment: {}, isThere: existsSync },
        ...options,
      },
      surroundings,
    );
  const refused = (work: Promise<unknown>, pattern: RegExp) =>
    assert.rejects(work, (error) => error instanceof UserError && pattern.test(error.message));
  const questions = ['What is "one", and one?', 'Two\nlines', 'Three?'];

  for (const format of exportFormatNames) {
    it(`are those of the store, under the student’s messages, as ${format}`, async () => {
      const arms = await exported(`out-${format}`, { format });
      assert.deepEqual(
        arms.map(({ arm, rowCount }) => [arm, rowCount]),
        [
          ['none', 3],
          ['pirate', 3],
          ['gold', 3],
          ['recorded', 3],
          ['right', 2],
        ],
      );
      for (const { arm, folder, files, sha256: hash } of arms.slice(0, 4)) {
        const stored = await readResponses(join(runPath, 'responses', arm));
        const turns = (await valuesOf(folder)).map(turnsOf[format]);
        assert.deepEqual(
          turns,
          stored.map(({ text }, index) => [
            ['user', studentMessages({ question: questions[index] ?? '', solution: '' }, 'End with ####.')[0]?.content],
            ['assistant', text],
          ]),
        );
        assert.equal(sha256(await readFile(join(folder, files[0] ?? ''))), hash);
        const everything = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')));
        assert.ok(!everything.slice(0, -1).join('').includes('pirate would'), 'the priming is in what is learnt from');
        const card = everything.at(-1) ?? '';
        for (const part of [hash, sha256(await readFile(responsesFile(join(runPath, 'responses', arm)))), '| answers | 3;', 'Terms']) {
          assert.ok(card.includes(part), `${part} is not in the card`);
        }
        assert.equal(card.includes(priming), arm === 'pirate');
      }
    });
  }

  it('are what `retort train` reads from the folder as it is', async () => {
    for (const format of ['chat-jsonl', 'prompt-completion', 'parquet'] as const) {
      const [{ folder = '' } = {}] = await exported(`train-${format}`, { format, arm: 'gold' });
      const lines = await readTrainingLines(folder);
      assert.deepEqual(
        lines.map((line) => line.kind === 'conversation' && line.messages.at(-1)?.content),
        ['2', '3', '5'],
      );
    }
  });

  it('are those that the arm learns from, where it chooses', async () => {
    const [{ folder = '' } = {}] = await exported('chosen', { arm: 'right' });
    const turns = (await valuesOf(folder)).map(turnsOf['chat-jsonl']);
    assert.deepEqual(
      turns.map((row) => row.at(-1)),
      [
        ['assistant', '#### 2'],
        ['assistant', '#### 5'],
      ],
    );
    assert.match(await readFile(join(folder, 'README.md'), 'utf8'), /\| answers \| 2; right by the strict rule: 2 \|/);
  });

  it('stand under what the teacher saw only when that is asked for', async () => {
    const [{ folder = '' } = {}] = await exported('primed', { arm: 'pirate', isPrimed: true });
    const turns = (await valuesOf(folder)).map(turnsOf['chat-jsonl']);
    assert.deepEqual(turns[2]?.[0], ['user', `${priming}\n\nThree?\n\nEnd with ####.`]);
  });

  it('are written to an empty folder, of an arm that there is', async () => {
    await exported('twice', { arm: 'none' });
    await refused(exported('twice', { arm: 'none' }), /twice is not empty/);
    await refused(exported('nothing', { arm: 'nnoe' }), /no arm nnoe\. Its arms: none, pirate, gold, recorded, right/);
    assert.ok(!existsSync(join(root, 'nothing')));
  });

  it('move with their data, and are refused under other questions than they were asked', async () => {
    const moved = join(root, 'moved');
    await cp(place, moved, { recursive: true });
    const run = await openRun(join(moved, 'runs', 'trial'));
    assert.equal((await exported('from-moved', { run, arm: 'none' }))[0]?.rowCount, 3);
    const data = await readFile(join(moved, 'data', 'train.csv'), 'utf8');
    await writeFile(join(moved, 'data', 'train.csv'), data.replace('Three', 'Four'));
    await refused(exported('changed', { run }), /the answer to jsonl-train-2 belongs to another question/);
    assert.ok(!existsSync(join(root, 'changed')), 'something was written');
    assert.equal((await exported('named', { run, arm: 'none', configFolder: place }))[0]?.rowCount, 3);
    await rm(join(moved, 'data'), { recursive: true });
    await refused(exported('lost', { run }), /No data for task "jsonl"/);
  });

  it('are refused as long as they are not complete', async () => {
    const stopped = join(root, 'stopped');
    await cp(place, stopped, { recursive: true });
    const run = await openRun(join(stopped, 'runs', 'trial'));
    await run.update((manifest) => {
      const stage = manifest.stages['collect--pirate'];
      assert.ok(stage !== undefined);
      return { ...manifest, stages: { ...manifest.stages, 'collect--pirate': { ...stage, status: 'started' } } };
    });
    await refused(exported('incomplete', { run }), /answers of pirate are not complete/);
    assert.equal((await exported('complete', { run, arm: 'none' }))[0]?.rowCount, 3);
  });
});
