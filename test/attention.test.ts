import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { env } from 'node:process';
import { describe, it, type TestContext } from 'node:test';
import { UserError } from '../src/base/errors.ts';
import { randomFrom } from '../src/base/random.ts';
import { runCommandLine } from '../src/cli/program.ts';
import { processTerminal } from '../src/cli/terminal.ts';
import { createEngine } from '../src/engines/create-engine.ts';
import { type AttentionMaps, headSimilarities, measureHeads, withoutFirstToken } from '../src/inspection/attention-measures.ts';
import { openAttentionMeter } from '../src/inspection/attention-meter.ts';
import { attentionHeadline, renderAttentionPage } from '../src/inspection/attention-page.ts';
import {
  type AttentionPrompt,
  type AttentionStudy,
  engineMaps,
  type MapSource,
  mapMeasurer,
  type StudyMeasure,
  type SubjectMeasures,
  studyAttention,
} from '../src/inspection/attention-study.ts';
import { headMapOf, renderHeadMap } from '../src/inspection/head-map.ts';
import { studyModel } from '../src/inspection/inspect-run.ts';
import { openMapsFolder } from '../src/inspection/maps-folder.ts';
import { readNpy } from '../src/inspection/npy.ts';
import { readAdapter, writeAdapter } from '../src/weights/adapter.ts';
import golden from './golden/attention.json' with { type: 'json' };
import smollm2 from './golden/attention-smollm2.json' with { type: 'json' };
import { goldenPath, tinySpecification } from './golden/golden-files.ts';

const mapsOf = (...heads: readonly (readonly (readonly number[])[])[]): AttentionMaps => ({
  headCount: heads.length,
  length: heads[0]?.length ?? 0,
  data: Float32Array.from(heads.flat(2)),
});

const isNear = (actual: number | undefined, expected: number, tolerance = 1e-6, what = ''): void =>
  assert.ok(Math.abs((actual ?? Number.NaN) - expected) <= tolerance, `${what} expected ${expected}, got ${actual}`);

describe('measures of a head', () => {
  const uniform = Array.from({ length: 8 }, () => new Array<number>(8).fill(1 / 8));
  const identity = Array.from({ length: 8 }, (_, query) => Array.from({ length: 8 }, (_key, key) => Number(query === key)));

  it('uniform: entropy ln n, focus 1/n; identity: entropy 0, focus 1 (definitions)', () => {
    const [even, self] = measureHeads(mapsOf(uniform, identity));
    isNear(even?.entropy, Math.log(8));
    isNear(even?.focus, 1 / 8);
    isNear(even?.sparsity, 1); // 0.125 is above 0.1
    isNear(even?.firstToken, 1 / 8);
    isNear(self?.entropy, 0);
    isNear(self?.focus, 1);
    isNear(self?.sparsity, 1 / 8);
    isNear(self?.firstToken, 1 / 8);
  });

  it('by hand: rows (1, 0), (¼, ¾)', () => {
    const [head] = measureHeads(
      mapsOf([
        [1, 0],
        [0.25, 0.75],
      ]),
    );
    isNear(head?.entropy, (0 + 0.5623351446) / 2); // −¼ ln ¼ − ¾ ln ¾ = 0.3465735903 + 0.2157615543
    isNear(head?.focus, (1 + 0.75) / 2);
    isNear(head?.firstToken, (1 + 0.25) / 2);
    isNear(head?.sparsity, 3 / 4);
  });

  it('do not change when rows are scaled (law)', () => {
    const random = randomFrom(1);
    const rows = Array.from({ length: 6 }, () => Array.from({ length: 6 }, random.uniform));
    const [one] = measureHeads(mapsOf(rows));
    const [scaled] = measureHeads(mapsOf(rows.map((row, index) => row.map((value) => value * (index + 2)))));
    for (const name of ['entropy', 'focus', 'sparsity', 'firstToken'] as const) isNear(scaled?.[name], one?.[name] ?? 0);
  });

  it('without the first token: the rest of each row sums to 1 again; a row that had nothing else looks nowhere', () => {
    const rest = withoutFirstToken(
      mapsOf([
        [1, 0, 0],
        [0.5, 0.5, 0],
        [0.6, 0.1, 0.3],
      ]),
    );
    assert.equal(rest.length, 2);
    for (const [index, value] of [1, 0, 0.25, 0.75].entries()) isNear(rest.data[index], value);
    assert.deepEqual(
      [
        ...withoutFirstToken(
          mapsOf([
            [1, 0],
            [1, 0],
          ]),
        ).data,
      ],
      [0],
    );
    assert.throws(() => withoutFirstToken(mapsOf([[1]])), /nothing beside/);
  });

  it('similarity is 1 with itself and 0 where nothing is looked at in common', () => {
    const shifted = [...identity.slice(1), identity[0] ?? []];
    assert.deepEqual(headSimilarities(mapsOf(identity), mapsOf(identity)), [1]);
    assert.deepEqual(headSimilarities(mapsOf(identity), mapsOf(shifted)), [0]);
    isNear(headSimilarities(mapsOf(uniform), mapsOf(identity))[0], 1 / Math.sqrt(8)); // Σ 8·⅛ / (√(64/64)·√8)
    assert.throws(() => headSimilarities(mapsOf(identity), mapsOf([[1]])), /were compared/);
  });
});

