import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import type { Clock } from '../src/base/clock.ts';
import { UserError } from '../src/base/errors.ts';
import { FolderInUseError } from '../src/base/folder-lock.ts';
import { DiskFullError, sha256OfFile } from '../src/base/folders.ts';
import { strategies } from '../src/priming/strategies.ts';
import type { PrimingStrategy } from '../src/priming/strategy.ts';
import { askAll } from '../src/responses/ask-all.ts';
import { CollectionStoppedError, type CollectOptions, collect } from '../src/responses/collect.ts';
import { planCollection } from '../src/responses/collection-plan.ts';
import { collectionTally } from '../src/responses/collection-report.ts';
import { forgetQuestion } from '../src/responses/forget.ts';
import { patientTeacher } from '../src/responses/patient-teacher.ts';
import { provenanceFile } from '../src/responses/provenance.ts';
import { requestKey, requestSeed } from '../src/responses/request-key.ts';
import type { Response } from '../src/responses/response.ts';
import { openResponseStore, readResponses, responsesFile, storeResponses } from '../src/responses/response-store.ts';
import { goldResponses, shuffledResponses } from '../src/responses/sources.ts';
import { nothingSpent } from '../src/responses/spending.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';
import type { Example } from '../src/tasks/task.ts';
import { type FakeTeacher, fakeTeacher } from '../src/teachers/fake.ts';
import type { TeacherAnswer, TeacherRequest } from '../src/teachers/teacher.ts';
import { TeacherError } from '../src/teachers/teacher-error.ts';

const root = await mkdtemp(join(tmpdir(), 'retort-responses-'));
after(() => rm(root, { recursive: true, force: true }));
let folderCount = 0;
const newFolder = (): string => join(root, `store-${folderCount++}`);

const examples: Example[] = Array.from({ length: 12 }, (_, index) => ({
  id: `train/${index}`,
  question: `What is ${index} + 1?`,
  solution: `${index} + 1 = ${index + 1}\n#### ${index + 1}`,
  gold: String(index + 1),
}));

const sampling = { maximumTokens: 64, temperature: 0.7, topP: 1, seed: 11 };

const strategy = (name: string): PrimingStrategy => strategies[name] ?? assert.fail();

const options = (change: Partial<CollectOptions> = {}): CollectOptions => ({
  examples,
  task: gsm8k,
  strategy: strategy('none'),
  teacher: fakeTeacher(),
  sampling,
  folder: newFolder(),
  clock: hurriedClock(),
  ...change,
});

/** Time passes only while somebody waits, and then at once. `waits` keeps what was asked for. */
function hurriedClock(): Clock & { readonly waits: number[] } {
  let nowMs = Date.UTC(2026, 0, 1);
  const waits: number[] = [];
  return {
    waits,
    now: () => nowMs,
    sleep: async (durationMs, signal) => {
      waits.push(durationMs);
      const wakeMs = nowMs + durationMs;
      // The grace period for requests under way must not pass at once: it ends with the collection.
      if (durationMs === 20_000) return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(new Error('awake'))));
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
      nowMs = Math.max(nowMs, wakeMs);
    },
  };
}

const rightAnswer = ({ exampleId }: TeacherRequest): string => examples.find(({ id }) => id === exampleId)?.solution ?? '';

const asked = (teacher: FakeTeacher): string[] => teacher.requests.map(({ exampleId }) => exampleId);

