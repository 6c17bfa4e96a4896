import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { z } from 'zod';
import { summariseRun } from '../src/evaluation/summarise-run.ts';
import type { RunSummary } from '../src/evaluation/summary.ts';
import { reportJsonSchema, summarySchema } from '../src/evaluation/summary-schema.ts';
import { methodsParagraph } from '../src/report/methods-paragraph.ts';
import { renderRuns } from '../src/report/render-runs.ts';
import { renderJson, renderMarkdown, renderTerminal, tableLines } from '../src/report/render-text.ts';
import { openingsText } from '../src/report/sections.ts';
import type { Subject } from '../src/run-folder/arm.ts';
import { type SampleRunOptions, sampleAnswers, writeSampleRun } from './sample-run.ts';

const sampleRun = async (t: TestContext, options: SampleRunOptions = {}) => {
  const folder = await mkdtemp(join(tmpdir(), 'retort-report-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return writeSampleRun(join(folder, 'run'), options);
};

const isSource = (subject: Subject, source: string): boolean => subject.kind === 'arm' && subject.arm.source === source;

const armOf = (source: string, seed: number): Subject => ({ kind: 'arm', arm: { source, method: 'lora', student: 'smollm2', seed } });

const rowOf = (summary: RunSummary, name: string) => {
  const row = summary.rows.find((candidate) => candidate.name === name);
  assert.ok(row !== undefined, `no row ${name}`);
  return row;
};

describe('the summary of a run', () => {
  it('has a row for each arm and seed, the untouched student and the teacher, counted from the answers', async (t) => {
    const options: SampleRunOptions = { accuracy: (subject) => (isSource(subject, 'teacher') ? 0.7 : 0.4) };
    const summary = await summariseRun(await sampleRun(t, options));
    assert.deepEqual(
      summary.rows.map(({ name }) => name),
      [
        'none--lora--smollm2--seed-0',
        'none--lora--smollm2--seed-1',
        'teacher--lora--smollm2--seed-0',
        'teacher--lora--smollm2--seed-1',
        'gold--lora--smollm2--seed-0',
        'gold--lora--smollm2--seed-1',
        'untouched--smollm2',
        'teacher',
      ],
    );
    const ours = sampleAnswers(armOf('teacher', 1), options);
    const baseline = sampleAnswers(armOf('none', 1), options);
    const untouched = sampleAnswers({ kind: 'untouched', student: 'smollm2' }, options);
    const row = rowOf(summary, 'teacher--lora--smollm2--seed-1');
    assert.equal(row.strict.count, ours.filter(({ strict }) => strict).length);
    assert.equal(row.strict.total, 60);
    assert.equal(row.format.followsFormatCount, ours.filter(({ followsFormat }) => followsFormat).length);
    assert.equal(row.format.cutOffCount, 6, 'every tenth of 60');
    assert.equal(
      row.format.tokenCount,
      ours.reduce((sum, { tokenCount }) => sum + (tokenCount ?? 0), 0),
    );
    // against the baseline's student of the same seed, and against the untouched one
    const onlyOurs = (other: typeof ours) => ours.filter(({ strict }, index) => strict && other[index]?.strict === false).length;
    const onlyTheirs = (other: typeof ours) => ours.filter(({ strict }, index) => !strict && other[index]?.strict === true).length;
    assert.equal(row.versusBaseline?.strict.onlyFirstCount, onlyOurs(baseline));
    assert.equal(row.versusBaseline?.strict.onlySecondCount, onlyTheirs(baseline));
    assert.equal(row.versusUntouched?.strict.onlyFirstCount, onlyOurs(untouched));
    assert.equal(row.training?.trainedTokenCount, 31000);
    const group = summary.groups.find(({ label }) => label === 'teacher');
    const first = rowOf(summary, 'teacher--lora--smollm2--seed-0');
    assert.equal(group?.strict.mean, (first.strict.count / 60 + row.strict.count / 60) / 2);
    assert.equal(group?.trainedTokenCount, 62000);
    const sums = [first, row].map(({ likelihood }) => (likelihood?.logLikelihood ?? 0) / (likelihood?.tokenCount ?? 1));
    assert.ok(Math.abs((group?.likelihood?.mean ?? 0) - ((sums[0] ?? 0) + (sums[1] ?? 0)) / 2) < 1e-12);
    assert.deepEqual(summary.unfinished, []);
    assert.deepEqual(summary.warnings, []);
  });

  it('corrects the planned family and nothing else', async (t) => {
    const summary = await summariseRun(
      await sampleRun(t, { sources: ['none', 'teacher', 'confidence', 'gold'], compared: ['teacher', 'confidence'] }),
    );
    const planned = summary.comparisons.filter(({ isPlanned }) => isPlanned);
    assert.deepEqual(
      planned.map(({ first, second, measure }) => [first, second, measure]),
      [
        ['teacher', 'none', 'strict'],
        ['confidence', 'none', 'strict'],
      ],
    );
    const smallest = planned.toSorted((a, b) => a.pValue - b.pValue)[0];
    assert.equal(smallest?.adjustedPValue, Math.min(1, 2 * (smallest?.pValue ?? 1)), 'Holm’s first step of two');
    assert.ok(summary.comparisons.filter(({ isPlanned }) => !isPlanned).every(({ adjustedPValue }) => adjustedPValue === undefined));
  });

  it('compares only the questions that all rows answered, and says so', async (t) => {
    const run = await sampleRun(t);
    const path = run.paths.answers(armOf('gold', 0));
    const lines = (await readFile(path, 'utf8')).split('\n');
    await writeFile(path, `${lines.slice(0, 50).join('\n')}\n`);
    const summary = await summariseRun(run);
    assert.equal(summary.questionCount, 50);
    assert.ok(summary.rows.every(({ strict }) => strict.total === 50));
    assert.match(summary.warnings.join('\n'), /of up to 60, the 50 that all have in common/);
    assert.match(summary.warnings.join('\n'), /gold--lora--smollm2--seed-0\.jsonl was changed after it was finished/);
  });

  it('takes a question with another text for another question', async (t) => {
    const run = await sampleRun(t);
    const path = run.paths.answers(armOf('gold', 0));
    const text = await readFile(path, 'utf8');
    const hash = JSON.parse(text.split('\n')[0] ?? '').questionHash;
    await writeFile(
      path,
      text.replace(
        hash,
        hash.replace(/^./, (digit: string) => (digit === '0' ? '1' : '0')),
      ),
    );
    assert.equal((await summariseRun(run)).questionCount, 59);
  });

  it('says which answers were edited after they were scored, and which lines are no records', async (t) => {
    const run = await sampleRun(t);
    const path = run.paths.answers({ kind: 'teacher' });
    await writeFile(path, (await readFile(path, 'utf8')).replace('"strict":false', '"strict":true'));
    assert.match((await summariseRun(run)).warnings[0] ?? '', /evaluations\/teacher\.jsonl was changed/);
    await appendFile(path, '{"id":"q99"}\n');
    await assert.rejects(summariseRun(run), /teacher\.jsonl:61: not a record of an answer/);
  });

  it('of an unfinished run says what is missing', async (t) => {
    const summary = await summariseRun(await sampleRun(t, { failing: 'gold--lora--smollm2--seed-1' }));
    assert.deepEqual(summary.unfinished, [
      { stage: 'train--gold--lora--smollm2--seed-1', state: 'failed', error: 'the loss is not a number at step 12' },
      { stage: 'evaluate--gold--lora--smollm2--seed-1', state: 'not begun' },
      { stage: 'likelihood--gold--lora--smollm2--seed-1', state: 'not begun' },
    ]);
    assert.match(summary.headline, /^So far \(the run is not finished\): /);
    assert.equal(summary.groups.find(({ label }) => label === 'gold')?.strict.seedCount, 1);
  });

  it('says what was chosen among what, and warns where that was after the test questions were opened', async (t) => {
    const run = await sampleRun(t);
    const candidates = [
      { learningRate: 0.1, epochs: 1, developmentLoss: null, lost: 'The gradient of step 3 is not finite' },
      { learningRate: 0.001, epochs: 1, developmentLoss: 1.25, stepCount: 8, trainedTokenCount: 900 },
    ];
    const facts = { candidates, learningRate: 0.001, epochs: 1, arm: 'gold', rowCount: 64, judgingRowCount: 32, judgedOn: 'development' };
    const chosenAt = (finishedAt: string) =>
      run.update((manifest) => ({
        ...manifest,
        stages: { ...manifest.stages, choose: { status: 'done', key: 'k', startedAt: finishedAt, finishedAt, files: [], facts } },
      }));
    // The test questions of the sample were opened at 03:04:05.
    await chosenAt('2026-01-02T03:04:04Z');
    const summary = await summariseRun(run);
    assert.deepEqual(summary.searches, [{ stage: 'choose', ...facts }]);
    assert.deepEqual(summary.warnings, []);
    const text = renderTerminal(summary, 140);
    assert.match(text, /2 candidates, each trained on 64 rows of gold and judged by the loss on 32 development questions/);
    assert.match(text, /learning rate 0\.001, epochs 1 +1\.2500 +8 +900 +chosen/);
    assert.match(text, /learning rate 0\.1, epochs 1 +– +– +– +lost: The gradient of step 3 is not finite/);
    assert.match(
      methodsParagraph(summary).text,
      /Settings were chosen among 2 candidates, trained on the answers of “gold”, by the loss of the solutions of 32 development questions/,
    );
    await chosenAt('2026-01-02T03:04:06Z');
    assert.match(
      (await summariseRun(run)).warnings.join('\n'),
      /choose: settings were frozen at .*06Z, after the test questions had been opened at .*05/,
    );
  });

  it('tells answers that never stop from those that are cut off under way', async (t) => {
    const summary = await summariseRun(
      await sampleRun(t, {
        sources: ['none'],
        compared: [],
        // The sample's extraction is 7 where it is right: those others end where their answer does.
        textOf: ({ kind }, id, isRight) => (kind === 'arm' && id === 'q10' ? `#### 8\n${'and on '.repeat(9)}` : `#### ${isRight ? 7 : 8}`),
      }),
    );
    const group = summary.groups.find(({ label }) => label === 'none');
    // Every tenth of 60 questions is cut off in each of two seeds, and one of these goes on and on.
    assert.deepEqual([group?.format.cutOffCount, group?.format.neverStopsCount, group?.format.knownEndCount], [12, 2, 120]);
    assert.match(renderTerminal(summary, 140), /no end/);
    assert.match(renderMarkdown(summary), /1\.7 %/);
    assert.doesNotMatch(renderTerminal(await summariseRun(await sampleRun(t)), 140), /no end/);
  });

  it('is the same each time, and plain JSON', async (t) => {
    const run = await sampleRun(t);
    const summary = await summariseRun(run);
    assert.deepEqual(JSON.parse(renderJson(summary)), summary);
    assert.equal(renderJson(await summariseRun(run)), renderJson(summary));
  });
});

describe('the JSON Schema of a report', () => {
  const written: unknown = JSON.parse(readFileSync(join(import.meta.dirname, '..', 'schemas', 'report.schema.json'), 'utf8'));
  const asWritten = (summary: RunSummary): unknown => JSON.parse(renderJson(summary));

  it('is the one that the code has', () => {
    assert.deepEqual(written, JSON.parse(JSON.stringify(reportJsonSchema())), 'out of date: run `npm run schemas`');
  });

  it('fits reports: finished, of one seed, failed, empty; a number that is no share or a key that nobody knows does not', async (t) => {
    const schema = z.fromJSONSchema(written as Parameters<typeof z.fromJSONSchema>[0]);
    for (const options of [{}, { seedCount: 1 }, { seedCount: 5 }, { failing: 'gold--lora--smollm2--seed-0' }, { questionCount: 1 }]) {
      const summary = asWritten(await summariseRun(await sampleRun(t, options)));
      assert.deepEqual(schema.parse(summary), summary);
      assert.deepEqual(summarySchema.parse(summary), summary);
    }
    const run = await sampleRun(t);
    await run.update((manifest) => ({ ...manifest, stages: {} }));
    schema.parse(asWritten(await summariseRun(run)));
    const summary = await summariseRun(await sampleRun(t));
    assert.ok(!schema.safeParse({ ...summary, questionCount: -1 }).success);
    assert.ok(!schema.safeParse({ ...summary, another: 1 }).success);
    assert.ok(!schema.safeParse({ ...summary, rows: [{ ...summary.rows[0], strict: { count: 1 } }] }).success);
  });
});

describe('the headline', () => {
  it('reads a null result as one, with what could have been found', async (t) => {
    const { headline } = await summariseRun(await sampleRun(t, { seedCount: 5 }));
    assert.match(
      headline,
      /^No difference was found between “teacher” and “none” in strictly right answers: the difference is [+−]?\d+\.\d points \(95 % interval .* to .*\); 60 questions and 5 seeds would find a true difference of \d+\.\d points four times in five\.$/,
    );
  });

  it('names what was found, its size, its interval and its condition', async (t) => {
    const accuracy = (subject: Subject) => (isSource(subject, 'teacher') ? 0.9 : 0.3);
    const { headline } = await summariseRun(
      await sampleRun(t, { sources: ['none', 'teacher', 'confidence'], compared: ['teacher', 'confidence'], accuracy }),
    );
    assert.match(headline, /^Compared with “none”, 1 of 2 planned arms differs in strictly right answers: “teacher” \+\d/);
    assert.match(headline, /p < 0\.001\); 60 questions and 2 seeds, p-values corrected for 2 comparisons\./);
    assert.match(headline, /conditional on these seeds/);
  });

  it('says when a primed student is worse', async (t) => {
    const accuracy = (subject: Subject) => (isSource(subject, 'teacher') ? 0.1 : 0.7);
    const { headline } = await summariseRun(await sampleRun(t, { accuracy, seedCount: 1 }));
    assert.match(headline, /the planned arm differs in strictly right answers: “teacher” −\d/);
    assert.match(headline, /one seed.* conditional on this one seed/);
  });

  it('speaks of the declared measure, whatever another one shows', async (t) => {
    const accuracy = (subject: Subject) => (isSource(subject, 'teacher') ? 0.9 : 0.3);
    const { headline } = await summariseRun(await sampleRun(t, { accuracy, primaryMeasure: 'likelihood', seedCount: 5 }));
    assert.match(headline, /log-likelihood of gold solutions: “teacher” \+0\.\d{3} nats per token/);
  });

  it('claims nothing where nothing was planned, compared or measured', async (t) => {
    assert.match((await summariseRun(await sampleRun(t, { compared: [] }))).headline, /No comparison was planned/);
    assert.match((await summariseRun(await sampleRun(t, { sources: ['gold'] }))).headline, /no student of the baseline arm “none”/);
    const run = await sampleRun(t);
    await run.update((manifest) => ({ ...manifest, stages: {} }));
    const summary = await summariseRun(run);
    assert.equal(summary.headline, 'Nothing has been measured yet.');
    assert.match(renderTerminal(summary), /Not finished\n {2}- collect--none: not begun/);
  });
});

describe('the text of a report', () => {
  it('says how often the test questions were opened', () => {
    const opening = (what: string) => ({ at: '2026-01-02T03:04:05.000Z', what });
    assert.equal(openingsText([]), 'The test questions were not opened.');
    assert.equal(openingsText([opening('a')]), 'The test questions were opened once.');
    assert.equal(openingsText(['a', 'b'].map(opening)), 'The test questions were opened by 2 rows, by each once.');
    assert.equal(
      openingsText(['a', 'b', 'a', 'a'].map(opening)),
      'The test questions were opened 4 times, by 2 rows; continued or repeated: a 3 times.',
    );
  });

  it('claims no detectable difference of 100 points or more', async (t) => {
    const summary = await summariseRun(await sampleRun(t, { questionCount: 2, seedCount: 1 }));
    assert.match(summary.headline, /2 questions and one seed would find no difference four times in five/);
    assert.doesNotMatch(renderTerminal(summary), /1\d\d\.\d {2}points/);
  });

  it('begins with the answer and stays within 120 columns, with 20 arms of long names too', async (t) => {
    const sources = ['none', ...Array.from({ length: 19 }, (_, index) => `a-strategy-of-mine-with-quite-a-long-name-${index}`)];
    const summary = await summariseRun(await sampleRun(t, { sources, compared: sources.slice(1), seedCount: 1 }));
    const text = renderTerminal(summary);
    assert.ok(text.startsWith(summary.headline.slice(0, 60)));
    for (const line of text.split('\n')) assert.ok(line.length <= 120, `${line.length} columns: ${line}`);
    for (const heading of ['Accuracy', 'Planned comparisons', 'Exploratory comparisons', 'Each student by itself', 'Training answers']) {
      assert.ok(text.split('\n').includes(heading), heading);
    }
  });

  it('aligns its columns', () => {
    const table = {
      columns: [
        { name: 'name', align: 'left' as const },
        { name: 'n', align: 'right' as const },
      ],
      rows: [
        ['a', '1'],
        ['abcdef', '234'],
      ],
    };
    assert.deepEqual(tableLines(table, 80), ['name      n', '------  ---', 'a         1', 'abcdef  234']);
    assert.deepEqual(tableLines({ ...table, rows: [['abcdefghijkl', '234']] }, 13), ['name        n', '--------  ---', 'abcdefg…  234']);
  });

  it('lets no text of others act on the terminal or as Markdown', async (t) => {
    const run = await sampleRun(t);
    await run.warn('collect', 'teacher said \u001b[31m<script>alert(1)</script> | **bold**\n# heading');
    const summary = await summariseRun(run);
    assert.ok(!renderTerminal(summary).includes('\u001b'));
    const markdown = renderMarkdown(summary);
    assert.ok(!markdown.includes('\u001b') && !markdown.includes('<script>'));
    assert.ok(markdown.includes('\\<script\\>alert(1)\\</script\\> \\| \\*\\*bold\\*\\* \\# heading'));
    assert.ok(markdown.startsWith(summary.headline.slice(0, 20)));
  });

  it('has Markdown tables whose rows have as many cells as their head', async (t) => {
    const markdown = renderMarkdown(await summariseRun(await sampleRun(t)));
    for (const block of markdown.split('\n\n').filter((part) => part.startsWith('|'))) {
      const counts = block.split('\n').map((line) => line.split(/(?<!\\)\|/).length);
      assert.equal(new Set(counts).size, 1, block.split('\n')[0]);
    }
  });
});

describe('several runs together', () => {
  it('stand beside each other with what their configs differ in, and are compared only over the same questions', async (t) => {
    const first = await sampleRun(t);
    const second = await sampleRun(t, { sources: ['none', 'confidence', 'gold'], compared: ['confidence'] });
    const beside = async (runs: readonly (typeof first)[]) =>
      Promise.all(runs.map(async (run) => ({ summary: await summariseRun(run), resolvedConfig: await run.resolvedConfig() })));
    const text = renderRuns(await beside([first, second]));
    assert.match(text, /^2 runs over the same 60 test questions/);
    assert.match(text, /sources\[1\] +"teacher" +"confidence"/);
    for (const line of text.split('\n').slice(1)) assert.ok(line.length <= 120, line);
    const other = await sampleRun(t, { questionCount: 50 });
    assert.match(renderRuns(await beside([first, other])), /over different test questions: .* must not be compared/);
  });
});