const promptsOf = ({ prompts }: typeof golden | typeof smollm2) => prompts.map(({ tokens }, index) => ({ id: `p${index}`, tokens }));

/** A study of whole maps, one prompt after the other. */
const studyOf = (prompts: readonly AttentionPrompt[], subjects: Parameters<typeof mapMeasurer>[0], drawCount: number) =>
  studyAttention({ prompts, subjects: subjects.map(({ name }) => name), measurers: [mapMeasurer(subjects)], drawCount });

/** A study of one prompt has that prompt's own measures as its means. */
const holdsTo = (study: AttentionStudy, expected: (typeof golden.prompts)[number], tolerance: number): void => {
  const [subject] = study.subjects;
  for (const column of ['with', 'without'] as const) {
    for (const name of ['entropy', 'focus', 'sparsity', 'firstToken'] as const) {
      const table = subject?.measures[column][name]?.heads ?? [];
      assert.equal(table.length, expected[column][name].length);
      for (const [layer, heads] of expected[column][name].entries()) {
        for (const [head, value] of heads.entries()) isNear(table[layer]?.[head], value, name === 'sparsity' ? 2e-3 : tolerance);
      }
    }
    const similarities = subject?.measures[column].similarityToPreviousLayer?.heads ?? [];
    for (const [index, heads] of expected[column].similarityToPreviousLayer.entries()) {
      for (const [head, value] of heads.entries()) isNear(similarities[index + 1]?.[head], value, tolerance);
    }
  }
};

/** Maps that are what the test says: `shift` moves one head of one layer. */
const madeMaps = (shift: number): MapSource =>
  async function* ({ tokens }) {
    const { length } = tokens;
    for (let layer = 0; layer < 3; layer++) {
      const data = new Float32Array(2 * length * length);
      for (let head = 0; head < 2; head++) {
        for (let query = 0; query < length; query++) {
          const key = layer === 1 && head === 1 && query >= shift ? query - shift : query;
          data[(head * length + query) * length + key] = 1;
        }
      }
      yield { headCount: 2, length, data };
    }
  };
const prompts = [4, 7, 9].map((length) => ({ id: `p${length}`, tokens: new Array<number>(length).fill(1) }));

