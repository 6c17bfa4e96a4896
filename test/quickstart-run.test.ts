import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { z } from 'zod';

const root = join(import.meta.dirname, '..');
const summarySchema = z.looseObject({
  questionCount: z.number(),
  protocol: z.looseObject({ note: z.string() }),
  groups: z.array(z.looseObject({ label: z.string(), kind: z.string() })),
  rows: z.array(z.looseObject({ name: z.string() })),
});
const responseSchema = z.looseObject({ source: z.string(), text: z.string(), status: z.string() });

/** The quickstart on fewer questions, one seed and one pass: what `npm start` does, in seconds. */
describe('the quickstart', () => {
  const folder = mkdtempSync(join(tmpdir(), 'retort-quickstart-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const settings = ['seeds=[1]', 'task.train.limit=16', 'task.test.limit=16', 'training.epochs=1'].flatMap((setting) => ['--set', setting]);
  const command = ['src/cli/main.ts', 'run', 'quickstart/quickstart.yaml', '--offline', '--json', '--output', folder, ...settings];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { cwd: root, encoding: 'utf8' });

  it('measures every arm, the untouched student and the teacher, and says what it is', () => {
    assert.equal(status, 0, stderr);
    const summary = summarySchema.parse(JSON.parse(stdout));
    assert.equal(summary.questionCount, 16);
    assert.match(summary.protocol.note, /no evidence/);
    const arms = ['none', 'explained', 'short-steps', 'checked', 'gold', 'shuffled'];
    const names = [...arms.map((arm) => `${arm}--lora--student--seed-1`), 'teacher', 'untouched--student'];
    assert.deepEqual(summary.rows.map(({ name }) => name).sort(), names.sort());
  });

  it('has a teacher that answers otherwise when it is told otherwise', () => {
    const shareOf = (arm: string, pattern: RegExp): number => {
      const lines = readFileSync(join(folder, 'responses', arm, 'responses.jsonl'), 'utf8')
        .trim()
        .split('\n');
      const texts = lines.map((line) => responseSchema.parse(JSON.parse(line)).text);
      return texts.filter((text) => pattern.test(text)).length / texts.length;
    };
    // Measured on 128 questions with the committed weights: 128 checked, 126 explained, 128 begun with a calculation (21 of them checked, too).
    assert.ok(shareOf('checked', /^Check: /m) >= 0.9);
    assert.ok(shareOf('explained', /[a-z].*: \d/) >= 0.9);
    assert.ok(shareOf('short-steps', /^\d+[-+*/]\d+=\d+\n/) >= 0.9);
    assert.ok(shareOf('short-steps', /[a-z]/) <= 0.4);
    assert.ok(shareOf('none', /^####/) >= 0.25);
  });
});