describe('collect', () => {
  it('gets an answer to every question, keeps all that is known of it, and never asks twice', async () => {
    const teacher = fakeTeacher({ answer: rightAnswer, concurrency: 5 });
    const first = options({ teacher });
    const report = await collect(first);
    assert.deepEqual([report.wantedCount, report.doneCount, report.keptCount, report.failedCount, report.newCount], [12, 12, 12, 0, 12]);
    assert.deepEqual([report.newStrictCount, report.newFlexibleCount, report.requestCount], [12, 12, 12]);
    assert.ok(teacher.peakConcurrency() <= 5);
    const responses = await readResponses(first.folder, { keys: report.keys });
    assert.deepEqual(
      responses.map(({ exampleId }) => exampleId),
      examples.map(({ id }) => id),
    );
    const { requestKey: key, promptHash, exampleHash, latencyMs, ...rest } = responses[3] ?? assert.fail();
    assert.match(key + promptHash + exampleHash, /^[0-9a-f]{192}$/);
    assert.ok(latencyMs >= 0);
    assert.deepEqual(rest, {
      status: 'kept',
      source: 'none',
      strategy: { name: 'none', version: 1 },
      exampleId: 'train/3',
      sampleIndex: 0,
      text: '3 + 1 = 4\n#### 4',
      finishReason: 'stop',
      gold: '4',
      strictExtraction: '4',
      flexibleExtraction: '4',
      strict: true,
      flexible: true,
      followsFormat: true,
      usage: { promptTokens: rest.usage?.promptTokens, completionTokens: 7 }, // Words: 3 + 1 = 4 #### 4
      tryCount: 1,
      teacher: 'fake:fake',
      reportedModel: 'fake',
      collectedAt: '2026-01-01T00:00:00.000Z',
    });
    const again = await collect(first);
    assert.equal(teacher.requests.length, 12);
    assert.deepEqual([again.doneCount, again.newCount, again.requestCount], [12, 0, 0]);
    if (process.platform !== 'win32') assert.equal((await stat(responsesFile(first.folder))).mode & 0o777, 0o600);
  });

  it('asks only for what is new when there are more questions, and keeps the settings of several configs apart', async () => {
    const teacher = fakeTeacher();
    const folder = newFolder();
    await collect(options({ teacher, folder, examples: examples.slice(0, 5) }));
    await collect(options({ teacher, folder }));
    assert.deepEqual(asked(teacher).sort(), examples.map(({ id }) => id).sort());
    const warmer = await collect(options({ teacher, folder, sampling: { ...sampling, temperature: 1 } }));
    assert.equal(warmer.newCount, 12);
    assert.equal((await readResponses(folder)).length, 24);
    assert.equal((await readResponses(folder, { keys: warmer.keys })).length, 12);
  });

  it('gives the arms the same questions, seeds and sampling: they differ in the priming alone', async () => {
    const folder = newFolder();
    const teachers = await Promise.all(
      ['none', 'teacher', 'confidence'].map(async (name, index) => {
        const teacher = fakeTeacher();
        await collect(options({ teacher, folder: `${folder}-${index}`, strategy: strategy(name), samplesPerQuestion: 2 }));
        return teacher;
      }),
    );
    const withoutPriming = ({ messages: _, strategy: __, signal: ___, ...request }: TeacherRequest) => request;
    const byPlace = (a: TeacherRequest, b: TeacherRequest) => a.exampleId.localeCompare(b.exampleId) || a.sampleIndex - b.sampleIndex;
    const [none, ...others] = teachers.map(({ requests }) => [...requests].sort(byPlace));
    for (const other of others) assert.deepEqual(other.map(withoutPriming), none?.map(withoutPriming));
    const seeds = none?.map((request) => request.sampling.seed) ?? [];
    assert.equal(new Set(seeds).size, 24); // Each question and sample has its own.
  });

  it('counts a cut or filtered answer as failed, and judges it anew, without buying it anew, when the config says otherwise', async () => {
    const answer = (request: TeacherRequest): TeacherAnswer | string =>
      request.exampleId === 'train/1'
        ? { text: 'cut o', finishReason: 'length' }
        : request.exampleId === 'train/2'
          ? { text: '', finishReason: 'content-filter' }
          : 'fine';
    const teacher = fakeTeacher({ answer });
    const first = options({ teacher });
    const strict = await collect(first);
    assert.deepEqual([strict.keptCount, strict.failures], [10, { truncated: 1, 'content-filter': 1 }]);
    assert.equal((await readResponses(first.folder)).length, 10); // Failed answers are not read to be learnt from.
    assert.equal((await readResponses(first.folder, { statuses: ['failed'] })).length, 2);
    const lenient = await collect({ ...first, accept: ['length', 'content-filter'] });
    assert.deepEqual([lenient.keptCount, lenient.failures], [11, { empty: 1 }]);
    const strictAgain = await collect(first);
    assert.deepEqual(strictAgain.failures, { truncated: 1, 'content-filter': 1 });
    assert.equal(teacher.requests.length, 12);
  });

  it('asks again for failed answers on request', async () => {
    const answer = ({ exampleId }: TeacherRequest, attempt: number): TeacherAnswer => ({
      text: 'x',
      finishReason: exampleId === 'train/1' && attempt === 0 ? 'length' : 'stop',
    });
    const teacher = fakeTeacher({ answer });
    const first = options({ teacher });
    await collect(first);
    const second = await collect({ ...first, retryFailed: true });
    assert.deepEqual([second.newCount, second.keptCount], [1, 12]);
    assert.equal(asked(teacher).filter((id) => id === 'train/1').length, 2);
    assert.equal((await readResponses(first.folder, { statuses: ['kept', 'failed'] })).length, 12); // The later one counts.
  });

  it('refuses two questions of one id', async () => {
    await assert.rejects(collect(options({ examples: [...examples, ...examples.slice(0, 1)] })), /Two questions have the id "train\/0"/);
  });

  it('lets a teacher that looks answers up say what it lacks before it starts', async () => {
    const planned: string[] = [];
    const teacher = {
      ...fakeTeacher(),
      prepare: async (requests: readonly { question: string }[]) => void planned.push(...requests.map(({ question }) => question)),
    };
    await collect(options({ teacher }));
    assert.deepEqual(
      planned,
      examples.map(({ question }) => question),
    );
  });

  it('reports progress up to the end', async () => {
    const seen: [number, number][] = [];
    await collect(options({ onProgress: ({ doneCount, wantedCount }) => seen.push([doneCount, wantedCount]) }));
    assert.deepEqual(seen.at(-1), [12, 12]);
    assert.ok(seen.every(([done], index) => index === 0 || done >= (seen[index - 1]?.[0] ?? 0)));
  });
});

