import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { stringify } from 'yaml';
import { UserError } from '../src/base/errors.ts';
import { readAnswerRecords } from '../src/evaluation/answer-record.ts';
import { fineTune } from '../src/methods/fine-tune.ts';
import { run } from '../src/methods/stages.ts';
import { renderTerminal } from '../src/report/render-text.ts';
import { openRun } from '../src/run-folder/run-folder.ts';
import { checkFiles } from '../src/run-folder/stage.ts';
import { openToyEngine, toyRows, toySettings, trainToy } from './toy-fine-tune.ts';
import { writeToyModel } from './toy-model.ts';

const root = await mkdtemp(join(tmpdir(), 'retort-protocol-'));
after(() => rm(root, { recursive: true, force: true }));

let model = '';
before(async () => {
  model = await writeToyModel(join(root, 'model'));
  const lines = [1, 2, 3, 4, 5, 6, 7, 8].map((number) => JSON.stringify({ question: `${number}+1`, answer: String(number + 1) }));
  await writeFile(join(root, 'train.jsonl'), `${lines.join('\n')}\n`);
  await writeFile(
    join(root, 'test.jsonl'),
    `${JSON.stringify({ question: '41+1', answer: '42' })}\n${JSON.stringify({ question: '51+1', answer: '52' })}\n`,
  );
});

const settings = (more: object) => ({
  name: 'protocol',
  task: {
    ...{ name: 'jsonl', files: { train: 'train.jsonl', test: 'test.jsonl' }, instruction: 'A number.' },
    ...{ scorer: { kind: 'number' }, train: { limit: 5 }, development: { limit: 3 } },
  },
  teacher: { kind: 'local', model: 'model' },
  sampling: { maximumTokens: 8, accept: ['length'] },
  student: { model: 'model', parameters: { kind: 'lora', rank: 2, alpha: 4 } },
  training: { rowsPerStep: 2, maximumNorm: null },
  arms: ['gold'],
  evaluation: { maximumTokens: 4, teacher: false, likelihood: false, fewShots: { examples: 0 } },
  engine: { threadCount: 1 },
  ...more,
});

const runOf = async (name: string, more: object, set: readonly string[] = []) => {
  await writeFile(join(root, `${name}.yaml`), stringify(settings(more)));
  const said: string[] = [];
  const say = (line: string) => said.push(line);
  const result = await run(join(root, `${name}.yaml`), { output: join(root, 'runs', name), offline: true, environment: {}, set, say });
  return { ...result, said };
};

describe('a search', () => {
  it('loses a candidate whose numbers run away, says why, and chooses of the others', async () => {
    const { summary, folder } = await runOf('diverging', { search: { learningRate: [1e30, 0.01], epochs: [1, 2] } });
    const [search] = summary.searches;
    assert.ok(search !== undefined);
    assert.equal(search.candidates.length, 4);
    // The wild rate survives one step of its own; of an epoch of three steps nothing does.
    for (const { learningRate, developmentLoss, lost, trainedTokenCount } of search.candidates) {
      assert.equal(developmentLoss === null, learningRate === 1e30);
      assert.equal(lost === undefined, learningRate !== 1e30);
      if (lost === undefined) assert.ok((trainedTokenCount ?? 0) > 0);
      else assert.match(lost, /gradient of step \d is not finite|loss on the judging questions is/);
    }
    const kept = search.candidates.filter(({ developmentLoss }) => developmentLoss !== null);
    const least = Math.min(...kept.map(({ developmentLoss }) => developmentLoss ?? 0));
    const best = kept.find(({ developmentLoss }) => developmentLoss === least);
    assert.deepEqual([search.learningRate, search.epochs], [best?.learningRate, best?.epochs]);
    // The student was trained with what was chosen: steps of two rows.
    assert.equal(summary.rows.find(({ subject }) => subject.kind === 'arm')?.training?.stepCount, 3 * search.epochs);
    assert.deepEqual(await checkFiles(await openRun(folder)), []);
    assert.deepEqual(summary.unfinished, []);
  });

  it('without a candidate that is left ends the run and names the reasons', async () => {
    await assert.rejects(
      runOf('hopeless', { search: { learningRate: [1e30, 2e30] } }),
      (error: unknown) =>
        error instanceof UserError &&
        /every candidate of the search is lost\. Give it lower learning rates\.\n {2}learning rate 1e\+30, 1 epoch: .*\n {2}learning rate 2e\+30/.test(
          error.message,
        ),
    );
  });

  it('is made for each arm with the same candidates where that is asked for', async () => {
    const { summary } = await runOf('per-arm', {
      arms: ['gold', { shuffled: 'gold' }],
      search: { perArm: true, learningRate: [0.001, 0.01, 0.03], candidates: 2 },
    });
    assert.deepEqual(
      summary.searches.map(({ stage, arm }) => [stage, arm]),
      [
        ['choose--gold', 'gold'],
        ['choose--shuffled', 'shuffled'],
      ],
    );
    const [first, second] = summary.searches.map(({ candidates }) => candidates.map(({ learningRate }) => learningRate));
    assert.equal(first?.length, 2);
    assert.deepEqual(first, second);
    assert.deepEqual(summary.unfinished, []);
  });

  it('chooses α and T of a distillation', async () => {
    const { summary, folder } = await runOf('alpha', {
      training: { loss: { name: 'distillation' }, rowsPerStep: 2, learningRate: 0.01 },
      arms: [{ gold: 'teacher' }],
      search: { alpha: [0, 1], temperature: [3] },
    });
    const [search] = summary.searches;
    assert.deepEqual(
      search?.candidates.map(({ alpha, temperature }) => [alpha, temperature]),
      [
        [0, 3],
        [1, 3],
      ],
    );
    // Judged by the cross-entropy of solutions: what is trained for it must be better than what only follows the teacher.
    assert.equal(search?.alpha, 1);
    const metrics = await readFile(join(folder, 'students', 'gold-teacher--lora-distillation--model--seed-0', 'metrics.jsonl'), 'utf8');
    const first: { loss: number; terms: Record<string, number> } = JSON.parse(
      metrics.split('\n').find((line) => line.includes('terms')) ?? '{}',
    );
    // α = 1: the loss is the cross-entropy. The teacher, who is the student, read the solution under a priming: the KL is not 0.
    assert.ok(Math.abs(first.loss - (first.terms['cross-entropy'] ?? 0)) < 1e-5);
    assert.ok((first.terms['forward-kl'] ?? 0) > 1e-3);
  });
});

