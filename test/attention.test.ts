import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { env } from 'node:process';
import { describe, it, type TestContext } from 'node:test';
import { randomFrom } from '../src/base/random.ts';
import { createEngine } from '../src/engines/create-engine.ts';
import { type AttentionMaps, headSimilarities, measureHeads, withoutFirstToken } from '../src/inspection/attention-measures.ts';
import { attentionHeadline, renderAttentionPage } from '../src/inspection/attention-page.ts';
import { type AttentionStudy, engineMaps, type MapSource, studyAttention } from '../src/inspection/attention-study.ts';
import { openMapsFolder } from '../src/inspection/maps-folder.ts';
import { readNpy } from '../src/inspection/npy.ts';
import golden from './golden/attention.json' with { type: 'json' };
import smollm2 from './golden/attention-smollm2.json' with { type: 'json' };
import { tinySpecification } from './golden/golden-files.ts';

const mapsOf = (...heads: readonly (readonly (readonly number[])[])[]): AttentionMaps => ({
  headCount: heads.length,
  length: heads[0]?.length ?? 0,
  data: Float32Array.from(heads.flat(2)),
});

const isNear = (actual: number | undefined, expected: number, tolerance = 1e-6): void =>
  assert.ok(Math.abs((actual ?? Number.NaN) - expected) <= tolerance, `expected ${expected}, got ${actual}`);

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
          const study = await studyAttention({ prompts: [prompt], subjects: [{ name: 'base', maps }], drawCount: 10 });
          holdsTo(study, golden.prompts[index] ?? assert.fail(), 1e-4);
        }
      }
    } finally {
      await engine.release();
    }
  });

  const folder = join(env.RETORT_MODELS ?? '', 'smollm2-135m-instruct');
  const skip = env.RETORT_MODELS === undefined || !existsSync(folder) ? 'RETORT_MODELS, the folder of real weights, is not set' : false;
  it('of SmolLM2 has them too', { skip }, async () => {
    const engine = await createEngine({ ...tinySpecification(), modelFolder: folder, threadCount: 2 });
    try {
      const maps = engineMaps(engine, { layerCount: 30, headCount: 9 });
      const study = await studyAttention({ prompts: promptsOf(smollm2), subjects: [{ name: 'base', maps }], drawCount: 10 });
      holdsTo(study, smollm2.prompts[0] ?? assert.fail(), 1e-4);
    } finally {
      await engine.release();
    }
  });

  it('finds the head that changed, and no other', async () => {
    const subjects = [
      { name: 'base', maps: madeMaps(0) },
      { name: 'arm', maps: madeMaps(1) },
    ];
    const study = await studyAttention({ prompts, subjects, drawCount: 50 });
    const [first, second] = study.changedHeads;
    assert.deepEqual([first?.subject, first?.layer, first?.head], ['arm', 1, 1]);
    assert.ok((first?.change ?? 0) > 0.5 && second?.change === 0);
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
    await assert.rejects(studyAttention({ prompts, subjects }), /other has fewer layers/);
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
    const study = await studyAttention({ prompts: found, subjects: [{ name: 'theirs', maps }], drawCount: 10 });
    const entropy = study.subjects[0]?.measures.with.entropy?.heads;
    isNear(entropy?.[0]?.[0], (Math.log(3) + Math.log(5)) / 2);
    isNear(entropy?.[1]?.[0], 0);
    await writeFile(join(folder, 'wrong.npy'), npy('<f4', '(2, 3)', new Uint8Array(24)));
    await assert.rejects(openMapsFolder(folder), /wrong\.npy: expected \[layers, heads, length, length\].*got \[2, 3\]/);
  });
});

describe('the page of a study', () => {
  it('says what changed or that nothing did, describes each drawing, and lets no name act', async () => {
    const subjects = [
      { name: 'base', maps: madeMaps(0) },
      { name: '<b>arm</b>', maps: madeMaps(1) },
    ];
    const study = await studyAttention({ prompts, subjects, drawCount: 20 });
    assert.match(
      attentionHeadline(study),
      /^The map that changed most from base is that of “<b>arm<\/b>”, layer 1, head 1: 1 − cosine is 1\.000 \(/,
    );
    const same = await studyAttention({ prompts, subjects: subjects.map(({ name }) => ({ name, maps: madeMaps(0) })), drawCount: 20 });
    assert.match(attentionHeadline(same), /^No head of “<b>arm<\/b>” looks elsewhere than in base: the largest change of a map is 0\.0000/);
    const page = await renderAttentionPage(study, 'made <up>');
    assert.ok(!page.includes('<b>arm') && !page.includes('<up>') && !page.includes('<script'));
    const drawings = page.match(/<svg[^>]*>/g) ?? [];
    assert.ok(drawings.length > 20);
    for (const drawing of drawings) assert.match(drawing, /role="img" aria-label="[^"]{40,}"/);
    assert.ok(!page.includes('NaN'));
  });
});