describe('a slow disk', () => {
  /** A store whose answers are on the disk when the test says so. */
  const slowStore = () => {
    const disk = Promise.withResolvers<void>();
    const handed: string[] = [];
    const hand = async ({ exampleId }: Response) => {
      handed.push(exampleId);
      return { onDisk: disk.promise };
    };
    const store = {
      answers: new Map(),
      spent: () => nothingSpent,
      hand,
      append: async () => assert.fail(),
      close: async () => assert.fail(),
    };
    return { disk, handed, store };
  };

  const start = () => {
    const teacher = fakeTeacher();
    const asking = options({ teacher, concurrency: 3 });
    const planned = planCollection(asking);
    const tally = collectionTally(planned, () => undefined);
    const slow = slowStore();
    return { ...slow, teacher, tally, done: askAll(planned, asking, slow.store, tally) };
  };

  it('lets each place ask one question more, and no answer counts before it is on the disk', async () => {
    const { disk, handed, teacher, tally, done } = start();
    await sleep(20);
    assert.deepEqual([asked(teacher).length, handed.length, tally.counts().doneCount], [6, 3, 0]);
    disk.resolve();
    await done;
    assert.deepEqual([asked(teacher).length, handed.length, tally.counts().doneCount], [12, 12, 12]);
  });

  it('stops everything when it fails in the end', async () => {
    const { disk, teacher, tally, done } = start();
    await sleep(20);
    disk.reject(new DiskFullError('No room left.'));
    await assert.rejects(done, DiskFullError);
    assert.deepEqual([asked(teacher).length, tally.counts().doneCount], [6, 0]);
  });
});

describe('a provider that asks everybody to slow down', () => {
  const slowDown = (retryAfterMs?: number) =>
    new TeacherError('Slow down.', { retry: 'pause', ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });

  it('pauses all requests for as long as it asks, and uses up no try', async () => {
    const clock = hurriedClock();
    const sentAt: number[] = [];
    let refusals = 0;
    const answer = () => {
      sentAt.push(clock.now());
      return sentAt.length > 4 && refusals < 30 ? (refusals++, slowDown(7000)) : 'fine';
    };
    const teacher = fakeTeacher({ answer, concurrency: 3 });
    const report = await collect(options({ teacher, clock, retries: { maximumTries: 2, maximumFirstTries: 2 } }));
    assert.equal(report.keptCount, 12);
    // After the first refusal at a moment, nothing is sent for seven seconds but what was under way at that moment.
    const times = [...new Set(sentAt)];
    for (const [index, time] of times.entries())
      if (index > 1) assert.ok(time - (times[index - 1] ?? 0) >= 7000 || index > times.length - 3, `${times}`);
  });

  it('is asked ever more rarely when it says nothing of when', async () => {
    const clock = hurriedClock();
    let count = 0;
    const teacher = fakeTeacher({ answer: () => (count++ < 7 ? slowDown() : 'fine'), concurrency: 1 });
    await collect(options({ teacher, clock, examples: examples.slice(0, 1) }));
    // 2 s doubled up to 60 s, and up to a tenth of the last pause on top.
    const expected = [2, 4, 8, 16, 32, 60, 60];
    assert.equal(clock.waits.length, expected.length);
    for (const [index, seconds] of expected.entries()) {
      const wait = clock.waits[index] ?? 0;
      assert.ok(wait >= seconds * 1000 && wait <= seconds * 1100, `${wait} ms for ${seconds} s`);
    }
  });

  it('is given up when it asks for more than the run can wait', async () => {
    const teacher = fakeTeacher({ answer: () => slowDown(2 * 3_600_000) });
    await assert.rejects(
      collect(options({ teacher })),
      (thrown) => thrown instanceof TeacherError && /asks to wait 7200 s, and the longest wait is 3600 s/.test(thrown.message),
    );
  });
});

