import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import fc from 'fast-check';
import { type ArmId, armName, namePart, parseArmName, parseSubjectName, type Subject, subjectName } from '../src/run-folder/arm.ts';
import { canonicalJson, configDifferences, hashOf } from '../src/run-folder/compare-configs.ts';
import { createRun, DifferentRunError, MissingRunError, openRun, type RunBeginning } from '../src/run-folder/run-folder.ts';
import { checkFiles, runStage, stageNames } from '../src/run-folder/stage.ts';

const folderFor = async (t: TestContext): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'retort-run-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
};

const beginning: RunBeginning = {
  configText: 'task: gsm8k # mine\n',
  resolvedConfig: { task: 'gsm8k', arms: ['none', 'teacher'], training: { learningRate: 1e-4 } },
  protocol: {
    task: 'gsm8k',
    instruction: 'x',
    primaryMeasure: 'strict',
    baseline: 'none',
    compared: ['teacher'],
    testQuestionCount: 3,
  },
  versions: { 'retort-kd': '0.1.0', node: '24.0.0', onnxruntime: '1.30.0' },
  machine: { platform: 'linux', architecture: 'x64', processor: 'A', coreCount: 2, memoryBytes: 1024 },
};

describe('an arm’s name', () => {
  const part = fc.stringMatching(/^[a-z0-9]{1,6}([-._][a-z0-9]{1,4}){0,2}$/);

  it('reads back as it was written (law)', () => {
    fc.assert(
      fc.property(part, part, part, fc.nat(), (source, method, student, seed) => {
        const arm: ArmId = { source, method, student, seed };
        assert.deepEqual(parseArmName(armName(arm)), arm);
      }),
    );
  });

  it('of every kind of subject reads back, and no two subjects share one (law)', () => {
    const subject: fc.Arbitrary<Subject> = fc.oneof(
      fc
        .record({ source: part, method: part, student: part, seed: fc.nat() }, { noNullPrototype: true })
        .map((arm): Subject => ({ kind: 'arm', arm })),
      fc.record({ kind: fc.constant('untouched' as const), student: part, variant: part }, { requiredKeys: ['kind', 'student'] }),
      fc.record({ kind: fc.constant('teacher' as const), variant: part }, { requiredKeys: ['kind'] }),
    );
    fc.assert(fc.property(subject, (one) => assert.deepEqual(parseSubjectName(subjectName(one)), { ...one })));
  });

  it('refuses what would be ambiguous or leave the folder', () => {
    for (const source of ['a--b', '../x', 'A', '', 'a/b', '-a', 'a b']) {
      assert.throws(() => armName({ source, method: 'm', student: 's', seed: 0 }), /source of an arm/);
    }
    assert.throws(() => armName({ source: 'a', method: 'm', student: 's', seed: 0.5 }), /whole number/);
    for (const name of ['a--b--c', 'a--b--c--seed-01', 'a--b--c--seed--1', 'a--b--c--seed-0--d', 'untouched', 'teacher--a--b']) {
      assert.equal(parseSubjectName(name), undefined, name);
    }
  });

  it('takes the nearest allowed name of a free text', () => {
    assert.equal(namePart('SmolLM2 135M (Instruct)'), 'smollm2-135m-instruct');
    assert.equal(namePart('Café_v2'), 'cafe_v2');
    assert.throws(() => namePart('…'), /at least one Latin letter or digit/);
  });
});

