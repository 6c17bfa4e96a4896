import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { writeSampleRun } from './sample-run.ts';

/** `retort report` and `retort compare` as processes, on a made-up run. */
const main = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');
const folder = mkdtempSync(join(tmpdir(), 'retort-report-command-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const retort = (...commandLine: readonly string[]) =>
  spawnSync(process.execPath, [main, ...commandLine], { cwd: folder, encoding: 'utf8' });

describe('retort report and compare', () => {
  before(async () => {
    await writeSampleRun(join(folder, 'one'));
    await writeSampleRun(join(folder, 'two'), { sources: ['none', 'gold'], compared: [] });
  });

  it('print the summary, as JSON where a program asks', () => {
    const text = retort('report', 'one');
    assert.equal(text.status, 0, text.stderr);
    assert.match(text.stdout, /^(No difference was found|Compared with “none”)/);
    const summary = JSON.parse(retort('report', 'one', '--json').stdout);
    assert.equal(summary.schemaVersion, 1);
    assert.equal(summary.questionCount, 60);
  });

  it('write the page, and check it: 0 where all agrees, 1 where an answer was edited', () => {
    const written = retort('report', 'one', '--page');
    assert.equal(written.status, 0, written.stderr);
    assert.match(readFileSync(join(folder, 'one', 'report', 'index.html'), 'utf8'), /^<!doctype html>/);
    assert.equal(retort('report', 'one', '--check').status, 0);
    const path = join(folder, 'one', 'evaluations', 'teacher.jsonl');
    writeFileSync(path, readFileSync(path, 'utf8').replace('#### 7', '#### 9'));
    const checked = retort('report', 'one', '--check');
    assert.equal(checked.status, 1);
    assert.match(
      checked.stdout,
      /evaluations\/teacher\.jsonl \(changed\).*Of 480 answers 1 have other scores than their text: teacher q\d+/,
    );
    assert.match(checked.stderr, /^The run one does not agree with itself/);
  });

  it('put several runs together', () => {
    const { status, stdout, stderr } = retort('report', 'one', 'two');
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^2 runs over the same 60 test questions/);
    assert.equal(retort('report', 'one', 'two', '--check').status, 1);
    assert.match(retort('report', 'one', 'two', '--page').stderr, /--output FILE\.html/);
    assert.match(retort('report', 'one', '--page', '--output', 'x.html').stderr, /several folders/);
    const page = retort('report', 'one', 'two', '--page', '--output', 'both.html');
    assert.equal(page.status, 0, page.stderr);
    const written = readFileSync(join(folder, 'both.html'), 'utf8');
    assert.match(written, /<h1>2 runs over the same 60\u00a0questions?|<h1>2 runs over the same 60 test questions/);
    assert.match(written, /role="img" aria-label="Per cent of test questions right, [^"]*gold [\d.]+ strict/);
    assert.match(written, /<td>sources\[1\]<\/td><td>&#34;teacher&#34;<\/td><td>&#34;gold&#34;<\/td>/);
    assert.ok(!written.includes('<script'));
  });

  it('compare files, seeds with commas between them', () => {
    const file = (source: string, seed: number) => `two/evaluations/${source}--lora--smollm2--seed-${seed}.jsonl`;
    const seeds = (source: string) => [0, 1].map((seed) => file(source, seed)).join(',');
    const { status, stdout, stderr } = retort('compare', seeds('gold'), seeds('none'), '--json');
    assert.equal(status, 0, stderr);
    assert.equal(JSON.parse(stdout).scores.strict.difference.seedCount, 2);
    assert.match(retort('compare', file('gold', 0), file('none', 0)).stdout, /p: exact McNemar/);
    const missing = retort('compare', 'nowhere.jsonl', file('none', 0));
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /No file at .*nowhere\.jsonl/);
  });
});