describe('a request that fails', () => {
  const unavailable = new TeacherError('The server had an error.', { retry: 'later' });

  it('is repeated after waits that double, each somewhere in its upper half, a bounded number of times', async () => {
    const clock = hurriedClock();
    // The second question is answered, so that the first does not count as a wrong address.
    const teacher = fakeTeacher({ answer: ({ exampleId }) => (exampleId === 'train/1' ? unavailable : 'fine'), concurrency: 1 });
    const first = options({ teacher, clock, examples: examples.slice(0, 2) });
    const report = await collect(first);
    assert.deepEqual([report.keptCount, report.failures], [1, { unanswered: 1 }]);
    assert.equal(asked(teacher).filter((id) => id === 'train/1').length, 8);
    for (const [index, wait] of clock.waits.entries()) {
      const fullMs = Math.min(60_000, 1000 * 2 ** index);
      assert.ok(wait >= fullMs / 2 && wait <= fullMs, `wait ${index}: ${wait}`);
    }
    assert.equal(clock.waits.length, 7);
    const [failed] = await readResponses(first.folder, { statuses: ['failed'] });
    assert.deepEqual([failed?.reason, failed?.detail, failed?.tryCount], ['unanswered', 'The server had an error.', 8]);
    // Nothing was got for it: the next run asks again by itself.
    const better = await collect({ ...first, teacher: fakeTeacher() });
    assert.deepEqual([better.newCount, better.keptCount], [1, 2]);
  });

  it('counts what it cost although it gave nothing', async () => {
    const empty = new TeacherError('An empty answer.', { retry: 'later' }, { usage: { promptTokens: 10, completionTokens: 1 } });
    const answer = (_: TeacherRequest, attempt: number) =>
      attempt < 2 ? empty : { text: 'x', finishReason: 'stop' as const, usage: { promptTokens: 10, completionTokens: 5 } };
    const first = options({ teacher: fakeTeacher({ answer }), examples: examples.slice(0, 1) });
    const report = await collect(first);
    assert.deepEqual(report.usage, { promptTokens: 30, completionTokens: 7 });
    const [response] = await readResponses(first.folder);
    assert.deepEqual(
      [response?.usage, response?.wastedUsage],
      [
        { promptTokens: 10, completionTokens: 5 },
        { promptTokens: 20, completionTokens: 2 },
      ],
    );
  });

  it('stops everything when all requests would fail alike; what was under way is kept', async () => {
    const refused = new TeacherError('The key is wrong.', { retry: 'never', scope: 'all' }, { status: 401 });
    const slow = fakeTeacher();
    const teacher = {
      ...slow,
      concurrency: 4,
      generate: async (request: TeacherRequest) => {
        if (request.exampleId === 'train/2') throw refused;
        const answer = await slow.generate(request);
        await new Promise((resolve) => setTimeout(resolve, 30));
        return answer;
      },
    };
    const first = options({ teacher });
    await assert.rejects(collect(first), (thrown) => {
      assert.ok(thrown instanceof TeacherError);
      assert.match(thrown.message, /The key is wrong\. Stopped with 3 of 12 answers, which are kept in .*Run the same command again/);
      assert.equal(thrown.status, 401);
      return true;
    });
    assert.equal(slow.requests.length, 3);
    assert.equal((await readResponses(first.folder)).length, 3);
  });

  it('costs one question when the provider refuses this one alone', async () => {
    const tooLong = new TeacherError('Too long.', { retry: 'never', scope: 'question' });
    const report = await collect(
      options({ teacher: fakeTeacher({ answer: ({ exampleId }) => (exampleId === 'train/4' ? tooLong : 'fine') }) }),
    );
    assert.deepEqual([report.keptCount, report.failures], [11, { refused: 1 }]);
  });

  it('is told within a few tries when nothing was ever answered', async () => {
    const teacher = fakeTeacher({ answer: () => unavailable, concurrency: 1 });
    await assert.rejects(collect(options({ teacher })), /The server had an error\. Stopped with 0 of 12/);
    assert.equal(teacher.requests.length, 4);
  });

  it('ends the collection when the teacher has gone for good', async () => {
    const teacher = fakeTeacher({ answer: ({ exampleId }) => (Number(exampleId.slice(6)) < 4 ? 'fine' : unavailable), concurrency: 1 });
    const first = options({ teacher });
    await assert.rejects(collect(first), /The server had an error\. Stopped with 4 of 12/);
    assert.equal(teacher.requests.length, 4 + 5 * 8); // Five questions in a row, eight tries each.
    assert.equal((await collect({ ...first, teacher: fakeTeacher() })).newCount, 8);
  });

  it('is a bug of ours when the error is no TeacherError, and goes on as it came', async () => {
    const bug = new TypeError('undefined is not a function');
    await assert.rejects(collect(options({ teacher: fakeTeacher({ answer: () => bug }) })), (thrown) => thrown === bug);
  });
});

