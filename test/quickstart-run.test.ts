import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { z } from 'zod';
import { runCommandLine } from '../src/cli/program.ts';
import { processTerminal } from '../src/cli/terminal.ts';

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
    const asked = ['', '--shots-4', ...['explained', 'short-steps', 'checked'].map((arm) => `--primed-${arm}`)];
    const names = [...arms.map((arm) => `${arm}--lora--student--seed-1`), 'teacher', ...asked.map((how) => `untouched--student${how}`)];
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

  it('can be looked into: its students beside their base, and the map of one head', async () => {
    /** In this process: each start of another would load everything anew. */
    const inspect = async (...options: readonly string[]) => {
      let [output, messages] = ['', ''];
      const status = await runCommandLine(
        ['inspect', 'attention', folder, '--model', 'quickstart/student', '--json', '--quiet', '--offline', ...options],
        {
          ...processTerminal(),
          workingFolder: root,
          writeOutput: (text) => {
            output += text;
          },
          writeMessage: (text) => {
            messages += text;
          },
        },
      );
      return { status, output, messages };
    };
    const looked = await inspect('--prompts', '3', '--threads', '1', '--arms', 'gold', 'shuffled', '--output', join(folder, 'look'));
    assert.equal(looked.status, 0, looked.messages);
    const study = z.looseObject({ promptCount: z.number(), subjects: z.array(z.looseObject({ name: z.string() })) });
    const { promptCount, subjects } = study.parse(JSON.parse(looked.output));
    assert.equal(promptCount, 3);
    assert.deepEqual(
      subjects.map(({ name }) => name),
      ['base', 'gold', 'shuffled'],
    );
    assert.match(readFileSync(join(folder, 'look', 'attention.html'), 'utf8'), /Heads that changed most/);

    const file = join(folder, 'head.svg');
    const drawn = await inspect('--map', '2.1', '--arm', 'gold', '--output', file);
    assert.equal(drawn.status, 0, drawn.messages);
    const head = z.looseObject({ subject: z.string(), tokens: z.array(z.string()), map: z.array(z.array(z.number())) });
    const { subject, tokens, map } = head.parse(JSON.parse(drawn.output));
    assert.equal(subject, 'gold--lora--student--seed-1');
    assert.equal(map.length, tokens.length);
    for (const row of map) assert.ok(Math.abs(row.reduce((sum, share) => sum + share, 0) - 1) < 1e-5); // softmax
    assert.match(readFileSync(file, 'utf8'), /^<svg /);
    for (const [options, message] of [
      [['--map', '3.0'], /layers 0 to 2; there is no layer 3/],
      [['--map', '0.2'], /heads 0 to 1; there is no head 2/],
      [['--map', '0.0', '--arm', 'golden'], /no trained arm golden; did you mean gold\?/],
      [['--map', '0.0', '--prompt', 'q'], /no answered question q\./],
      [['--map', '12'], /Expected layer and head/],
    ] as const) {
      const { status: code, messages } = await inspect(...options, '--output', file);
      assert.equal(code, 1);
      assert.match(messages, message);
    }
  });
});