describe('a study of attention', () => {
  it('of a tiny Llama has the measures of transformers’ output_attentions, however many layers a run holds', async () => {
    const engine = await createEngine(tinySpecification());
    try {
      for (const limitBytes of [undefined, 1]) {
        const maps = engineMaps(engine, { layerCount: 2, headCount: 4, ...(limitBytes !== undefined && { limitBytes }) });
        for (const [index, prompt] of promptsOf(golden).entries()) {
          const study = await studyOf([prompt], [{ name: 'base', maps }], 10);
          holdsTo(study, golden.prompts[index] ?? assert.fail(), 1e-4);
        }
      }
    } finally {
      await engine.release();
    }
  });

  /** Every measure of every head, which must be the same numbers. */
  const areNear = (actual: readonly SubjectMeasures[], expected: readonly SubjectMeasures[]): void => {
    assert.equal(actual.length, expected.length);
    for (const [subject, columns] of expected.entries()) {
      for (const column of ['with', 'without'] as const) {
        assert.deepEqual(Object.keys(actual[subject]?.[column] ?? {}).sort(), Object.keys(columns[column]).sort());
        for (const [measure, layers] of Object.entries(columns[column])) {
          const found = actual[subject]?.[column][measure as StudyMeasure]?.flat() ?? [];
          assert.equal(found.length, layers.flat().length);
          for (const [index, value] of layers.flat().entries()) {
            if (Number.isNaN(value)) assert.ok(Number.isNaN(found[index]), `${measure} ${index}`);
            else isNear(found[index], value, 1e-5, `${subject} ${column} ${measure} ${index}`);
          }
        }
      }
    }
  };

  it('measured inside the program that makes the maps is the study of whole maps (1e-5), students in one batch or two', async (t) => {
    const modelFolder = goldenPath('tiny-llama');
    const learnt = goldenPath('tiny-lora', 'after-adamw');
    // Another student: fewer modules, another rank and another scale.
    const small = await mkdtemp(join(tmpdir(), 'retort-adapter-'));
    t.after(() => rm(small, { recursive: true, force: true }));
    const random = randomFrom(3);
    const drawn = (...shape: number[]) => ({ shape, data: Float32Array.from({ length: shape.reduce((a, b) => a * b) }, random.normal) });
    const { parameters } = await readAdapter(learnt);
    const lora = { rank: 2, alpha: 3, targets: ['q_proj', 'k_proj'], dropout: 0 };
    await writeAdapter(small, {
      baseModel: 'tiny',
      lora,
      parameters: Object.fromEntries(
        Object.entries(parameters).flatMap(([name, { shape }]) => {
          const [rows = 0, columns = 0] = shape;
          if (!/[qk]_proj/.test(name)) return [];
          return [[name, name.includes('lora_A') ? drawn(lora.rank, columns) : drawn(rows, lora.rank)]];
        }),
      ),
    });
    const engines = [await createEngine(tinySpecification())];
    for (const adapter of [learnt, small]) {
      const read = await readAdapter(adapter);
      const engine = await createEngine(tinySpecification({ parameters: { kind: 'lora', ...read.lora, dropout: 0, seed: 0 } }));
      await engine.load(read.parameters);
      engines.push(engine);
    }
    const whole = mapMeasurer(
      engines.map((engine, index) => ({ name: String(index), maps: engineMaps(engine, { layerCount: 2, headCount: 4 }) })),
    );
    try {
      for (const mapBytes of [undefined, 1]) {
        const specification = { modelFolder, adapters: [learnt, small], threadCount: 1, ...(mapBytes !== undefined && { mapBytes }) };
        const meter = await openAttentionMeter(specification);
        try {
          for (const prompt of promptsOf(golden)) {
            const expected = await whole(prompt);
            assert.ok((expected[2]?.with.similarityToBase?.[1]?.[0] ?? 1) < 0.999, 'the student looks elsewhere');
            areNear(await meter.measure(prompt.tokens), expected);
          }
          await assert.rejects(meter.measure([1]), /two tokens are the least/);
        } finally {
          await meter.release();
        }
      }
    } finally {
      for (const engine of engines) await engine.release();
    }
  });

  it('in threads is the same study, and an adapter that does not fit is named', async () => {
    const modelFolder = goldenPath('tiny-llama');
    const prompts = [...promptsOf(golden), ...promptsOf(golden)].map((prompt, index) => ({ ...prompt, id: `${index}` }));
    const adapters = [{ name: 'arm', folder: goldenPath('tiny-lora', 'after-adamw') }];
    const [one, three] = [
      await studyModel({ modelFolder, adapters, prompts, threadCount: 1, drawCount: 10 }),
      await studyModel({ modelFolder, adapters, prompts, threadCount: 3, drawCount: 10 }),
    ];
    assert.deepEqual(three, one);
    assert.deepEqual(
      one.subjects.map(({ name }) => name),
      ['base', 'arm'],
    );
    const wrong = studyModel({ modelFolder: goldenPath('tiny-llama-untied'), adapters, prompts, threadCount: 2 });
    await assert.rejects(wrong, UserError);
  });

  const folder = join(env.RETORT_MODELS ?? '', 'smollm2-135m-instruct');
  const skip = env.RETORT_MODELS === undefined || !existsSync(folder) ? 'RETORT_MODELS, the folder of real weights, is not set' : false;
  it('of SmolLM2 has them too', { skip }, async () => {
    const study = await studyModel({ modelFolder: folder, adapters: [], prompts: promptsOf(smollm2), threadCount: 1, drawCount: 10 });
    holdsTo(study, smollm2.prompts[0] ?? assert.fail(), 1e-4);
  });

  it('finds the head that changed, and no other', async () => {
    const subjects = [
      { name: 'base', maps: madeMaps(0) },
      { name: 'arm', maps: madeMaps(1) },
    ];
    const study = await studyOf(prompts, subjects, 50);
    const [first, second] = study.changedHeads;
    assert.deepEqual([first?.subject, first?.layer, first?.head], ['arm', 1, 1]);
    assert.ok((first?.change ?? 0) > 0.5 && second?.change === 0);
    assert.deepEqual(study.differingHeads, [], 'one student has none to differ from');
    const three = await studyOf(prompts, [...subjects, { name: 'still', maps: madeMaps(0) }], 50);
    const [apart, alike] = three.differingHeads;
    assert.deepEqual([apart?.layer, apart?.head, apart?.least, apart?.most], [1, 1, 'still', 'arm']);
    isNear(apart?.difference, first?.change ?? 0);
    assert.equal(alike?.difference, 0);
    const similarity = study.subjects[1]?.measures.without.similarityToBase;
    assert.deepEqual(similarity?.layers[0], { mean: 1, interval: { low: 1, high: 1, confidence: 0.95 } });
    const layer = similarity?.layers[1];
    assert.ok(layer !== undefined && layer.interval.low <= layer.mean && layer.mean <= layer.interval.high);
    assert.equal(study.promptCount, 3);
    assert.equal(study.tokenCount, 20);
  });

  it('refuses subjects of different depth', async () => {
    const shallow: MapSource = async function* (prompt) {
      for await (const maps of madeMaps(0)(prompt)) {
        yield maps;
        return;
      }
    };
    const subjects = [
      { name: 'base', maps: madeMaps(0) },
      { name: 'other', maps: shallow },
    ];
    await assert.rejects(studyOf(prompts, subjects, 10), /other has fewer layers/);
  });
});