describe('stopping and going on', () => {
  it('ends cleanly when told to, says how many answers there are, keeps those under way, and goes on', async () => {
    const abort = new AbortController();
    const answer = () => {
      if (teacher.requests.length >= 5) abort.abort();
      return 'fine';
    };
    const teacher: FakeTeacher = fakeTeacher({ answer, concurrency: 3, latencyMs: 5 });
    const first = options({ teacher, signal: abort.signal });
    const stopped = await collect(first).catch((thrown: unknown) => thrown);
    assert.ok(stopped instanceof CollectionStoppedError && stopped instanceof UserError);
    const { doneCount } = stopped.report;
    assert.ok(doneCount >= 5 && doneCount < 12);
    assert.match(stopped.message, new RegExp(`Stopped with ${doneCount} of 12 answers`));
    assert.equal(doneCount, teacher.requests.length); // All that was asked arrived and was kept.
    const report = await collect({ ...first, signal: new AbortController().signal });
    assert.equal(report.keptCount, 12);
    assert.equal(teacher.requests.length, 12);
  });

  it('hangs up when the grace is over', async () => {
    const abort = new AbortController();
    const teacher = fakeTeacher({ latencyMs: 60_000, concurrency: 2 });
    const { clock: _, ...rest } = options({ teacher, signal: abort.signal, graceMs: 20 });
    setTimeout(() => abort.abort(), 20);
    const startMs = Date.now();
    await assert.rejects(collect(rest), CollectionStoppedError);
    assert.ok(Date.now() - startMs < 10_000);
  });

  it('asks nothing when it is told to stop before it starts', async () => {
    const teacher = fakeTeacher();
    await assert.rejects(collect(options({ teacher, signal: AbortSignal.abort() })), CollectionStoppedError);
    assert.equal(teacher.requests.length, 0);
  });

  it('mends a line that a kill tore, says so, and asks for its question again', async () => {
    const teacher = fakeTeacher();
    const first = options({ teacher, concurrency: 1 });
    await collect(first);
    const path = responsesFile(first.folder);
    const whole = await readFile(path, 'utf8');
    await writeFile(path, whole.slice(0, whole.length - 40));
    const warnings: string[] = [];
    const report = await collect({ ...first, onWarning: (warning) => warnings.push(warning) });
    assert.deepEqual([report.newCount, report.keptCount, warnings.length], [1, 12, 1]);
    assert.match(warnings[0] ?? '', /line 12 was cut off/);
    assert.equal((await readResponses(first.folder)).length, 12);
  });

  it('names a damaged line in the middle, and loses nothing', async () => {
    const first = options();
    await collect(first);
    await appendFile(responsesFile(first.folder), 'not json\n{"requestKey":1}\n');
    await assert.rejects(collect(first), /responses\.jsonl:13: expected a line of JSON/);
    assert.ok((await readFile(responsesFile(first.folder), 'utf8')).endsWith('not json\n{"requestKey":1}\n'));
  });

  it('lets no second collector into the folder', async () => {
    const first = options({ teacher: fakeTeacher({ latencyMs: 1 }) });
    const [one, two] = await Promise.allSettled([collect(first), collect(first)]);
    const rejected = [one, two].filter((result) => result.status === 'rejected');
    assert.equal(rejected.length, 1);
    assert.ok(rejected[0]?.reason instanceof FolderInUseError);
  });

  it('leaves the folder free after an error', async () => {
    const first = options({ teacher: fakeTeacher({ answer: () => new Error('x') }) });
    await assert.rejects(collect(first));
    await (await openResponseStore(first.folder)).close();
  });
});

