import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { departures } from '../src/config/departures.ts';
import { configJsonSchemas } from '../src/config/json-schema.ts';
import { parseRunConfig, parseTrainConfig } from '../src/config/parse-config.ts';
import { ConfigError } from '../src/config/problem.ts';
import { candidatesOf } from '../src/methods/candidates.ts';
import { choicesOf, methodsOf } from '../src/methods/run-plan.ts';

const folder = resolve('/configs');
const surroundings = {
  folder,
  environment: { MODELS: '/weights', EMPTY: '' },
  isThere: (path: string) => path === join(folder, 'models/here'),
};

const good = `name: trial
task: { name: gsm8k, folder: "../data/gsm8k" }
teacher: { kind: local, model: models/here }
student:
  model: models/here
  parameters: { kind: lora, rank: 4 }
arms: [none, teacher, gold, { shuffled: none }]
`;

const run = (text: string, overrides: readonly string[] = []) => parseRunConfig({ text, file: 'trial.yaml', overrides }, surroundings);

/** The problems of a config as `where: path: message`. */
const problems = (text: string, overrides: readonly string[] = []): string[] => {
  try {
    run(text, overrides);
  } catch (error) {
    if (!(error instanceof ConfigError)) return [String(error)];
    return error.problems.map(({ where, path, message }) => `${where}: ${path}: ${message}`);
  }
  return [];
};