describe('.npy files', () => {
  const folderFor = async (t: TestContext): Promise<string> => {
    const folder = await mkdtemp(join(tmpdir(), 'retort-npy-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    return folder;
  };
  /** As numpy.lib.format describes version 1.0. */
  const npy = (descriptor: string, shape: string, data: Uint8Array): Buffer => {
    const header = `{'descr': '${descriptor}', 'fortran_order': False, 'shape': ${shape}, }\n`;
    const start = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, header.length & 255, header.length >> 8]);
    return Buffer.concat([start, Buffer.from(header), data]);
  };

  it('are read in three widths', async (t) => {
    const path = join(await folderFor(t), 'a.npy');
    const values = [0, 1, 0.5, -2, 0.25, 65504];
    const halves = [0, 0x3c00, 0x3800, 0xc000, 0x3400, 0x7bff]; // IEEE 754 binary16
    const forms = { '<f4': Float32Array.from(values), '<f8': Float64Array.from(values), '<f2': Uint16Array.from(halves) };
    for (const [descriptor, data] of Object.entries(forms)) {
      await writeFile(path, npy(descriptor, '(2, 3)', new Uint8Array(data.buffer)));
      assert.deepEqual(await readNpy(path), { shape: [2, 3], data: Float32Array.from(values) });
    }
  });

  it('that are cut off, of another type or none are named', async (t) => {
    const path = join(await folderFor(t), 'a.npy');
    await writeFile(path, npy('<f4', '(2, 3)', new Uint8Array(20)));
    await assert.rejects(readNpy(path), /takes 24 bytes, and 20 are there/);
    await writeFile(path, npy('<i8', '(2,)', new Uint8Array(16)));
    await assert.rejects(readNpy(path), /elements of type <i8/);
    await writeFile(path, 'hello, this is text');
    await assert.rejects(readNpy(path), /is no \.npy file/);
  });

  it('make a study by themselves: a folder a subject, a file a prompt', async (t) => {
    const folder = await folderFor(t);
    for (const length of [3, 5]) {
      // [2 layers, 1 head]: uniform, then identity
      const uniform = new Array<number>(length * length).fill(1 / length);
      const identity = Array.from({ length: length * length }, (_, index) => Number(Math.floor(index / length) === index % length));
      const data = new Uint8Array(Float32Array.from([...uniform, ...identity]).buffer);
      await writeFile(join(folder, `p${length}.npy`), npy('<f4', `(2, 1, ${length}, ${length})`, data));
    }
    const { prompts: found, maps } = await openMapsFolder(folder);
    const study = await studyOf(found, [{ name: 'theirs', maps }], 10);
    const entropy = study.subjects[0]?.measures.with.entropy?.heads;
    isNear(entropy?.[0]?.[0], (Math.log(3) + Math.log(5)) / 2);
    isNear(entropy?.[1]?.[0], 0);
    const inspect = async (...options: readonly string[]) => {
      const messages: string[] = [];
      const terminal = { ...processTerminal(), workingFolder: folder, writeMessage: (text: string) => void messages.push(text) };
      const status = await runCommandLine(['inspect', 'attention', '--quiet', ...options], {
        ...terminal,
        writeOutput: terminal.writeMessage,
      });
      return { status, text: messages.join('') };
    };
    assert.match(
      (await inspect('--maps', '.', '--output', 'study')).text,
      /^Attention of .*: 2 prompts, 8 tokens|^Attention of .* over 2 prompts, 8 tokens/,
    );
    assert.equal((await inspect('--maps', '.', '--map', '1.0', '--prompt', 'p3', '--output', 'head.svg')).status, 0);
    assert.match(await readFile(join(folder, 'head.svg'), 'utf8'), /d="M0 0h1v1h-1zM1 1h1v1h-1zM2 2h1v1h-1z"/); // the identity
    assert.match((await inspect('--maps', '.', '--map', '2.0')).text, /layers 0 to 1; there is no layer 2/);
    assert.match((await inspect('--maps', '.', '--map', '0.1')).text, /heads 0 to 0; there is no head 1/);
    assert.match((await inspect('--maps', '.', '--map', '0.0', '--prompt', 'p4')).text, /no maps of p4\. Files: p3\.npy, p5\.npy/);
    assert.match((await inspect('--maps', '.', '--map', '0.0', '--output', 'head.png')).text, /an \.svg file/);
    await writeFile(join(folder, 'wrong.npy'), npy('<f4', '(2, 3)', new Uint8Array(24)));
    await assert.rejects(openMapsFolder(folder), /wrong\.npy: expected \[layers, heads, length, length\].*got \[2, 3\]/);
  });
});

