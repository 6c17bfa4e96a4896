import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { randomFrom } from '../src/base/random.ts';
import { checkRun, describeCheck, isSound } from '../src/evaluation/check-run.ts';
import { summariseRun } from '../src/evaluation/summarise-run.ts';
import { renderAttentionPage } from '../src/inspection/attention-page.ts';
import { type MapSource, mapMeasurer, studyAttention } from '../src/inspection/attention-study.ts';
import { escapeHtml, html } from '../src/report/html.ts';
import { renderRunsPage } from '../src/report/runs-page.ts';
import { writeReport } from '../src/report/write-report.ts';
import { type Subject, subjectName } from '../src/run-folder/arm.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';
import { type BrowserPage, findChromium, openBrowser } from './chromium.ts';
import { type SampleRunOptions, writeSampleRun } from './sample-run.ts';

const hostile = '<script>document.title="taken"</script><img src=x onerror="document.title=1">"\'& مرحبا بالعالم \u0000';

const sampleRun = async (t: Pick<TestContext, 'after'>, options: SampleRunOptions = {}) => {
  const folder = await mkdtemp(join(tmpdir(), 'retort-page-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const run = await writeSampleRun(join(folder, 'run'), options);
  const { metrics } = run.paths.student({ source: 'none', method: 'lora', student: 'smollm2', seed: 0 });
  await mkdir(dirname(metrics), { recursive: true });
  const lines = Array.from({ length: 250 }, (_, index) => [
    { step: index + 1, loss: 2 - index / 250 },
    ...(index % 50 === 49 ? [{ step: index + 1, developmentLoss: 2 - index / 300 }] : []),
  ]).flat();
  await writeFile(metrics, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  return run;
};

const answerText = (_: Subject, id: string, isRight: boolean): string => {
  if (id === 'q1') return hostile;
  if (id === 'q2') return 'x'.repeat(300_000);
  return `#### ${isRight ? 7 : 8}`;
};

describe('HTML of a report', () => {
  it('escapes whatever is not its own', () => {
    assert.equal(html`<p title="${'"<&>\''}">${hostile.slice(0, 8)}</p>`.html, '<p title="&#34;&#60;&#38;&#62;&#39;">&#60;script&#62;</p>');
    assert.equal(escapeHtml('a\u0000\u001b[31m\n\ud800'), 'a\ufffd\ufffd[31m\n\ufffd');
    assert.equal(html`<ul>${[html`<li>${1}</li>`, html`<li>${'<'}</li>`]}</ul>`.html, '<ul><li>1</li><li>&#60;</li></ul>');
  });
});

describe('the page of a run', () => {
  it('allows its own style and script by their hashes and nothing else, and loads nothing', async (t) => {
    const { page } = await writeReport(await sampleRun(t, { textOf: answerText }));
    const text = await readFile(page, 'utf8');
    const policy = /Content-Security-Policy" content="([^"]*)"/.exec(text)?.[1]?.replaceAll('&#39;', "'") ?? '';
    const hashOf = (tag: string) =>
      createHash('sha256')
        .update(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`).exec(text)?.[1] ?? '')
        .digest('base64');
    assert.equal(
      policy,
      `default-src 'none'; style-src 'sha256-${hashOf('style')}'; script-src 'sha256-${hashOf('script')}'; base-uri 'none'; form-action 'none'`,
    );
    assert.equal(text.match(/<script/g)?.length, 1);
    assert.ok(!/ (?:src|style|on[a-z]+)=/i.test(text.replace(/&#\d+;/g, '"')) || !/<[^>]* (?:src|style|on[a-z]+)=/i.test(text));
    assert.deepEqual(
      [...text.matchAll(/(?:href|src)="([^"#][^"]*)"/g)].map(([, address]) => address),
      [],
      'links lead nowhere but into the page',
    );
    assert.ok(!text.includes('\u0000'));
    assert.ok(text.length < 2_000_000, `${text.length} characters: a huge answer is cut`);
    assert.match(text, /cut here: 300000 characters in all/);
  });

  it('begins with the answer, gives each chart a description, and leaves out texts when told to', async (t) => {
    const run = await sampleRun(t, { textOf: () => 'a secret answer #### 7' });
    const { page, summary } = await writeReport(run);
    const text = await readFile(page, 'utf8');
    const heading = /<h1>(.*)<\/h1>/.exec(text)?.[1] ?? '';
    assert.equal(heading.replaceAll('\u00a0', ' ').replaceAll('\u2011', '-'), html`${summary.headline}`.html);
    assert.match(heading, /95\u00a0% interval/);
    const images = text.match(/<svg[^>]*>/g) ?? [];
    assert.ok(images.length >= 10, `${images.length} drawings`);
    for (const image of images) assert.match(image, /role="img" aria-label="[^"]{40,}"/);
    assert.ok(text.includes('a secret answer') && text.includes('What is 3 times 7?'));
    await writeReport(run, { withoutText: true });
    const shared = await readFile(page, 'utf8');
    assert.ok(!shared.includes('a secret answer') && !shared.includes('What is 3 times 7?') && !shared.includes('task: gsm8k'));
  });

  it('shows what collection gave and what it cost, and each arm’s losses in a panel of its own', async (t) => {
    const text = await readFile((await writeReport(await sampleRun(t))).page, 'utf8');
    assert.match(text, /aria-label="Collected training answers: none 250 kept, 6 failed, 0 rejected;/);
    assert.match(text, /aria-label="Tokens that the teacher read and wrote: teacher 20000 of prompts and 9000 of answers, 0\.0042 USD\."/);
    assert.match(
      text,
      /<td>teacher<\/td>(?:<td class="number">[^<]*<\/td>){3}<td class="number">20000<\/td><td class="number">9000<\/td><td class="number">0\.0042<\/td>/,
    );
    // the losses of the sample end at 1.0 on the rows trained on and at 2 − 249/300 on the development rows
    assert.match(text, /aria-label="Loss over optimiser steps, [^"]*none--lora--smollm2--seed-0 ends at 1\.170/);
    assert.match(text, />development</);
  });

  it('says on the page that answers were edited, a stage failed, or nothing is measured yet', async (t) => {
    const run = await sampleRun(t, { failing: 'gold--lora--smollm2--seed-0' });
    const path = run.paths.answers({ kind: 'teacher' });
    await writeFile(path, (await readFile(path, 'utf8')).replace('"strict":false', '"strict":true'));
    const text = await readFile((await writeReport(run)).page, 'utf8');
    assert.match(text, /evaluations\/teacher\.jsonl was changed after it was finished/);
    assert.match(text, /train--gold--lora--smollm2--seed-0: failed \(the loss is not a number at step 12\)/);
    await run.update((manifest) => ({ ...manifest, stages: {} }));
    assert.match(await readFile((await writeReport(run)).page, 'utf8'), /<h1>Nothing has been measured yet\.<\/h1>/);
  });

  it('is the same bytes from the same run', async (t) => {
    const run = await sampleRun(t);
    await writeReport(run);
    // what the first writing recorded of itself (its stage, its files) stands on the second page
    const page = async () =>
      (await readFile((await writeReport(run)).page, 'utf8')).replace(/<details[^>]*><summary>(?:Stages|Files)[\s\S]*?<\/details>/g, '');
    assert.equal(await page(), await page());
  });
});

describe('checking a run', () => {
  it('finds nothing in a sound one', async (t) => {
    const run = await sampleRun(t);
    await writeReport(run);
    const check = await checkRun(run, gsm8k);
    assert.deepEqual(check.scoreProblems, []);
    assert.deepEqual(check.reportDifferences, []);
    assert.ok(isSound(check));
    assert.equal(check.rescoredCount, 8 * 60);
    assert.match(describeCheck(check), /All 480 answers were scored again .* Every number of the stored report was recomputed/);
  });

  it('finds an edited answer, an edited score and an edited report', async (t) => {
    const run = await sampleRun(t);
    await writeReport(run);
    const path = run.paths.answers({ kind: 'untouched', student: 'smollm2' });
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.replace('"strict":false,"flexible":false', '"strict":true,"flexible":true'));
    const summaryPath = join(run.paths.report, 'summary.json');
    await writeFile(summaryPath, (await readFile(summaryPath, 'utf8')).replace(/"questionCount": 60/, '"questionCount": 61'));
    const check = await checkRun(run, gsm8k);
    assert.ok(!isSound(check));
    assert.deepEqual(check.fileProblems.map(({ file }) => file).sort(), ['evaluations/untouched--smollm2.jsonl', 'report/summary.json']);
    assert.equal(check.scoreProblems.length, 1);
    assert.equal(check.scoreProblems[0]?.file, subjectName({ kind: 'untouched', student: 'smollm2' }));
    assert.ok(check.reportDifferences?.some(({ path: field, before, now }) => field === 'questionCount' && before === 61 && now === 60));
    assert.ok(
      check.reportDifferences?.some(({ path: field }) => /^rows\[\d+\]\.strict\.count$/.test(field)),
      'what follows from the edited score',
    );
  });

  it('takes no offence at a report of a version that knew fewer keys, but at one with fewer rows', async (t) => {
    const run = await sampleRun(t);
    await writeReport(run);
    const path = join(run.paths.report, 'summary.json');
    const { searches: _, ...older } = JSON.parse(await readFile(path, 'utf8'));
    await writeFile(path, JSON.stringify({ ...older, rows: older.rows.map(({ format: __, ...row }: { format: unknown }) => row) }));
    assert.deepEqual((await checkRun(run, gsm8k)).reportDifferences, []);
    await writeFile(path, JSON.stringify({ ...older, rows: older.rows.slice(1) }));
    assert.notDeepEqual((await checkRun(run, gsm8k)).reportDifferences, []);
  });
});

const executable = findChromium();
const skip = executable === undefined ? 'no Chromium on the PATH and no RETORT_CHROMIUM' : false;
if (executable === undefined) console.log(`page in a browser: skipped, ${skip}`);

/** In the page: texts whose contrast to their ground is below WCAG AA, and whatever is wider than the window. */
const audit = `(() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const part = (value) => { const v = value / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const groundOf = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === undefined || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  for (const details of document.querySelectorAll('details')) details.open = true;
  const faint = [];
  let count = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest('script, style') || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    if (element.closest('svg') && style.opacity === '0') continue;
    const ink = parse(element.closest('svg') ? style.fill : style.color);
    const [a, b] = [luminance(ink), luminance(groundOf(element))].sort((x, y) => y - x);
    count++;
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(walker.currentNode.data.slice(0, 30) + ' ' + ink + ' on ' + groundOf(element));
  }
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  return { count, faint, wide, title: document.title, formHidden: document.querySelector('form')?.hidden };
})()`;

describe('the page in a browser', { skip }, () => {
  let browser: BrowserPage;
  before(async () => {
    browser = await openBrowser(executable ?? '');
  });
  after(() => browser?.close());

  const runs: { name: string; options: SampleRunOptions }[] = [
    { name: 'hostile answers', options: { textOf: answerText } },
    { name: 'one seed, a failed arm', options: { seedCount: 1, failing: 'gold--lora--smollm2--seed-0' } },
    {
      name: '20 arms',
      options: { sources: ['none', ...Array.from({ length: 19 }, (_, index) => `a-strategy-with-a-long-name-${index}`)], seedCount: 1 },
    },
  ];
  /** In light and dark, on a phone and a screen: nothing is hard to read, nothing asks the network, nothing fails. */
  const readsWell = async (name: string, path: string, expected: { title: string; formHidden?: boolean }): Promise<void> => {
    const url = pathToFileURL(path).href;
    for (const scheme of ['light', 'dark']) {
      for (const width of [390, 1280]) {
        const where = `${name}, ${scheme}, ${width} pixels`;
        await browser.send('Emulation.setDeviceMetricsOverride', { width, height: 900, deviceScaleFactor: 1, mobile: width < 500 });
        await browser.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
        await browser.open(url);
        const found = (await browser.evaluate(audit)) as {
          count: number;
          faint: string[];
          wide: number;
          title: string;
          formHidden?: boolean;
        };
        assert.ok(found.count > 100, `${where}: ${found.count} texts`);
        assert.deepEqual(found.faint, [], where);
        assert.ok(found.wide <= 0, `${where}: ${found.wide} pixels too wide`);
        assert.equal(found.title, expected.title, `${where}: no script of an answer ran`);
        assert.equal(found.formHidden, expected.formHidden, `${where}: the page’s own script ran`);
        const requests = browser.events.flatMap(({ method, params }) =>
          method === 'Network.requestWillBeSent' ? [(params['request'] as { url: string }).url] : [],
        );
        assert.deepEqual(requests, [url], where);
        const errors = browser.events.filter(({ method }) => method === 'Log.entryAdded' || method === 'Runtime.exceptionThrown');
        assert.deepEqual(errors, [], where);
      }
    }
  };

  for (const { name, options } of runs) {
    it(`${name}: no error, no request, enough contrast, no wider than the window`, async (t) => {
      const { page } = await writeReport(await sampleRun(t, options));
      await readsWell(name, page, { title: 'run: retort report', formHidden: false });
      const url = pathToFileURL(page).href;
      // A4 between margins: no table is cut at the edge of the paper, and those that are folded on the screen stand open
      await browser.send('Emulation.setDeviceMetricsOverride', { width: 718, height: 900, deviceScaleFactor: 1, mobile: false });
      await browser.send('Emulation.setEmulatedMedia', { media: 'print', features: [] });
      await browser.open(url);
      const printed = await browser.evaluate(`(() => {
        const cut = [...document.querySelectorAll('table')].filter((table) => table.scrollWidth > table.parentElement.clientWidth);
        const students = [...document.querySelectorAll('summary')].find(({ textContent }) => textContent === 'Each student by itself');
        return { cut: cut.map((table) => table.parentElement.ariaLabel), isOpen: students.parentElement.querySelector('table').checkVisibility() };
      })()`);
      const { cut, isOpen } = printed as { cut: string[]; isOpen: boolean };
      assert.deepEqual(cut, [], `${name}, printed`);
      assert.ok(isOpen, `${name}, printed: a folded table stays folded`);
      await browser.send('Emulation.setEmulatedMedia', { media: '', features: [] });
    });
  }

  it('so do the page of several runs and that of an attention study', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'retort-page-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const beside = [];
    for (const options of [{}, { questionCount: 40, seedCount: 1 }]) {
      const run = await sampleRun(t, options);
      beside.push({ summary: await summariseRun(run), resolvedConfig: await run.resolvedConfig() });
    }
    await writeFile(join(folder, 'runs.html'), await renderRunsPage(beside));
    await readsWell('several runs', join(folder, 'runs.html'), { title: 'run, run: retort report' });

    const random = randomFrom(2);
    const maps: MapSource = async function* () {
      for (let layer = 0; layer < 4; layer++) yield { headCount: 3, length: 8, data: Float32Array.from({ length: 192 }, random.uniform) };
    };
    const subjects = ['base', 'an-arm-with-a-long-name-of-its-own', '<b>gold</b>'];
    const study = await studyAttention({
      prompts: ['a', 'b'].map((id) => ({ id, tokens: new Array<number>(8).fill(0) })),
      subjects,
      measurers: [mapMeasurer(subjects.map((name) => ({ name, maps })))],
      drawCount: 20,
    });
    await writeFile(join(folder, 'attention.html'), await renderAttentionPage(study, 'a run'));
    await readsWell('attention', join(folder, 'attention.html'), { title: 'a run: attention' });
  });

  it('filters questions by who was right', async (t) => {
    const accuracy = (subject: Subject) => (subject.kind === 'arm' && subject.arm.source === 'teacher' ? 0.8 : 0.3);
    const { page } = await writeReport(await sampleRun(t, { accuracy, seedCount: 1 }));
    await browser.open(pathToFileURL(page).href);
    const shown = (await browser.evaluate(`(() => {
      const [better, worse] = document.querySelectorAll('select');
      const pick = (select, label) => { select.value = [...select.options].find((option) => option.textContent === label).value; };
      pick(better, 'teacher'); pick(worse, 'none');
      better.dispatchEvent(new Event('change', { bubbles: true }));
      return [...document.querySelectorAll('.question:not([hidden]) .marks')].map((marks) => marks.textContent);
    })()`)) as string[];
    assert.ok(shown.length > 5);
    for (const marks of shown) assert.match(marks, /none 0\/1, teacher 1\/1/);
  });
});