describe('a run config', () => {
  it('gets its defaults', () => {
    const { config } = run(good);
    assert.deepEqual(config.seeds, [0]);
    assert.deepEqual(config.task, {
      name: 'gsm8k',
      folder: resolve('/data/gsm8k'),
      train: { skip: 0 },
      development: { limit: 0 },
      test: { skip: 0 },
    });
    assert.equal(config.student.name, 'here');
    assert.deepEqual(config.student.parameters, {
      kind: 'lora',
      rank: 4,
      alpha: 16,
      dropout: 0,
      targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
    });
    assert.deepEqual(config.training.optimiser, { name: 'adamw', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 });
    assert.deepEqual(
      config.arms.map((arm) => [arm.kind, arm.name]),
      [
        ['strategy', 'none'],
        ['strategy', 'teacher'],
        ['gold', 'gold'],
        ['shuffled', 'shuffled'],
      ],
    );
    assert.deepEqual(config.comparison, { measure: 'strict', baseline: 'none', compared: ['teacher'] });
  });

  it('resolves paths for use and records them as they were written', () => {
    const text = good.replace('../data/gsm8k', '${MODELS}/gsm8k');
    const { config, recorded } = run(text);
    assert.equal(config.task.name === 'gsm8k' && config.task.folder, resolve('/weights/gsm8k'));
    const given = JSON.stringify(recorded);
    assert.match(given, /"folder":"\$\{MODELS\}\/gsm8k"/);
    assert.equal(config.student.model, join(folder, 'models/here'));
    assert.match(given, /"student":\{"model":"models\/here"/);
  });

  it('takes a relative path in a variable from where the command is given, as shells mean it', () => {
    const text = good.replace('../data/gsm8k', '${DATA}/gsm8k');
    const environment = { ...surroundings.environment, DATA: '../shared' };
    const folderOf = (workingFolder: string) => {
      const { task } = parseRunConfig({ text, file: 'trial.yaml' }, { ...surroundings, environment, workingFolder }).config;
      return task.name === 'gsm8k' && task.folder;
    };
    assert.equal(folderOf('/home/ada'), resolve('/home/shared/gsm8k'));
  });

  it('takes owner/name for a repository on the hub only where nothing of that name lies on the disk', () => {
    const model = (name: string) => run(good.replaceAll('models/here', name)).config.student;
    assert.deepEqual([model('models/here').model, model('models/here').name], [join(folder, 'models/here'), 'here']);
    assert.deepEqual([model('owner/repo').model, model('owner/repo').name], ['hub:owner/repo', 'repo']);
    assert.deepEqual([model('hub:owner/repo@v1').model, model('hub:owner/repo@v1').name], ['hub:owner/repo@v1', 'repo']);
    assert.equal(model('./owner/repo').model, join(folder, 'owner/repo'));
    assert.equal(model('a/b/c').model, join(folder, 'a/b/c'));
    assert.equal(model('a/b/c.gguf@v1').model, 'hub:a/b/c.gguf@v1');
  });

  it('takes a strategy of your own and sees whether it shows the solution', () => {
    const { config } = run(good.replace('gold,', 'gold, { name: mine, text: "Hint: {{solution}}", placement: after },'));
    const mine = config.arms.find(({ name }) => name === 'mine');
    assert.ok(mine?.kind === 'strategy');
    assert.deepEqual(mine.strategy, { name: 'mine', version: 1, placement: 'after', text: 'Hint: {{solution}}', seesSolution: true });
  });

  it('is overridden by --set, which is checked like the rest', () => {
    const { config } = run(good, ['training.epochs=3', 'seeds=[1, 2]', 'student.parameters.rank=16', 'training.maximumNorm=null']);
    assert.equal(config.training.epochs, 3);
    assert.deepEqual(config.seeds, [1, 2]);
    assert.equal(config.student.parameters.kind === 'lora' && config.student.parameters.rank, 16);
    assert.equal(config.training.maximumNorm, null);
    assert.deepEqual(problems(good, ['training.epocs=3']).slice(0, 1), [
      '--set training.epocs: config.training.epocs: unknown key `epocs`. Did you mean `epochs`? Known: epochs, rowsPerStep, learningRate, schedule, warmupShare, optimiser, maximumNorm, loss, maximumLength, stepsPerCheckpoint, checkpoint, stepsPerEvaluation',
    ]);
    assert.match(
      problems(good, ['training.epochs=two'])[0] ?? '',
      /^--set training\.epochs: config\.training\.epochs: expected a number, came "two"/,
    );
    assert.throws(() => run(good, ['training']), /--set training: expected KEY=VALUE/);
    assert.throws(() => run(good, ['name.first=x']), /--set name\.first=x: there is no such place/);
  });
});

/** What stands in the config · what replaces it · the problem it must be. */
const mistakes: readonly (readonly [from: string, to: string, problem: RegExp])[] = [
  // keys
  ['rank: 4', 'rnak: 4', /^trial\.yaml:6: config\.student\.parameters\.rnak: unknown key `rnak`\. Did you mean `rank`\?/],
  ['student:', 'studnet:', /^trial\.yaml:4: config\.studnet: unknown key `studnet`\. Did you mean `student`\?/],
  ['name: trial\n', '', /^trial\.yaml(:1)?: config\.name: missing\. Expected a text$/],
  ['  model: models/here\n', '', /^trial\.yaml:4: config\.student\.model: missing\. Expected a text$/],
  [
    'arms:',
    'training: { learningrate: 1 }\narms:',
    /config\.training\.learningrate: unknown key `learningrate`\. Did you mean `learningRate`\?/,
  ],
  // types and values
  ['name: trial', 'name: 3', /^trial\.yaml:1: config\.name: expected a text, came 3\. Put it in quotes: '3'$/],
  ['name: trial', 'name: a b', /^trial\.yaml:1: config\.name: expected letters and digits, .*, came "a b"$/],
  ['rank: 4', 'rank: 0', /^trial\.yaml:6: config\.student\.parameters\.rank: expected at least 1, came 0$/],
  ['rank: 4', 'rank: 1.5', /^trial\.yaml:6: config\.student\.parameters\.rank: expected a whole number, came 1\.5$/],
  ['rank: 4', 'rank: 4, targets: []', /config\.student\.parameters\.targets: is empty$/],
  [
    'kind: lora',
    'kind: lroa',
    /^trial\.yaml:6: config\.student\.parameters\.kind: expected one of lora, all; came "lroa"\. Did you mean lora\?$/,
  ],
  [
    'name: gsm8k',
    'name: gsm8',
    /^trial\.yaml:2: config\.task\.name: expected one of gsm8k, word-problems, jsonl; came "gsm8"\. Did you mean gsm8k\?$/,
  ],
  ['name: gsm8k', 'nome: gsm8k', /config\.task\.name: expected one of gsm8k, word-problems, jsonl; missing/],
  ['student:', 'student: x\nold:', /^trial\.yaml:4: config\.student: expected keys and values, came "x"/],
  ['arms:', 'seeds: 1\narms:', /^trial\.yaml:7: config\.seeds: expected a list, came 1$/],
  ['arms:', 'seeds: [1, 1]\narms:', /^trial\.yaml:7: config\.seeds: the same seed twice/],
  ['arms:', 'evaluation: { teacher: yes }\narms:', /config\.evaluation\.teacher: expected true or false, came "yes"/],
  ['arms:', 'training: { learningRate: 0 }\narms:', /config\.training\.learningRate: expected more than 0, came 0$/],
  ['arms:', 'sampling: { topP: 1.1 }\narms:', /config\.sampling\.topP: expected at most 1, came 1\.1$/],
  // paths
  ['../data/gsm8k', '${DATA}/gsm8k', /^trial\.yaml:2: config\.task\.folder: the environment variable DATA is not set\. Set it/],
  ['../data/gsm8k', '${EMPTY}/gsm8k', /config\.task\.folder: the environment variable EMPTY is not set/],
  [
    '{ kind: local, model: models/here }',
    '{ kind: local, model: "${DATA}/x" }',
    /^trial\.yaml:3: config\.teacher\.model: the environment variable DATA/,
  ],
  ['"../data/gsm8k"', '${DATA}/gsm8k', /^trial\.yaml:2: config: not YAML: .*\. Inside braces a text with \$\{…\} needs quotes$/],
  // arms
  ['[none,', '[nome,', /^trial\.yaml:7: config\.arms\[0\]: expected one of none, teacher, .*; came "nome"\. Did you mean none\?$/],
  ['[none,', '[7, none,', /^trial\.yaml:7: config\.arms\[0\]: expected one of none, .*; came 7\.$/],
  ['[none,', '[none, none,', /^trial\.yaml:7: config\.arms\[1\]: a second arm is called none\./],
  [
    '{ shuffled: none }',
    '{ shuffled: golt }',
    /config\.arms\[3\]: shuffles the answers of golt, .* Did you mean gold\? Arms: none, teacher, gold$/,
  ],
  ['{ shuffled: none }', '{ shufled: none }', /config\.arms\[3\]\.shufled: unknown key `shufled`\. Did you mean `shuffled`\?/],
  ['gold,', '{ name: gold, text: x },', /config\.arms\[2\]: the name gold is taken\./],
  ['gold,', '{ name: My Arm, text: x },', /config\.arms\[2\]\.name: expected lower-case letters and digits, .*, came "My Arm"$/],
  [
    'gold,',
    '{ name: mine, text: x, placement: midle },',
    /config\.arms\[2\]\.placement: expected one of system, before, after; came "midle"\./,
  ],
  // what no key is wrong in by itself
  ['teacher: { kind: local, model: models/here }\n', '', /^trial\.yaml:6: config\.arms\[0\]: the arm none needs a teacher/],
  ['arms:', 'training: { loss: { name: distillation } }\nx: 1\narms:', /config\.x: unknown key/],
  ['arms:', 'comparison: { baseline: nune }\narms:', /config\.comparison\.baseline: no arm is called nune\. Did you mean none\?/],
  [
    'arms:',
    'search: { epochs: [1, 2] }\narms:',
    /config\.search: settings are chosen on development questions, and task\.development\.limit is 0$/,
  ],
  [
    'gsm8k" }',
    'gsm8k", development: { limit: 5 } }',
    /config\.task\.development\.limit: the development questions follow those trained on/,
  ],
  ['arms:', 'training: { checkpoint: best }\narms:', /config\.training\.checkpoint: the best weights are those with the least loss/],
  ['arms:', 'search: { alpha: [0.5] }\narms:', /config\.search\.alpha: this is of the distillation loss, and no student is trained by it/],
  ['arms:', 'departures: [chosen-on-test]\narms:', /config\.departures: chosen-on-test is about a search, and this config has none/],
  ['arms:', 'departures: [raw-txt]\narms:', /config\.departures\[0\]: expected one of .*; came "raw-txt"\. Did you mean raw-text\?/],
  ['gold,', '{ gold: teacher },', /config\.arms\[2\]: without a teacher's logits this is the arm gold over again/],
  ['arms:', 'methods: [{ name: a }, { name: a }]\narms:', /config\.methods\[1\]\.name: a second method is called a\./],
  ['arms:', 'methods: [{ name: a, arms: [golt] }]\narms:', /config\.methods\[0\]\.arms\[0\]: no arm is called golt\. Did you mean gold\?/],
  [
    'arms:',
    'search: { learningRate: [1, 2] }\nmethods: [{ name: a }, { name: b, search: { learningRate: [1] } }]\narms:',
    /config\.methods\[1\]: 1 candidates against the 2 of a: what is compared must be searched with the same budget/,
  ],
  [
    'arms:',
    'methods: [{ name: b, search: { learningRate: [1] } }]\narms:',
    /config\.methods\[0\]\.search: these are in place of lists of `search`, which the config does not have/,
  ],
  // the text itself
  ['name: trial', 'name: *other', /not YAML: Unresolved alias/],
  ['name: trial', 'name: trial\nname: again', /^trial\.yaml:2: config: not YAML: Map keys must be unique/],
  ['arms: [', 'arms: [[', /^trial\.yaml:\d+: config: not YAML: /],
];

describe('the examples', () => {
  const root = join(import.meta.dirname, '..');
  const names = readdirSync(join(root, 'examples')).filter((name) => name.endsWith('.yaml'));
  for (const name of names) {
    it(`${name} is a config`, () => {
      const text = readFileSync(join(root, 'examples', name), 'utf8');
      const environment = { RETORT_DATA: '/data', RETORT_MODELS: '/models' };
      parseRunConfig({ text, file: name }, { folder: join(root, 'examples'), environment, isThere: () => true });
    });
  }

  it('of the paper: one departs from a sound protocol and says how, the other does not', () => {
    const paper = (name: string) => {
      const text = readFileSync(join(root, 'examples', name), 'utf8');
      const environment = { RETORT_DATA: '/data', RETORT_MODELS: '/models' };
      return parseRunConfig({ text, file: name }, { folder: join(root, 'examples'), environment, isThere: () => true }).config;
    };
    const [published, corrected] = [paper('paper-2412.17846-as-published.yaml'), paper('paper-2412.17846.yaml')];
    assert.deepEqual([...(published.departures ?? [])].sort(), Object.keys(departures).sort());
    assert.equal(corrected.departures, undefined);
    // The numbers that the paper names.
    const { training, student, seeds, evaluation } = published;
    assert.deepEqual(training.loss, { name: 'distillation', alpha: 0.609, temperature: 5.94 });
    assert.deepEqual(training.optimiser, { name: 'sgd', momentum: 0.9, weightDecay: 0.01 });
    assert.deepEqual([training.learningRate, training.epochs, training.rowsPerStep, seeds.length], [5e-6, 2, 1, 1]);
    assert.deepEqual([evaluation.maximumTokens, evaluation.temperature, evaluation.topP], [350, 0.6, 0.9]);
    assert.deepEqual(corrected.student.parameters, student.parameters);
    assert.ok(corrected.seeds.length >= 5);
    const [distilled, tuned] = methodsOf(published);
    assert.ok(distilled !== undefined && tuned !== undefined);
    assert.equal(choicesOf(distilled, published).length, 1);
    assert.equal(candidatesOf(distilled.search ?? {}, distilled.training, 0).length, 35);
    assert.deepEqual(choicesOf(tuned, published), [], 'there is nothing to choose of plain fine-tuning');
  });
});

describe('a mistake in a config', () => {
  for (const [from, to, problem] of mistakes) {
    it(`${JSON.stringify(from)} → ${JSON.stringify(to)}`, () => {
      assert.ok(good.includes(from), 'the table must change something');
      const found = problems(good.replace(from, to));
      assert.ok(
        found.some((text) => problem.test(text)),
        `expected ${problem}, found:\n${found.join('\n') || 'no problem at all'}`,
      );
    });
  }

  it('does not hide the others: all of them are listed', () => {
    const text = good.replace('rank: 4', 'rnak: 4').replace('gsm8k, folder', 'gsm8k, fodler').replace('[none', '[nome');
    assert.deepEqual(
      problems(text).map((problem) => problem.split(': ')[1]),
      ['config.task.fodler', 'config.student.parameters.rnak', 'config.arms[0]'],
    );
  });

  it('needs a local teacher for a distillation loss', () => {
    const remote = good.replace('{ kind: local, model: models/here }', '{ kind: openai-compatible, baseUrl: "http://x/v1", model: m }');
    assert.deepEqual(problems(remote), []);
    assert.match(
      problems(`${remote}training: { loss: { name: distillation } }`)[0] ?? '',
      /config\.training\.loss\.name: distillation needs/,
    );
    assert.deepEqual(problems(`${good}training: { loss: { name: distillation } }`), []);
  });

  it('is said of a text that is no config at all', () => {
    assert.throws(() => run('just words'), /trial\.yaml: expected keys and values/);
    assert.throws(() => run(''), /trial\.yaml: expected keys and values/);
  });
});

describe('a train config', () => {
  const text = 'data: { train: chats.jsonl }\nstudent: { model: m, initialisation: random, parameters: { kind: all } }\noutput: out\n';
  const train = (source: string) => parseTrainConfig({ text: source, file: 'train.yaml' }, surroundings);

  it('gets its defaults', () => {
    const { config } = train(text);
    assert.deepEqual(config.data, {
      train: join(folder, 'chats.jsonl'),
      splits: { train: 'train', development: 'validation', evaluation: 'test' },
      fields: { messages: 'messages', prompt: 'prompt', completion: 'completion' },
      turns: 'all',
    });
    assert.deepEqual(config.student, { model: join(folder, 'm'), initialisation: 'random', parameters: { kind: 'all' } });
    assert.equal(config.seed, 0);
  });

  it('has no best checkpoint without development rows', () => {
    assert.throws(
      () => train(`${text}training: { checkpoint: best }`),
      /the best weights are those with the least loss on development rows: give data\.development/,
    );
  });

  it('has no teacher to distil from', () => {
    assert.throws(() => train(`${text}training: { loss: { name: distillation } }`), /distillation needs a teacher/);
  });
});

describe('the JSON Schemas for editors', () => {
  for (const [name, schema] of Object.entries(configJsonSchemas())) {
    it(`${name} is current`, () => {
      const written: unknown = JSON.parse(readFileSync(join(import.meta.dirname, '..', 'schemas', name), 'utf8'));
      assert.deepEqual(written, JSON.parse(JSON.stringify(schema)), 'out of date: run `npm run schemas`');
    });
  }
});