describe('the key of a request', () => {
  const parts = {
    messages: [{ role: 'user' as const, content: 'Q' }],
    teacher: { kind: 'local', model: 'm', revision: 'r', templateHash: 't', provider: 'p', settings: { omit: 'seed' }, location: '/a' },
    sampling,
    strategy: { name: 's', version: 1 },
    sampleIndex: 0,
  };
  const key = requestKey(parts);

  it('changes with everything that decides the answer', () => {
    const { teacher } = parts;
    const changes: Partial<typeof parts>[] = [
      { messages: [{ role: 'user', content: 'Q ' }] },
      { messages: [...parts.messages, ...parts.messages] },
      ...(['kind', 'model', 'revision', 'templateHash', 'provider'] as const).map((name) => ({ teacher: { ...teacher, [name]: 'other' } })),
      { teacher: { ...teacher, settings: { omit: 'topP' } } },
      ...(['maximumTokens', 'temperature', 'topP', 'seed'] as const).map((name) => ({ sampling: { ...sampling, [name]: 0.123 } })),
      { strategy: { name: 's', version: 2 } },
      { strategy: { name: 't', version: 1 } },
      { sampleIndex: 1 },
    ];
    const keys = changes.map((change) => requestKey({ ...parts, ...change }));
    assert.equal(new Set([key, ...keys]).size, changes.length + 1);
  });

  it('does not change with where the teacher is', () => {
    assert.equal(requestKey({ ...parts, teacher: { ...parts.teacher, location: '/b' } }), key);
  });

  it('and its seed depend on question and sample, and are whole numbers that every provider takes', () => {
    const seeds = [requestSeed(1, 'a', 0), requestSeed(1, 'a', 1), requestSeed(1, 'b', 0), requestSeed(2, 'a', 0)];
    assert.equal(new Set(seeds).size, 4);
    assert.ok(seeds.every((seed) => Number.isInteger(seed) && seed >= 0 && seed < 2 ** 31));
  });

  it('is planned in the order of the examples', () => {
    const planned = planCollection({ ...options(), samplesPerQuestion: 2 });
    assert.deepEqual(
      planned.slice(0, 3).map(({ example, sampleIndex }) => [example.id, sampleIndex]),
      [
        ['train/0', 0],
        ['train/0', 1],
        ['train/1', 0],
      ],
    );
  });
});

describe('readResponses', () => {
  it('gives an order that does not depend on when answers came', async () => {
    const teacher = fakeTeacher();
    const orders = await Promise.all(
      [examples, [...examples].reverse()].map(async (ordered) => {
        const collected = options({ teacher, examples: ordered });
        await collect(collected);
        return (await readResponses(collected.folder)).map(({ exampleId }) => exampleId);
      }),
    );
    assert.deepEqual(
      orders[0],
      examples.map(({ id }) => id),
    ); // train/2 before train/10
    assert.deepEqual(orders[1], orders[0]);
  });

  it('reads one source, and nothing where nothing is', async () => {
    const folder = newFolder();
    assert.deepEqual(await readResponses(folder), []);
    await collect(options({ folder }));
    await collect(options({ folder, strategy: strategy('teacher'), source: 'taught' }));
    assert.equal((await readResponses(folder, { source: 'taught' })).length, 12);
  });

  it('names the line that is no answer', async () => {
    const folder = newFolder();
    await collect(options({ folder }));
    await appendFile(responsesFile(folder), '{"requestKey":"x"}\n');
    await assert.rejects(readResponses(folder), /responses\.jsonl:13: not an answer of a response store: status/);
  });
});