describe('the map of a head', () => {
  const map = { subject: 'arm', promptId: 'p', layer: 1, head: 0, length: 2, data: Float32Array.of(1, 0, 0.25, 0.75) };

  it('is drawn a path for each shade: rows are the tokens that look, and what is below 1 % is left out', () => {
    const svg = renderHeadMap(map);
    const paths = [...svg.matchAll(/<path fill="(#\w+)" d="([^"]*)"/g)].map(([, , path]) => path);
    // ¼ is 20 to 30 %, ¾ is 70 to 80 %, 1 is the darkest; of row 0 only column 0 is drawn
    assert.deepEqual(paths, ['M0 1h1v1h-1z', 'M1 1h1v1h-1z', 'M0 0h1v1h-1z']);
    // neighbours of one shade are one piece
    assert.match(renderHeadMap({ ...map, data: Float32Array.of(0.5, 0.5, 0.5, 0.5) }), /d="M0 0h2v1h-2zM0 1h2v1h-2z"/);
  });

  it('names its tokens, and no text of theirs acts', () => {
    const svg = renderHeadMap({ ...map, tokens: ['<script>alert(1)</script>', ' a\n'] });
    assert.ok(!svg.includes('<script'));
    assert.match(svg, /&#60;script&#62;alert\(1…/);
    assert.match(svg, />␣a⏎</);
  });

  it('is one of its layer’s', () => {
    const maps = mapsOf([[1]], [[2]]);
    assert.deepEqual([...headMapOf(maps, { layer: 0, head: 1 }, { subject: 'a', promptId: 'p' }).data], [2]);
    assert.throws(() => headMapOf(maps, { layer: 0, head: 2 }, { subject: 'a', promptId: 'p' }), /heads 0 to 1; there is no head 2/);
  });
});

describe('the page of a study', () => {
  it('says what changed or that nothing did, describes each drawing, and lets no name act', async () => {
    const subjects = [
      { name: 'base', maps: madeMaps(0) },
      { name: '<b>arm</b>', maps: madeMaps(1) },
    ];
    const study = await studyOf(prompts, subjects, 20);
    assert.match(
      attentionHeadline(study),
      /^The map that changed most from base is that of “<b>arm<\/b>”, layer 1, head 1: 1 − cosine is 1\.000 \(/,
    );
    const same = await studyOf(
      prompts,
      subjects.map(({ name }) => ({ name, maps: madeMaps(0) })),
      20,
    );
    assert.match(attentionHeadline(same), /^No head of “<b>arm<\/b>” looks elsewhere than in base: the largest change of a map is 0\.0000/);
    const page = await renderAttentionPage(study, 'made <up>');
    assert.ok(!page.includes('<b>arm') && !page.includes('<up>') && !page.includes('<script'));
    const drawings = page.match(/<svg[^>]*>/g) ?? [];
    assert.ok(drawings.length > 20);
    for (const drawing of drawings) assert.match(drawing, /role="img" aria-label="[^"]{40,}"/);
    assert.ok(!page.includes('NaN'));
  });
});
