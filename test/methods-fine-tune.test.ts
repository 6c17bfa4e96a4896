import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, cp, mkdtemp, readdir, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { UserError } from '../src/base/errors.ts';
import { randomFrom } from '../src/base/random.ts';
import type { Engine } from '../src/engines/engine.ts';
import { rowLimits } from '../src/engines/micro-batch.ts';
import { fineTune } from '../src/methods/fine-tune.ts';
import { assertClose, assertTensorsClose } from './golden/compare.ts';
import { hashesOf, openToyEngine, type ToyTraining, toyRows, toySettings, trainToy } from './toy-fine-tune.ts';
import { writeToyModel } from './toy-model.ts';

const root = await mkdtemp(join(tmpdir(), 'retort-fine-tune-'));
after(() => rm(root, { recursive: true, force: true }));

let model = '';
let whole: Awaited<ReturnType<typeof trainToy>>;
/** 11 rows, 4 a step, 3 epochs: three steps an epoch. */
const stepCount = 9;

before(async () => {
  model = await writeToyModel(join(root, 'model'));
  whole = await trainToy({ model, folder: join(root, 'whole') });
});

const metricsOf = async (folder: string): Promise<Record<string, number>[]> =>
  (await readFile(join(folder, 'metrics.jsonl'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

/** What must be equal however often a training was interrupted: all but its speed. */
const timeless = (lines: readonly Record<string, number>[]) => lines.map(({ tokensPerSecond: _, ...line }) => line);

/** Trains until `stopAfter` steps are done. */
const trainUntil = async (training: ToyTraining, stopAfter: number): Promise<void> => {
  const controller = new AbortController();
  const reason = new Error('enough');
  if (stopAfter === 0) controller.abort(reason);
  const stop = ({ doneCount }: { doneCount: number }): void => {
    if (doneCount === stopAfter) controller.abort(reason);
  };
  await assert.rejects(trainToy(training, { signal: controller.signal, onProgress: stop }), reason);
};

describe('fine-tuning', () => {
  it('lets the loss fall, on rows trained on and by the schedule, and says so in metrics.jsonl', async () => {
    const lines = await metricsOf(join(root, 'whole'));
    const losses = lines.flatMap(({ loss }) => loss ?? []);
    assert.equal(losses.length, stepCount);
    const meanOf = (from: number, to: number) => losses.slice(from, to).reduce((sum, loss) => sum + loss, 0) / (to - from);
    const [first, last] = [meanOf(0, 3), meanOf(6, 9)];
    assert.ok(last < 0.85 * first, `the first epoch ${first}, the last ${last}`);
    // Cosine after one step of warm-up (a tenth of nine, rounded): 0.02·(1 + cos(π·s/8))/2 at s = step − 1.
    const rates = lines.flatMap(({ learningRate }) => learningRate ?? []);
    assertClose(
      rates,
      Array.from({ length: stepCount }, (_, step) => (step === 0 ? 0.02 : 0.01 * (1 + Math.cos((Math.PI * (step - 1)) / 8)))),
      1e-12,
      'learning rates',
    );
    assert.deepEqual(
      lines.flatMap(({ epoch }) => epoch ?? []),
      [0, 0, 0, 1, 1, 1, 2, 2, 2],
    );
  });

  it('counts each row once an epoch', async () => {
    const rows = toyRows(11);
    const weighted = rows.flatMap(({ weights }) => weights).reduce((sum, weight) => sum + weight, 0);
    assert.equal(whole.result.trainedTokenCount, 3 * weighted);
    assert.equal(whole.result.stepCount, stepCount);
    const lines = await metricsOf(join(root, 'whole'));
    const sumOf = (name: string) => lines.reduce((sum, line) => sum + (line[name] ?? 0), 0);
    assert.equal(sumOf('weightedTokenCount'), 3 * weighted);
    assert.equal(sumOf('tokenCount'), 3 * rows.reduce((sum, { tokens }) => sum + tokens.length, 0));
  });

  it('gives the same bytes for the same seed, and others for another', async () => {
    const again = await trainToy({ model, folder: join(root, 'again') });
    assert.deepEqual(again, whole);
    assert.deepEqual(timeless(await metricsOf(join(root, 'again'))), timeless(await metricsOf(join(root, 'whole'))));
    const other = await trainToy({ model, folder: join(root, 'other'), seed: 2 });
    assert.notEqual(other.adapter['adapter_model.safetensors'], whole.adapter['adapter_model.safetensors']);
  });

  it('takes a step of 8 rows as 8 calls of one row do', async () => {
    const rows = toyRows(8, 5);
    const settings = {
      ...toySettings,
      ...{ epochs: 1, rowsPerStep: 8, warmupShare: 0, maximumNorm: null, learningRate: 1 },
      optimiser: { name: 'sgd', momentum: 0, weightDecay: 0 },
    } as const;
    const withEngine = async (use: (engine: Engine) => Promise<void>) => {
      const engine = await openToyEngine(model, 3);
      try {
        await use(engine);
        return await engine.parameters();
      } finally {
        await engine.release();
      }
    };
    const folder = join(root, 'accumulated');
    const places = { checkpoints: join(folder, 'checkpoints'), metrics: join(folder, 'metrics.jsonl') };
    const together = await withEngine(async (engine) => {
      await fineTune({ engine, rows, settings, seed: 1, key: 'accumulated', ...places });
    });
    const oneByOne = await withEngine(async (engine) => {
      let tokenCount = 0;
      for (const row of rows) tokenCount += (await engine.forwardBackward([row], settings.loss)).tokenCount;
      await engine.optimStep({ optimiser: settings.optimiser, learningRate: 1, tokenCount });
    });
    const untouched = await withEngine(async () => undefined);
    // A has no gradient while B is 0; B is all gradient.
    const updates = (set: typeof together) => Object.fromEntries(Object.entries(set).filter(([name]) => name.includes('lora_B')));
    assert.ok(Object.values(updates(together)).every(({ data }) => data.some((value) => value !== 0)));
    assertTensorsClose(updates(together), updates(oneByOne), 1e-5, 'B after one step');
    for (const [name, { data }] of Object.entries(untouched)) if (name.includes('lora_A')) assert.deepEqual(together[name]?.data, data);
  });

  it('tells every step the limits of all rows, and a row that the model cannot hold before the first', async () => {
    const rows = toyRows(8, 5);
    const engine = await openToyEngine(model, 3);
    const heard: unknown[] = [];
    const listening: Engine = {
      ...engine,
      forwardBackward: (given, loss, limits) => {
        heard.push(limits);
        return engine.forwardBackward(given, loss, limits);
      },
    };
    const folder = join(root, 'limits');
    const places = { checkpoints: join(folder, 'checkpoints'), metrics: join(folder, 'metrics.jsonl') };
    try {
      await fineTune({ engine: listening, rows, settings: { ...toySettings, rowsPerStep: 2 }, seed: 1, key: 'limits', ...places });
      assert.ok(heard.length > 1);
      for (const limits of heard) assert.deepEqual(limits, rowLimits(rows));
      const tokens = Array.from({ length: engine.information.contextLength + 1 }, () => 1);
      const long = { tokens, weights: tokens.map((_, index) => (index === 0 ? 0 : 1)) };
      await assert.rejects(fineTune({ engine, rows: [...rows, long], settings: toySettings, seed: 1, key: 'long', ...places }), {
        name: 'UserError',
        message: /more than the \d+ that the model was made for\. Set training\.maximumLength/,
      });
    } finally {
      await engine.release();
    }
  });

  it('refuses to train on nothing', async () => {
    const engine = await openToyEngine(model, 1);
    const folder = join(root, 'nothing');
    const places = { checkpoints: join(folder, 'checkpoints'), metrics: join(folder, 'metrics.jsonl') };
    try {
      await assert.rejects(fineTune({ engine, rows: [], settings: toySettings, seed: 1, key: 'nothing', ...places }), UserError);
    } finally {
      await engine.release();
    }
  });
});

describe('an interrupted fine-tuning goes on to the same bytes', () => {
  for (const stops of [[0], [1], [3, 4], [2, 6, 8]]) {
    it(`stopped between steps, after ${stops.join(', ')} of ${stepCount}`, async () => {
      const folder = join(root, `stopped-${stops.join('-')}`);
      for (const stop of stops) await trainUntil({ model, folder }, stop);
      assert.deepEqual(await trainToy({ model, folder }), whole);
      assert.deepEqual(timeless(await metricsOf(folder)), timeless(await metricsOf(join(root, 'whole'))));
    });
  }

  it('killed at random moments: before the first checkpoint, between and in the middle of them', { timeout: 120_000 }, async () => {
    const folder = join(root, 'killed');
    const random = randomFrom(Number(process.env['RETORT_SEED'] ?? 1), 'kills');
    const child = join(import.meta.dirname, 'toy-fine-tune.ts');
    const seen: number[] = [];
    for (const steps of [1, 2, 3]) {
      const process_ = spawn(process.execPath, [child, JSON.stringify({ model, folder })], { stdio: ['ignore', 'pipe', 'inherit'] });
      let doneCount = 0;
      process_.stdout.setEncoding('utf8').on('data', (text: string) => {
        doneCount += text.trim().split('\n').length;
      });
      while (doneCount < steps && process_.exitCode === null) await sleep(1);
      await sleep(random.uniform() * 10);
      process_.kill('SIGKILL');
      if (process_.exitCode === null && process_.signalCode === null) await once(process_, 'exit');
      seen.push(doneCount);
    }
    assert.ok(seen[0] !== undefined && seen[0] < stepCount, `killed after ${seen.join(', ')} steps`);
    assert.deepEqual(await trainToy({ model, folder }), whole);
    assert.deepEqual(timeless(await metricsOf(folder)), timeless(await metricsOf(join(root, 'whole'))));
  });

  it('started again after its end, it trains no more and says the same', async () => {
    const folder = join(root, 'ended');
    await cp(join(root, 'whole'), folder, { recursive: true });
    assert.deepEqual(await trainToy({ model, folder }), whole);
    assert.deepEqual(timeless(await metricsOf(folder)), timeless(await metricsOf(join(root, 'whole'))));
  });
});

describe('metrics.jsonl', () => {
  it('has each step and each evaluation once, though a killed training left more', async () => {
    const folder = join(root, 'left-over');
    await trainUntil({ model, folder }, 4);
    // Two steps and an evaluation after the checkpoint, and a line cut off.
    const extra = [
      { step: 5, loss: 99 },
      { step: 6, loss: 99 },
      { step: 6, developmentLoss: 99 },
    ].map((line) => JSON.stringify(line));
    await appendFile(join(folder, 'metrics.jsonl'), `${extra.join('\n')}\n{"step":7,"lo`);
    await trainToy({ model, folder });
    assert.deepEqual(timeless(await metricsOf(folder)), timeless(await metricsOf(join(root, 'whole'))));
  });

  it('begins anew where no checkpoint was reached', async () => {
    const folder = join(root, 'no-checkpoint');
    await trainUntil({ model, folder }, 1);
    await rm(join(folder, 'checkpoints'), { recursive: true });
    await trainToy({ model, folder });
    assert.deepEqual(timeless(await metricsOf(folder)), timeless(await metricsOf(join(root, 'whole'))));
  });
});

describe('a checkpoint', () => {
  /** A copy of a training that was stopped after three steps. */
  const stopped = async (name: string): Promise<string> => {
    const folder = join(root, name);
    await cp(join(root, 'stopped-at-3'), folder, { recursive: true });
    return folder;
  };
  before(() => trainUntil({ model, folder: join(root, 'stopped-at-3') }, 3));

  const cases: Readonly<Record<string, (checkpoint: string) => Promise<void>>> = {
    'a torn manifest': async (checkpoint) => {
      const file = join(checkpoint, 'checkpoint.json');
      await writeFile(file, (await readFile(file, 'utf8')).slice(0, 40));
    },
    'an edited manifest': async (checkpoint) => {
      const file = join(checkpoint, 'checkpoint.json');
      await writeFile(file, (await readFile(file, 'utf8')).replace('"stepCount": 3', '"stepCount": "three"'));
    },
    'no manifest': (checkpoint) => unlink(join(checkpoint, 'checkpoint.json')),
    'one byte of its weights changed': async (checkpoint) => {
      const file = join(checkpoint, 'state.safetensors');
      const bytes = await readFile(file);
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      await writeFile(file, bytes);
    },
    'no weights': (checkpoint) => unlink(join(checkpoint, 'state.safetensors')),
  };
  for (const [what, breakIt] of Object.entries(cases)) {
    it(`with ${what} is refused, with what to do`, async () => {
      const folder = await stopped(what.replaceAll(' ', '-'));
      await breakIt(join(folder, 'checkpoints', 'step-3'));
      await assert.rejects(trainToy({ model, folder }), (error: unknown) => {
        assert.ok(error instanceof UserError, String(error));
        assert.match(error.message, /checkpoints\/step-3/);
        assert.match(error.message, /[Dd]elete .*from the beginning/);
        return true;
      });
    });
  }

  it('of another training is refused and left alone', async () => {
    const folder = await stopped('other-key');
    const kept = await hashesOf(join(folder, 'checkpoints', 'step-3'));
    await assert.rejects(trainToy({ model, folder, key: 'another' }), (error: unknown) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, /other settings, data or weights\. Give the output another folder, or delete/);
      return true;
    });
    assert.deepEqual(await hashesOf(join(folder, 'checkpoints', 'step-3')), kept);
  });

  it('that was not finished counts for nothing, and older ones are removed', async () => {
    const folder = await stopped('draft');
    await cp(join(folder, 'checkpoints', 'step-3'), join(folder, 'checkpoints', 'step-5.draft'), { recursive: true });
    await unlink(join(folder, 'checkpoints', 'step-5.draft', 'checkpoint.json'));
    assert.deepEqual((await trainToy({ model, folder })).adapter, whole.adapter);
    assert.deepEqual(await readdir(join(folder, 'checkpoints')), [`step-${stepCount}`]);
  });
});

describe('development rows', () => {
  it('are measured before, every so many steps and after, and never trained on', async () => {
    const lines = await metricsOf(join(root, 'whole'));
    const measured = lines.filter((line) => line['developmentLoss'] !== undefined);
    assert.deepEqual(
      measured.map(({ step }) => step),
      [0, 4, 8, 9],
    );
    assert.equal(whole.result.developmentLoss, measured.at(-1)?.['developmentLoss']);
    const without = await trainToy({ model, folder: join(root, 'without'), developmentRowCount: 0 });
    assert.deepEqual(without.adapter, whole.adapter);
    assert.equal(without.result.developmentLoss, undefined);
  });

  it('have a loss per token that the log-probabilities of their tokens give', async () => {
    const rows = toyRows(3, 2);
    const engine = await openToyEngine(model, 1);
    try {
      const scores = await engine.score(rows);
      const sum = scores.reduce(
        (total, { logProbabilities }, row) =>
          total - logProbabilities.reduce((part, value, index) => part + value * (rows[row]?.weights[index] ?? 0), 0),
        0,
      );
      const count = rows.flatMap(({ weights }) => weights).reduce((total, weight) => total + weight, 0);
      const [first] = await metricsOf(join(root, 'whole'));
      assertClose([first?.['developmentLoss'] ?? 0], [sum / count], 1e-5, 'loss before training');
    } finally {
      await engine.release();
    }
  });
});

describe('dropout', () => {
  it('is drawn from the seed, and an interrupted training goes on to the same bytes', async () => {
    const dropped = await trainToy({ model, folder: join(root, 'dropout'), dropout: 0.3 });
    assert.notEqual(dropped.adapter['adapter_model.safetensors'], whole.adapter['adapter_model.safetensors']);
    const folder = join(root, 'dropout-stopped');
    await trainUntil({ model, folder, dropout: 0.3 }, 3);
    assert.deepEqual(await trainToy({ model, folder, dropout: 0.3 }), dropped);
  });

  it('is of the seed that an engine was reset to, as of a new one', async () => {
    const row = toyRows(1);
    const gradientNorm = async (engine: Engine): Promise<number> => {
      const { tokenCount } = await engine.forwardBackward(row, { name: 'cross-entropy' });
      return (await engine.optimStep({ optimiser: { name: 'sgd', momentum: 0, weightDecay: 0 }, learningRate: 0, tokenCount }))
        .gradientNorm;
    };
    const [one, two] = [await openToyEngine(model, 1, 0.5), await openToyEngine(model, 2, 0.5)];
    try {
      const expected = await gradientNorm(two);
      const start = await two.parameters();
      assert.notEqual(await gradientNorm(one), expected);
      await one.reset(2);
      assert.deepEqual(await one.parameters(), start);
      assert.equal(await gradientNorm(one), expected);
    } finally {
      await one.release();
      await two.release();
    }
  });

  it('is off where nothing is trained', async () => {
    const row = toyRows(1, 9);
    const [plain, dropping] = [await openToyEngine(model, 1), await openToyEngine(model, 1, 0.5)];
    try {
      // B away from zero: otherwise the adapter's input would not matter.
      const parameters = Object.fromEntries(
        Object.entries(await plain.parameters()).map(([name, { shape, data }]) => [
          name,
          { shape, data: name.includes('lora_B') ? data.map((_, index) => 0.1 * Math.sin(index)) : data },
        ]),
      );
      for (const engine of [plain, dropping]) await engine.load(parameters);
      const loss = { name: 'cross-entropy' } as const;
      assert.deepEqual(await dropping.forward(row, loss), await plain.forward(row, loss));
      assert.deepEqual(await dropping.score(row), await plain.score(row));
      const sampling = { maximumTokens: 8, temperature: 1, topP: 1, endTokens: [] };
      const requests = [{ tokens: row[0]?.tokens ?? [], seed: 1 }];
      assert.deepEqual(await dropping.sample(requests, sampling), await plain.sample(requests, sampling));
      const trained = await dropping.forwardBackward(row, loss);
      const [evaluated] = await plain.forward(row, loss);
      assert.notEqual(trained.sum, evaluated?.sum);
    } finally {
      await plain.release();
      await dropping.release();
    }
  });
});