describe('a run’s folder', () => {
  it('holds the config as given, the resolved one, and who ran it', async (t) => {
    const folder = join(await folderFor(t), 'a');
    const run = await createRun(folder, beginning);
    assert.equal(await readFile(join(folder, 'config.yaml'), 'utf8'), beginning.configText);
    assert.deepEqual(JSON.parse(await readFile(join(folder, 'config.resolved.json'), 'utf8')), beginning.resolvedConfig);
    const manifest = await run.manifest();
    assert.equal(manifest.formatVersion, 1);
    assert.deepEqual(manifest.sessions[0]?.machine, beginning.machine);
    assert.deepEqual(manifest.sessions[0]?.versions, beginning.versions);
    assert.equal((await openRun(folder)).name, 'a');
  });

  it('continues the same config, whatever the order of its keys', async (t) => {
    const folder = join(await folderFor(t), 'a');
    await createRun(folder, beginning);
    const run = await createRun(folder, {
      ...beginning,
      resolvedConfig: { training: { learningRate: 1e-4 }, arms: ['none', 'teacher'], task: 'gsm8k' },
    });
    const manifest = await run.manifest();
    assert.equal(manifest.sessions.length, 2);
    assert.deepEqual(manifest.warnings, []);
  });

  it('refuses another config and says what differs', async (t) => {
    const folder = join(await folderFor(t), 'a');
    await createRun(folder, beginning);
    const other = { ...beginning, resolvedConfig: { task: 'gsm8k', arms: ['none'], training: { learningRate: 2e-4, epochs: 1 } } };
    await assert.rejects(createRun(folder, other), (error: unknown) => {
      assert.ok(error instanceof DifferentRunError);
      assert.match(error.message, /arms\[1\]: "teacher" in the run, absent now/);
      assert.match(error.message, /training\.epochs: absent in the run, 1 now/);
      assert.match(error.message, /training\.learningRate: 0\.0001 in the run, 0\.0002 now/);
      return true;
    });
  });

  it('goes on under another value of what decides no result, writes it down, and still refuses anything else', async (t) => {
    const folder = join(await folderFor(t), 'a');
    const given = { ...beginning, mayChange: ['collection'] };
    await createRun(folder, { ...given, resolvedConfig: { collection: { budget: { usd: 1 } }, task: 'gsm8k' } });
    const raised = { ...given, configText: 'raised', resolvedConfig: { collection: { budget: { usd: 2 } }, task: 'gsm8k' } };
    const run = await createRun(folder, raised);
    assert.deepEqual(await run.resolvedConfig(), raised.resolvedConfig);
    assert.equal((await run.manifest()).configHash, hashOf(raised.resolvedConfig));
    assert.equal(await readFile(run.paths.config, 'utf8'), 'raised');
    await createRun(folder, raised);
    for (const resolvedConfig of [
      { ...raised.resolvedConfig, task: 'other' },
      { ...raised.resolvedConfig, collections: 1 },
    ])
      await assert.rejects(createRun(folder, { ...raised, resolvedConfig }), DifferentRunError);
  });

  it('warns, once, when it is continued under other versions or on another machine', async (t) => {
    const folder = join(await folderFor(t), 'a');
    await createRun(folder, beginning);
    const elsewhere = { ...beginning, versions: { ...beginning.versions, onnxruntime: '1.31.0' } };
    await createRun(folder, elsewhere);
    const { warnings } = await (await createRun(folder, elsewhere)).manifest();
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]?.message ?? '', /versions\.onnxruntime "1\.30\.0" → "1\.31\.0"/);
  });

  it('does not take over a folder that holds something else', async (t) => {
    const folder = await folderFor(t);
    await writeFile(join(folder, 'thesis.tex'), '');
    await assert.rejects(createRun(folder, beginning), /holds no run .*thesis\.tex/);
    await assert.rejects(createRun(join(folder, 'thesis.tex'), beginning), /Cannot use .*thesis\.tex/);
  });

  it('is begun anew when a process was killed before the manifest was written', async (t) => {
    const folder = await folderFor(t);
    await writeFile(join(folder, 'config.yaml'), 'half');
    const run = await createRun(folder, beginning);
    assert.equal(await readFile(run.paths.config, 'utf8'), beginning.configText);
  });

  it('that is missing is an error that names the runs nearby', async (t) => {
    const folder = await folderFor(t);
    await createRun(join(folder, 'gsm8k-a'), beginning);
    await mkdir(join(folder, 'no-run'));
    await assert.rejects(openRun(join(folder, 'gsm8k-b')), (error: unknown) => {
      assert.ok(error instanceof MissingRunError);
      assert.deepEqual(error.known, ['gsm8k-a']);
      assert.match(error.message, /Did you mean gsm8k-a\?/);
      return true;
    });
  });

  it('refuses a manifest that is newer, damaged or not one', async (t) => {
    const folder = join(await folderFor(t), 'a');
    const run = await createRun(folder, beginning);
    const text = await readFile(run.paths.manifest, 'utf8');
    await writeFile(run.paths.manifest, text.replace('"formatVersion": 1', '"formatVersion": 2'));
    await assert.rejects(openRun(folder), /format 2; this version of retort reads format 1/);
    await writeFile(run.paths.manifest, text.replace('"stages"', '"stagse"'));
    await assert.rejects(openRun(folder), /stagse/);
    await writeFile(run.paths.manifest, text.slice(0, 40));
    await assert.rejects(openRun(folder), /not JSON/);
    await writeFile(run.paths.manifest, '{"name": "some-package"}');
    await assert.rejects(openRun(folder), /not the manifest of a run/);
  });

  it('loses no record when many are made at once', async (t) => {
    const run = await createRun(join(await folderFor(t), 'a'), beginning);
    await Promise.all(Array.from({ length: 20 }, (_, index) => run.warn('s', `w${index % 10}`)));
    const { warnings } = await run.manifest();
    assert.deepEqual(
      warnings.map((warning) => warning.message).sort(),
      Array.from({ length: 10 }, (_, index) => `w${index}`),
    );
  });
});