describe('answers without a teacher', () => {
  it('gold: the data set’s own solutions, all right, stored once', async () => {
    const gold = goldResponses(examples, gsm8k);
    assert.deepEqual(
      gold.map(({ text }) => text),
      examples.map(({ solution }) => solution),
    );
    assert.ok(gold.every(({ strict, flexible, status }) => strict && flexible && status === 'kept'));
    const folder = newFolder();
    await storeResponses(folder, gold);
    await storeResponses(folder, gold);
    assert.deepEqual(JSON.parse(JSON.stringify(await readResponses(folder, { source: 'gold' }))), JSON.parse(JSON.stringify(gold)));
    assert.equal((await readFile(responsesFile(folder), 'utf8')).trim().split('\n').length, 12);
  });

  it('shuffled: every answer once, none with its own question, for any number of questions and seed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 12 }), fc.integer(), (count, seed) => {
        const gold = goldResponses(examples.slice(0, count), gsm8k);
        const moved = shuffledResponses(gold, seed, examples, gsm8k);
        assert.deepEqual(
          moved.map(({ exampleId }) => exampleId),
          gold.map(({ exampleId }) => exampleId),
        );
        assert.deepEqual(moved.map(({ text }) => text).sort(), gold.map(({ text }) => text).sort());
        for (const [index, response] of moved.entries()) {
          assert.notEqual(response.answerFrom, response.exampleId);
          assert.equal(response.text, examples.find(({ id }) => id === response.answerFrom)?.solution);
          assert.equal(response.gold, gold[index]?.gold);
          assert.equal(response.strict, false); // Every gold answer is another number.
          assert.equal(response.source, 'shuffled');
        }
        assert.deepEqual(shuffledResponses(gold, seed, examples, gsm8k), moved);
        assert.equal(new Set(moved.map(({ requestKey: key }) => key)).size, count);
      }),
    );
  });

  it('shuffled: several answers to a question move together', () => {
    const twice = goldResponses(examples.slice(0, 4), gsm8k).flatMap((response) =>
      [0, 1].map((sampleIndex) => ({ ...response, sampleIndex })),
    );
    for (const { answerFrom, exampleId } of shuffledResponses(twice, 3, examples, gsm8k)) assert.notEqual(answerFrom, exampleId);
  });

  it('shuffled: another seed gives another order, and one question cannot be shuffled', () => {
    const gold = goldResponses(examples, gsm8k);
    const order = (seed: number) => shuffledResponses(gold, seed, examples, gsm8k).map(({ answerFrom }) => answerFrom);
    assert.notDeepEqual(order(1), order(2));
    assert.throws(() => shuffledResponses(gold.slice(0, 1), 1, examples, gsm8k), /at least two questions/);
  });
});

describe('a patient teacher', () => {
  it('asks again where that helps, waits where it is asked to, and passes on what no waiting mends', async () => {
    const problems = [new TeacherError('a', { retry: 'later' }), new TeacherError('b', { retry: 'pause', retryAfterMs: 5 })];
    const answer = ({ exampleId }: TeacherRequest, attempt: number) =>
      exampleId === 'no' ? new TeacherError('never', { retry: 'never', scope: 'question' }) : (problems[attempt] ?? 'fine');
    const seen: string[] = [];
    const teacher = patientTeacher(fakeTeacher({ answer }), { clock: hurriedClock(), onProblem: (message) => seen.push(message) });
    const request = { exampleId: 'a', question: '', strategy: 'none', sampleIndex: 0, messages: [], sampling };
    assert.equal((await teacher.generate(request)).text, 'fine');
    assert.deepEqual(seen, ['a', 'b']);
    await assert.rejects(teacher.generate({ ...request, exampleId: 'no' }), /never/);
  });
});