describe('the best checkpoint', () => {
  // A rate so high that the loss rises after its first fall, weighed after every step.
  const shaky = { ...toySettings, learningRate: 0.3, epochs: 4, stepsPerEvaluation: 1, stepsPerCheckpoint: 3, checkpoint: 'best' as const };
  const lossesOf = async (folder: string): Promise<{ step: number; developmentLoss: number }[]> =>
    (await readFile(join(root, folder, 'metrics.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      .filter((line) => line.developmentLoss !== undefined);

  it('is the one with the least development loss along the training, and its weights are the student’s', async () => {
    const engine = await openToyEngine(model, 1);
    try {
      const developmentRows = toyRows(3, 2);
      const result = await fineTune({
        ...{ engine, rows: toyRows(11), developmentRows, settings: shaky, seed: 1, key: 'best' },
        ...{ checkpoints: join(root, 'best', 'checkpoints'), metrics: join(root, 'best', 'metrics.jsonl') },
      });
      const losses = (await lossesOf('best')).filter(({ step }) => step > 0);
      const least = Math.min(...losses.map(({ developmentLoss }) => developmentLoss));
      assert.notEqual(losses.at(-1)?.developmentLoss, least, 'the last is the best: the test shows nothing');
      assert.equal(result.developmentLoss, least);
      assert.equal(result.keptStep, losses.find(({ developmentLoss }) => developmentLoss === least)?.step);
      assert.equal(result.stepCount, 12);
      const sums = await engine.forward(developmentRows, { name: 'cross-entropy' });
      const [sum, count] = [sums.reduce((total, row) => total + row.sum, 0), sums.reduce((total, row) => total + row.tokenCount, 0)];
      assert.ok(Math.abs(sum / count - least) < 1e-6);
    } finally {
      await engine.release();
    }
  });

  it('is the same after an interruption at any step', async () => {
    const whole = await trainToy({ model, folder: join(root, 'whole'), settings: shaky });
    for (const stopAfter of [1, 5, 8, 12]) {
      const training = { model, folder: join(root, `stopped-${stopAfter}`), settings: shaky };
      const controller = new AbortController();
      const reason = new Error('enough');
      const onProgress = ({ doneCount }: { doneCount: number }) => {
        if (doneCount === stopAfter) controller.abort(reason);
      };
      if (stopAfter < 12) await assert.rejects(trainToy(training, { signal: controller.signal, onProgress }), reason);
      assert.deepEqual(await trainToy(training), whole);
    }
  });
});

describe('the best checkpoint of a run', () => {
  it('is what its students are, and stands beside each of them', async () => {
    const { summary } = await runOf('best', {
      training: { rowsPerStep: 1, epochs: 4, learningRate: 1, checkpoint: 'best', stepsPerEvaluation: 1 },
      task: { ...settings({}).task, train: { limit: 5 }, development: { limit: 3 } },
    });
    const student = summary.rows.find(({ subject }) => subject.kind === 'arm');
    const { keptStep = 0, stepCount = 0 } = student?.training ?? {};
    assert.equal(stepCount, 20);
    assert.ok(keptStep > 0 && keptStep < stepCount, `step ${keptStep}: at such a rate the last is not the best`);
    assert.match(renderTerminal(summary, 140), new RegExp(`kept\\n[^]*gold, seed 0 .* ${keptStep} of 20`));
  });
});

describe('the untouched student asked otherwise', () => {
  const more = {
    arms: ['none', { name: 'brief', text: 'PRIMING: be brief.' }, 'rationale'],
    evaluation: { maximumTokens: 4, teacher: false, likelihood: false, fewShots: { examples: 2, seed: 1 } },
  };

  it('is a row for few shots and one for each priming that does not show the solution', async () => {
    const { summary, folder } = await runOf('rows', more);
    const untouched = summary.groups.filter(({ kind }) => kind === 'untouched');
    assert.deepEqual(
      untouched.map(({ label }) => label),
      ['untouched student', 'untouched: brief', 'untouched: 2 shots'],
    );
    const opened = await openRun(folder);
    const { stages } = await opened.manifest();
    const shots = stages['evaluate--untouched--model--shots-2']?.facts['shots'];
    assert.ok(Array.isArray(shots) && shots.length === 2 && shots.every((id) => /^jsonl-train-[0-4]$/.test(String(id))));
    const promptsOf = async (variant?: string) =>
      (
        await readAnswerRecords(opened.paths.answers({ kind: 'untouched', student: 'model', ...(variant !== undefined && { variant }) }))
      ).map(({ promptHash, promptTokenCount }) => ({ promptHash, length: promptTokenCount ?? 0 }));
    const [plain, brief, few] = [await promptsOf(), await promptsOf('primed-brief'), await promptsOf('shots-2')];
    // A token a byte: the priming and an empty line; each shot `3+1`, an empty line, the instruction, its solution, and two turns' marks.
    const turn = (role: string, text: string) => 2 + `${role}\n${text}\n`.length;
    const shotLength = turn('user', '3+1\n\nA number.') + turn('assistant', '4');
    for (const [index, { length, promptHash }] of plain.entries()) {
      assert.equal(brief[index]?.length, length + 'PRIMING: be brief.\n\n'.length);
      assert.equal(few[index]?.length, length + 2 * shotLength);
      assert.equal(new Set([promptHash, brief[index]?.promptHash, few[index]?.promptHash]).size, 3);
    }
    // What distillation bought over asking so: beside every arm.
    const otherwise = summary.comparisons.filter(({ against, measure }) => against === 'asked otherwise' && measure === 'strict');
    assert.deepEqual(otherwise.map(({ first, second }) => `${first} − ${second}`).sort(), [
      'brief − untouched: 2 shots',
      'brief − untouched: brief',
      'none − untouched: 2 shots',
      'rationale − untouched: 2 shots',
    ]);
  });

  it('can be added to a finished run, whose students stay', async () => {
    const before_ = await (await openRun(join(root, 'runs', 'rows'))).manifest();
    const { summary } = await runOf('rows', more, ['evaluation.fewShots.examples=1']);
    assert.deepEqual(summary.unfinished, []);
    assert.ok(summary.rows.some(({ name }) => name === 'untouched--model--shots-1'));
    const { stages } = await (await openRun(join(root, 'runs', 'rows'))).manifest();
    for (const [name, stage] of Object.entries(before_.stages)) if (name !== 'report') assert.deepEqual(stages[name], stage, name);
  });

  it('stays as it is when seeds are added to a finished run, which says that they were', async () => {
    const before_ = await (await openRun(join(root, 'runs', 'rows'))).manifest();
    const seeds = before_.plannedStages.filter((name) => /^train--none/.test(name)).length;
    const { summary } = await runOf('rows', more, ['evaluation.fewShots.examples=1', 'seeds=[0, 7]']);
    assert.deepEqual(summary.unfinished, []);
    const rows = summary.rows.map(({ name }) => name).filter((name) => name.startsWith('none--'));
    assert.deepEqual(rows.map((name) => /seed-\d+$/.exec(name)?.[0]).sort(), ['seed-0', 'seed-7']);
    const { stages, plannedStages } = await (await openRun(join(root, 'runs', 'rows'))).manifest();
    assert.equal(plannedStages.filter((name) => /^train--none/.test(name)).length, seeds + 1);
    for (const [name, stage] of Object.entries(before_.stages)) if (name !== 'report') assert.deepEqual(stages[name], stage, name);
    assert.match(summary.warnings.join('\n'), /Added after the test questions had been opened: seeds 7\./);
    // Another first seed is another run, and so is one that lost a seed.
    await assert.rejects(runOf('rows', more, ['evaluation.fewShots.examples=1', 'seeds=[7, 0]']), /run of another config/);
    await assert.rejects(runOf('rows', more, ['evaluation.fewShots.examples=1', 'seeds=[0]']), /run of another config/);
  });

  it('is left out, with a warning, where the prompts are too long or examples are too few', async () => {
    const { summary, said } = await runOf('rows', more, ['evaluation.fewShots.examples=6', 'seeds=[0, 7]']);
    const warning = /evaluate--untouched--model--shots-6: the row is left out: only 5 of 6 examples are to be had/;
    assert.match(summary.warnings.join('\n'), warning);
    assert.match(said.join('\n'), /untouched--model--shots-6: the row is left out/);
    assert.ok(summary.rows.every(({ name }) => name !== 'untouched--model--shots-6'));
    assert.deepEqual(summary.unfinished, []);
    await writeToyModel(join(root, 'short'), { config: { max_position_embeddings: 100 } });
    const short = { ...more, student: { model: 'short', parameters: { kind: 'lora', rank: 2 } }, arms: ['gold'] };
    const { summary: second } = await runOf('short', short);
    assert.match(
      second.warnings.join('\n'),
      /shots-2: the row is left out: the longest prompt has \d+ tokens, which with 4 of an answer are more than the model's 100/,
    );
  });
});

describe('several methods', () => {
  it('train every arm in each way: adapters and all parameters beside each other', async () => {
    const { summary, folder } = await runOf('methods', {
      arms: ['gold', { shuffled: 'gold' }],
      comparison: { baseline: 'shuffled', compared: ['gold'] },
      search: { learningRate: [0.001, 0.01] },
      methods: [
        { name: 'lora' },
        { name: 'full', parameters: { kind: 'all' }, learningRate: 0.002, search: { learningRate: [0.002, 0.005] } },
      ],
    });
    assert.deepEqual(summary.unfinished, []);
    assert.deepEqual(
      summary.groups.map(({ label }) => label).sort(),
      ['gold · full', 'gold · lora', 'shuffled · full', 'shuffled · lora', 'untouched student'].sort(),
    );
    // Each against the baseline of its own method; both are planned.
    assert.deepEqual(
      summary.comparisons.flatMap(({ isPlanned, first, second }) => (isPlanned ? [`${first} − ${second}`] : [])),
      ['gold · full − shuffled · full', 'gold · lora − shuffled · lora'],
    );
    assert.deepEqual(
      summary.searches.map(({ stage, candidates }) => [stage, ...candidates.map(({ learningRate }) => learningRate)]),
      [
        ['choose--lora', 0.001, 0.01],
        ['choose--full', 0.002, 0.005],
      ],
    );
    const { files } = await (await openRun(folder)).manifest();
    const weights = Object.keys(files).filter((file) => file.startsWith('students/gold') && file.endsWith('.safetensors'));
    assert.deepEqual(weights.sort(), [
      'students/gold--full--model--seed-0/adapter/model.safetensors',
      'students/gold--lora--model--seed-0/adapter/adapter_model.safetensors',
    ]);
    // The same rows, tokens and seeds under each.
    const tokens = summary.rows.flatMap(({ training }) => training?.trainedTokenCount ?? []);
    assert.equal(tokens.length, 4);
    assert.equal(new Set(tokens).size, 1);
  });
});

describe('departures from a sound protocol', () => {
  it('are warned of at the head of the report, and do what they are called', async () => {
    const { summary, said, folder } = await runOf('departing', {
      departures: ['chosen-on-test', 'raw-text', 'no-end-of-turn'],
      search: { learningRate: [0.001, 0.01] },
    });
    for (const name of ['chosen-on-test', 'raw-text', 'no-end-of-turn']) {
      assert.ok(said.some((line) => line.startsWith(`NOT A SOUND PROTOCOL (${name})`)));
      assert.ok(summary.warnings.some((line) => line.includes(`NOT A SOUND PROTOCOL (${name})`)));
    }
    assert.match(summary.headline, /The protocol is not sound: chosen-on-test, raw-text, no-end-of-turn\.$/);
    // Two test questions judged each candidate, and each time is on the record.
    assert.deepEqual([summary.searches[0]?.judgedOn, summary.searches[0]?.judgingRowCount], ['test', 2]);
    assert.equal(summary.testOpenings.filter(({ what }) => what.startsWith('choose: ')).length, 2);
    const { stages } = await (await openRun(folder)).manifest();
    const template = stages['train--gold--lora--model--seed-0']?.facts['template'];
    assert.equal((template as { name: string }).name, 'raw text');
    // Without the end of a turn a solution of one digit is one token to learn; five rows.
    const trained = summary.rows.find(({ subject }) => subject.kind === 'arm')?.training?.trainedTokenCount;
    assert.equal(trained, 5 * (summary.searches[0]?.epochs ?? 0));
  });
});