describe('a stage', () => {
  const arm: ArmId = { source: 'none', method: 'lora', student: 's', seed: 0 };
  const name = stageNames.train(arm);

  it('is done once; its facts and the hashes of its files are kept', async (t) => {
    const run = await createRun(join(await folderFor(t), 'a'), beginning);
    let count = 0;
    const train = async () => {
      count++;
      const { adapter } = run.paths.student(arm);
      await mkdir(adapter, { recursive: true });
      await writeFile(join(adapter, 'adapter_config.json'), '{}');
      return { files: [adapter], facts: { stepCount: 4 } };
    };
    assert.deepEqual(await runStage(run, { name, key: { rate: 1 } }, train), { facts: { stepCount: 4 }, wasDone: false });
    assert.deepEqual(await runStage(run, { name, key: { rate: 1 } }, train), { facts: { stepCount: 4 }, wasDone: true });
    assert.equal(count, 1);
    const file = 'students/none--lora--s--seed-0/adapter/adapter_config.json';
    const { files } = await run.manifest();
    assert.deepEqual(files, { [file]: { sha256: createHash('sha256').update('{}').digest('hex'), sizeBytes: 2 } });

    await runStage(run, { name, key: { rate: 2 } }, train);
    assert.equal(count, 2, 'another key: done anew');
    await rm(join(run.path, file));
    await runStage(run, { name, key: { rate: 2 } }, train);
    assert.equal(count, 3, 'its file is gone: done anew');
  });

  it('that fails is recorded, and tried again with the record of the attempt', async (t) => {
    const run = await createRun(join(await folderFor(t), 'a'), beginning);
    const failing = runStage(run, { name, key: 1 }, () => Promise.reject(new Error('teacher is ill')));
    await assert.rejects(failing, /teacher is ill/);
    assert.equal((await run.manifest()).stages[name]?.status, 'failed');
    assert.equal((await run.manifest()).stages[name]?.error, 'teacher is ill');
    await runStage(run, { name, key: 1 }, async ({ record, isSameKey }) => {
      assert.equal(record?.status, 'failed');
      assert.equal(isSameKey, true);
      return { files: [], facts: {} };
    });
    assert.equal((await run.manifest()).stages[name]?.status, 'done');
  });

  it('that is stopped is no failure: it stays begun', async (t) => {
    const run = await createRun(join(await folderFor(t), 'a'), beginning);
    const stopped = runStage(run, { name, key: 1 }, async () => {
      AbortSignal.abort().throwIfAborted();
      return { files: [], facts: {} };
    });
    await assert.rejects(stopped, { name: 'AbortError' });
    assert.equal((await run.manifest()).stages[name]?.status, 'started');
  });

  it('leaves files that are checked: edited and lost ones are found', async (t) => {
    const run = await createRun(join(await folderFor(t), 'a'), beginning);
    await runStage(run, { name, key: 1 }, async () => {
      await writeFile(join(run.path, 'a.jsonl'), 'a');
      await writeFile(join(run.path, 'b.jsonl'), 'b');
      await writeFile(join(run.path, 'c.jsonl'), 'c');
      return { files: ['a.jsonl', 'b.jsonl', 'c.jsonl'], facts: {} };
    });
    assert.deepEqual(await checkFiles(run), []);
    await writeFile(join(run.path, 'a.jsonl'), 'A');
    await rm(join(run.path, 'b.jsonl'));
    assert.deepEqual(await checkFiles(run), [
      { file: 'a.jsonl', problem: 'changed' },
      { file: 'b.jsonl', problem: 'missing' },
    ]);
  });
});

describe('comparing configs', () => {
  it('finds no difference exactly where the canonical texts agree (law)', () => {
    const json = fc.jsonValue({ maxDepth: 3, noUnicodeString: true }).map((value) => JSON.parse(JSON.stringify(value)));
    fc.assert(
      fc.property(json, json, (a, b) => {
        assert.equal(configDifferences(a, b).length === 0, canonicalJson(a) === canonicalJson(b));
        assert.equal(configDifferences(a, structuredClone(a)).length, 0);
      }),
    );
  });

  it('hashes a value whatever the order of its keys', () => {
    assert.equal(hashOf({ a: 1, b: [1, { c: 2, d: 3 }] }), hashOf({ b: [1, { d: 3, c: 2 }], a: 1 }));
    // sha256 of the text {"a":1}, from sha256sum
    assert.equal(hashOf({ a: 1 }), '015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862');
  });
});