describe('the provenance card', () => {
  it('says of every source how its answers came about, and what became of them', async () => {
    const folder = newFolder();
    const cut = ({ exampleId }: TeacherRequest): TeacherAnswer => ({
      text: 'x',
      finishReason: exampleId === 'train/1' ? 'length' : 'stop',
      usage: { promptTokens: 10, completionTokens: 2 },
      reportedModel: exampleId === 'train/2' ? 'big-2' : 'big-1',
    });
    const teacher = fakeTeacher({ answer: cut, identity: { provider: 'api.openai.com', model: 'big' } });
    const prices = { inputPerMillion: 1, outputPerMillion: 2 };
    const warnings: string[] = [];
    await collect(options({ folder, teacher, prices, onWarning: (warning) => warnings.push(warning) }));
    await collect(options({ folder, strategy: strategy('teacher') }));
    const card = JSON.parse(await readFile(provenanceFile(folder), 'utf8'));
    assert.deepEqual(Object.keys(card.sources), ['none', 'teacher']);
    const { none, teacher: taught } = card.sources;
    assert.deepEqual([none.keptCount, none.failures, none.reportedModels], [11, { truncated: 1 }, { 'big-1': 11, 'big-2': 1 }]);
    // 12 answers of 10 + 2 tokens at $1 and $2 a million.
    assert.deepEqual([none.spent.tokens, none.spent.requests, Math.round(none.spent.usd * 1e6)], [144, 12, 12 * 14]);
    assert.equal(taught.strategy.text, strategy('teacher').text);
    assert.equal(none.firstAnswerAt, '2026-01-01T00:00:00.000Z');
    assert.equal(card.files['responses.jsonl'], await sha256OfFile(responsesFile(folder)));
    // Told before the first request, and kept in the card.
    assert.match(warnings[0] ?? '', /OpenAI's terms restrict .* Make sure that your use is allowed/);
    assert.match(none.terms[0], /OpenAI/);
    if (process.platform !== 'win32') assert.equal((await stat(provenanceFile(folder))).mode & 0o777, 0o600);
  });

  it('is there after a stop, too', async () => {
    const first = options({
      teacher: fakeTeacher({
        answer: ({ exampleId }) => (exampleId === 'train/5' ? new TeacherError('no', { retry: 'never', scope: 'all' }) : 'x'),
        concurrency: 1,
      }),
    });
    await assert.rejects(collect(first), TeacherError);
    assert.equal(JSON.parse(await readFile(provenanceFile(first.folder), 'utf8')).sources.none.keptCount, 5);
  });
});

describe('texts that are sent', () => {
  it('pass the redact hook first, and keys follow what is sent', async () => {
    const teacher = fakeTeacher();
    const first = options({ teacher, redact: (text) => text.replace(/\d+/g, '#') });
    const report = await collect(first);
    assert.ok(teacher.requests.every(({ messages }) => !/\d \+ 1/.test(messages[0]?.content ?? '')));
    assert.notDeepEqual(
      report.keys,
      planCollection({ ...first, redact: (text) => text }).map((planned) => planned.requestKey),
    );
  });
});

describe('forgetting a question', () => {
  it('removes it, what was made from it, and nothing else', async () => {
    const first = options();
    await collect(first);
    const moved = shuffledResponses(await readResponses(first.folder), 1, examples, gsm8k);
    await storeResponses(first.folder, moved);
    assert.equal(await forgetQuestion(first.folder, 'train/3'), 3); // Its answer, the answer put under it, and its answer under another.
    const text = await readFile(responsesFile(first.folder), 'utf8');
    assert.ok(!text.includes('"train/3"'));
    assert.equal(text.trim().split('\n').length, 24 - 3);
    assert.equal(await forgetQuestion(first.folder, 'train/3'), 0);
    assert.equal((await collect(first)).newCount, 1); // The others are still there.
  });
});

describe('a large store', () => {
  it('is opened by the heads of its lines: texts with anything in them change nothing', async () => {
    const folder = newFolder();
    const nasty = ['', ' \n\t', '","text":"', '{"text":"x"}', '\\', 'é€𝄞\u2028', '"', 'x'.repeat(300_000), '\\n"'];
    const teacher = fakeTeacher({
      answer: ({ exampleId }) => ({ text: nasty[Number(exampleId.slice(6))] ?? 'x', reasoning: ',"text":"', finishReason: 'length' }),
    });
    const first = options({ folder, teacher, accept: ['length'] });
    const report = await collect(first);
    assert.deepEqual([report.keptCount, report.failures], [10, { empty: 2 }]);
    assert.deepEqual(
      (await readResponses(folder, { keys: report.keys, statuses: ['kept', 'failed'] })).map(({ text }) => text),
      examples.map((_, index) => nasty[index] ?? 'x'),
    );
    const sizeBytes = (await stat(responsesFile(folder))).size;
    assert.deepEqual((await collect(first)).failures, { empty: 2 });
    assert.equal((await stat(responsesFile(folder))).size, sizeBytes); // Judged by the heads alone, and alike: no line was added.
    assert.deepEqual((await collect({ ...first, accept: [] })).failures, { truncated: 12 });
    assert.equal(teacher.requests.length, 12);
  });

  it('may hold lines that others wrote, in another order of keys', async () => {
    const first = options();
    await collect(first);
    const path = responsesFile(first.folder);
    const lines = (await readFile(path, 'utf8'))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    await writeFile(path, lines.map((line) => JSON.stringify(Object.fromEntries(Object.entries(line).reverse()))).join('\n'));
    assert.equal((await collect(first)).newCount, 0);
  });
});
