import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';

import { inspect } from 'node:util';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { aiSdkTeacher } from '../src/teachers/ai-sdk.ts';
import { anthropicProfile, anthropicTeacher } from '../src/teachers/anthropic.ts';
import { anthropicMessageBody, anthropicRateLimitOf, parseAnthropicMessage } from '../src/teachers/anthropic-message.ts';
import { createTeacher } from '../src/teachers/create-teacher.ts';
import { engineTeacher } from '../src/teachers/engine.ts';
import { fakeTeacher } from '../src/teachers/fake.ts';
import { type Fault, type FaultServer, type FaultServerOptions, startFaultServer } from '../src/teachers/fault-server.ts';
import { type OpenAiCompatibleOptions, openAiCompatibleTeacher } from '../src/teachers/openai-compatible.ts';
import { separateReasoning } from '../src/teachers/reasoning.ts';
import { recordedTeacher } from '../src/teachers/recorded.ts';
import { redactor } from '../src/teachers/redact.ts';
import type { Teacher, TeacherRequest } from '../src/teachers/teacher.ts';
import { teacherSchema } from '../src/teachers/teacher-config.ts';
import { type RetryAdvice, TeacherError } from '../src/teachers/teacher-error.ts';
import { byteTokenizer, fakeEngine } from './fake-engine.ts';

const folder = await mkdtemp(join(tmpdir(), 'retort-teachers-'));
after(() => rm(folder, { recursive: true, force: true }));

const key = 'sk-test-4f9a8b7c6d5e4f3a2b1c';

const request = (id: string, change: Partial<TeacherRequest> = {}): TeacherRequest => ({
  exampleId: id,
  question: `What is ${id}?`,
  strategy: 'none',
  sampleIndex: 0,
  messages: [{ role: 'user', content: `What is ${id}?` }],
  sampling: { maximumTokens: 64, temperature: 0.7, topP: 0.9, seed: 5 },
  ...change,
});

/** Starts a server, runs, closes both. */
const withServer = async (
  serverOptions: FaultServerOptions,
  run: (teacher: Teacher, server: FaultServer) => Promise<void>,
  options: Partial<OpenAiCompatibleOptions> = {},
): Promise<void> => {
  const server = await startFaultServer(serverOptions);
  const teacher = openAiCompatibleTeacher({
    baseUrl: server.baseUrl,
    model: 'big',
    apiKeyVariable: 'TEST_KEY',
    environment: { TEST_KEY: key },
    ...options,
  });
  try {
    await run(teacher, server);
  } finally {
    await teacher.release();
    await server.close();
  }
};

const failure = async (promise: Promise<unknown>): Promise<TeacherError> => {
  const thrown = await promise.then(
    () => assert.fail('expected an error'),
    (reason: unknown) => reason,
  );
  assert.ok(thrown instanceof TeacherError, inspect(thrown));
  return thrown;
};

/** What every teacher must do. `open` makes one that can answer the questions a, b and c. */
const conformance: Record<string, () => Promise<{ teacher: Teacher; close?: () => Promise<void> }>> = {
  fake: async () => ({ teacher: fakeTeacher() }),
  recorded: async () => {
    const file = join(folder, 'conformance.jsonl');
    await writeFile(file, ['a', 'b', 'c'].map((id) => JSON.stringify({ id, answer: `The answer to ${id}` })).join('\n'));
    return { teacher: await recordedTeacher(file) };
  },
  'openai-compatible': async () => {
    const server = await startFaultServer({ key });
    const teacher = openAiCompatibleTeacher({
      baseUrl: server.baseUrl,
      model: 'big',
      apiKeyVariable: 'TEST_KEY',
      environment: { TEST_KEY: key },
    });
    return { teacher, close: () => server.close() };
  },
  anthropic: async () => {
    const server = await startFaultServer({ key });
    const teacher = anthropicTeacher({ baseUrl: server.baseUrl, model: 'big', apiKeyVariable: 'TEST_KEY', environment: { TEST_KEY: key } });
    return { teacher, close: () => server.close() };
  },
  'ai-sdk': async () => ({ teacher: aiSdkTeacher(languageModel()) }),
  engine: async () => {
    const { tokenizer, template, endToken } = byteTokenizer();
    const engine = fakeEngine({ tokenizer, endToken, answer: (prompt) => `The answer to ${prompt.match(/What is (\w)/)?.[1]}` });
    return { teacher: engineTeacher({ engine, text: { tokenizer, template, endTokens: [endToken] }, identity: { model: 'toy' } }) };
  },
};

for (const [name, open] of Object.entries(conformance)) {
  describe(`teacher ${name}`, () => {
    it('answers each question with its own answer, the same every time, however many are asked at once', async () => {
      const { teacher, close } = await open();
      try {
        await teacher.prepare?.(['a', 'b', 'c'].map((id) => request(id)));
        const ask = () => Promise.all(['a', 'b', 'c'].map((id) => teacher.generate(request(id))));
        const [first, second] = [await ask(), await ask()];
        assert.deepEqual(
          first.map(({ text }) => text),
          second.map(({ text }) => text),
        );
        assert.equal(new Set(first.map(({ text }) => text)).size, 3);
        assert.ok(first.every(({ text, finishReason }) => text.length > 0 && finishReason === 'stop'));
      } finally {
        await teacher.release();
        await close?.();
      }
    });

    it('says who it is without a credential, and how much it takes at once', async () => {
      const { teacher, close } = await open();
      await teacher.release();
      await close?.();
      assert.ok(teacher.identity.kind.length > 0 && teacher.identity.model.length > 0);
      assert.ok(teacher.concurrency >= 1);
      assert.ok(!inspect(teacher, { depth: 5, showHidden: true }).includes(key));
    });
  });
}

/** A model of the AI SDK that says what it was asked. */
function languageModel(change: Record<string, unknown> = {}, calls: unknown[] = []): Parameters<typeof aiSdkTeacher>[0] {
  const model = {
    specificationVersion: 'v3' as const,
    provider: 'mock',
    modelId: 'mock-model',
    supportedUrls: {},
    doStream: () => Promise.reject(new Error('not streamed')),
    doGenerate: async (options: { prompt: { content: unknown }[] }) => {
      calls.push(options);
      return {
        content: [{ type: 'text' as const, text: JSON.stringify(options.prompt.at(-1)?.content) }],
        finishReason: { unified: 'stop' as const, raw: 'stop' },
        usage: {
          inputTokens: { total: 10, noCache: 6, cacheRead: 4, cacheWrite: undefined },
          outputTokens: { total: 7, text: 5, reasoning: 2 },
        },
        warnings: [],
        ...change,
      };
    },
  };
  return model;
}

describe('an OpenAI-compatible teacher', () => {
  it('sends messages, sampling and key, and reads text, usage and model', async () => {
    await withServer({ key, answer: ({ messages, seed }) => `${messages.map(({ role }) => role).join()} ${seed}` }, async (teacher) => {
      const answer = await teacher.generate(
        request('a', {
          messages: [
            { role: 'system', content: 'Be brief.' },
            { role: 'user', content: 'two words' },
          ],
        }),
      );
      // The fault server counts words: 4 in the prompt, 2 in the answer.
      assert.deepEqual(answer, {
        text: 'system,user 5',
        finishReason: 'stop',
        usage: { promptTokens: 4, completionTokens: 2 },
        reportedModel: 'big-2026-01-01',
      });
    });
  });

  const expected: Record<Fault, { advice: RetryAdvice; message: RegExp } | { finishReason: string }> = {
    'rate-limited': { advice: { retry: 'pause', retryAfterMs: 7000 }, message: /answered 429: Rate limit reached\. Slow down\./ },
    'server-error': { advice: { retry: 'later' }, message: /answered 500: The server had an error\./ },
    overloaded: { advice: { retry: 'later' }, message: /answered 503: an empty body\./ },
    'bad-request': { advice: { retry: 'never', scope: 'all' }, message: /answered 400: No such parameter\./ },
    'too-long': { advice: { retry: 'never', scope: 'question' }, message: /answered 400: .*maximum context length/ },
    forbidden: { advice: { retry: 'never', scope: 'all' }, message: /answered 403: .*Check the key/ },
    'not-found': { advice: { retry: 'never', scope: 'all' }, message: /answered 404: .*Check baseUrl/ },
    'reset-before-billing': { advice: { retry: 'later' }, message: /could not be reached: .*(ECONNRESET|socket hang up)/ },
    'reset-after-billing': { advice: { retry: 'later' }, message: /could not be reached/ },
    'empty-body': { advice: { retry: 'later' }, message: /answered 200, but not with an answer: an empty body\./ },
    'empty-answer': { advice: { retry: 'later' }, message: /sent an empty answer/ },
    'half-json': { advice: { retry: 'later' }, message: /answered 200, but not with an answer: JSON that is broken off.*\{"id":"chatcmpl/ },
    garbage: { advice: { retry: 'later' }, message: /not with an answer: text: .*garbage/ },
    'web-page': { advice: { retry: 'later' }, message: /not with an answer: a web page: <!doctype html>.*Sign in to the network/ },
    stall: { advice: { retry: 'later' }, message: /did not answer within 0\.3 s/ },
    length: { finishReason: 'length' },
    'content-filter': { finishReason: 'content-filter' },
  };

  for (const [fault, outcome] of Object.entries(expected)) {
    it(`meets ${fault} with ${'advice' in outcome ? JSON.stringify(outcome.advice) : outcome.finishReason}, and shows no key`, async () => {
      const script = { key, echoesKey: true, retryAfterSeconds: 7, faults: () => fault as Fault };
      const options = fault === 'stall' ? { timeoutMs: 300 } : {};
      await withServer(
        script,
        async (teacher) => {
          const promise = teacher.generate(request('a'));
          if ('finishReason' in outcome) {
            assert.equal((await promise).finishReason, outcome.finishReason);
            return;
          }
          const error = await failure(promise);
          assert.deepEqual(error.advice, outcome.advice);
          assert.match(error.message, outcome.message);
          const everything = inspect(error, { depth: 10, showHidden: true }) + error.stack;
          for (let start = 0; start + 8 <= key.length; start++) assert.ok(!everything.includes(key.slice(start, start + 8)), everything);
        },
        options,
      );
    });
  }

  it('is told that the key is wrong without being told the key', async () => {
    await withServer({ key: 'sk-another' }, async (teacher) => {
      const error = await failure(teacher.generate(request('a')));
      assert.match(error.message, /answered 401: Incorrect API key provided: Bearer \[redacted\]/);
      assert.deepEqual(error.advice, { retry: 'never', scope: 'all' });
    });
  });

  it('waits no longer than the account has money', async () => {
    const server = createServer((message, response) => {
      message.resume();
      response.writeHead(429, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: { message: 'You exceeded your current quota.', code: 'insufficient_quota' } }));
    });
    await withPlainServer(server, async (teacher) => {
      assert.deepEqual((await failure(teacher.generate(request('a')))).advice, { retry: 'never', scope: 'all' });
    });
  });

  it('reads a Retry-After that names a date', async () => {
    const server = createServer((message, response) => {
      message.resume();
      response.writeHead(429, { 'retry-after': 'Thu, 01 Jan 2026 00:01:30 GMT' });
      response.end();
    });
    await withPlainServer(server, async (_, baseUrl) => {
      const teacher = openAiCompatibleTeacher({ baseUrl, model: 'm', environment: {}, now: () => Date.UTC(2026, 0, 1) });
      assert.deepEqual((await failure(teacher.generate(request('a')))).advice, { retry: 'pause', retryAfterMs: 90_000 });
    });
  });

  it('follows no redirect, which would carry prompts and key elsewhere', async () => {
    let elsewhereCount = 0;
    const elsewhere = createServer((_, response) => {
      elsewhereCount++;
      response.end('{}');
    });
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
    const location = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/v1/chat/completions`;
    const server = createServer((message, response) => {
      message.resume();
      response.writeHead(307, { location });
      response.end();
    });
    await withPlainServer(server, async (teacher) => {
      assert.match((await failure(teacher.generate(request('a')))).message, /answered 307: .*Redirects are not followed/);
      assert.equal(elsewhereCount, 0);
    });
    elsewhere.close();
  });

  it('leaves out what the model refuses, and a topP of 1', async () => {
    const bodies: Record<string, unknown>[] = [];
    const server = createServer(async (message, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of message as AsyncIterable<Buffer>) chunks.push(chunk);
      bodies.push(JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>);
      response.writeHead(200, {
        'content-type': 'application/json',
        'x-ratelimit-limit-requests': '60',
        'x-ratelimit-remaining-tokens': '900',
      });
      response.end(
        JSON.stringify({
          id: 'x',
          created: 0,
          model: 'm',
          choices: [{ index: 0, message: { role: 'assistant', content: '<think>hm</think>yes' }, finish_reason: 'stop' }],
        }),
      );
    });
    await withPlainServer(server, async (teacher, baseUrl) => {
      const answer = await teacher.generate(request('a', { sampling: { maximumTokens: 9, temperature: 0, topP: 1, seed: 3 } }));
      // No usage in the answer: absent, not zero.
      assert.deepEqual(answer, {
        text: 'yes',
        reasoning: 'hm',
        finishReason: 'stop',
        reportedModel: 'm',
        rateLimit: { requestsPerMinute: 60, remainingTokens: 900 },
      });
      const options = {
        omit: ['temperature', 'seed'] as const,
        tokenLimitParameter: 'max_completion_tokens' as const,
        reasoningEffort: 'low',
      };
      const other = openAiCompatibleTeacher({ baseUrl, model: 'm', environment: {}, ...options });
      await other.generate(request('a'));
      await other.release();
      assert.deepEqual(other.identity.settings, { omit: 'seed temperature', reasoningEffort: 'low' });
    });
    const messages = [{ role: 'user', content: 'What is a?' }];
    assert.deepEqual(bodies, [
      { model: 'm', messages, max_tokens: 9, temperature: 0, seed: 3 },
      { model: 'm', messages, max_completion_tokens: 64, top_p: 0.9, reasoning_effort: 'low' },
    ]);
  });

  it('hangs up when told to', async () => {
    await withServer({ faults: () => 'stall' }, async (teacher) => {
      const abort = new AbortController();
      const promise = teacher.generate(request('a', { signal: abort.signal }));
      setTimeout(() => abort.abort(new Error('enough')), 50);
      await assert.rejects(promise, /enough/);
    });
  });
});

/** A teacher without a key before a server of the test's own. */
const withPlainServer = async (
  server: ReturnType<typeof createServer>,
  run: (teacher: Teacher, baseUrl: string) => Promise<void>,
): Promise<void> => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  const teacher = openAiCompatibleTeacher({ baseUrl, model: 'm', environment: {} });
  try {
    await run(teacher, baseUrl);
  } finally {
    await teacher.release();
    server.closeAllConnections();
    server.close();
  }
};

describe('keys and hosts', () => {
  const make = (change: Partial<OpenAiCompatibleOptions>) => () =>
    openAiCompatibleTeacher({
      baseUrl: 'https://models.example/v1',
      model: 'big',
      environment: { OPENAI_API_KEY: key, MINE: key, EMPTY: ' ' },
      ...change,
    });

  it("a known provider's key is looked up under its own name, and its absence told before anything is asked", () => {
    assert.doesNotThrow(make({ baseUrl: 'https://api.openai.com/v1' }));
    assert.throws(make({ baseUrl: 'https://api.openai.com/v1', environment: {} }), /environment variable OPENAI_API_KEY, which is not set/);
    assert.throws(make({ apiKeyVariable: 'EMPTY' }), /EMPTY, which is empty/);
  });

  it('a key goes to no host that it was not named for', async () => {
    let authorization: string | undefined = 'not asked';
    const server = createServer((message, response) => {
      authorization = message.headers.authorization;
      message.resume();
      response.writeHead(400).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
    const teacher = openAiCompatibleTeacher({ baseUrl, model: 'm', environment: { OPENAI_API_KEY: key, ANTHROPIC_API_KEY: key } });
    await failure(teacher.generate(request('a')));
    await teacher.release();
    server.close();
    assert.equal(authorization, undefined);
  });

  it('a proxy is the one of the environment that was given, and this machine is asked without one', async () => {
    const server = await startFaultServer();
    const asked: string[] = [];
    const proxy = createServer();
    proxy.on('connect', (message, socket: Socket) => {
      asked.push(message.url ?? '');
      const { port } = new URL(server.baseUrl);
      const onward = connect(Number(port), '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
        onward.pipe(socket).pipe(onward);
      });
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const environment = { HTTP_PROXY: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` };
    const ask = async (baseUrl: string, change: object = environment): Promise<string> => {
      const teacher = openAiCompatibleTeacher({ baseUrl, model: 'm', environment: { ...change } });
      try {
        return (await teacher.generate(request('a'))).text;
      } finally {
        await teacher.release();
      }
    };
    try {
      assert.match(await ask('http://models.invalid/v1'), /####/);
      assert.deepEqual(asked, ['models.invalid:80']);
      assert.match(await ask(server.baseUrl), /####/);
      const reason = await failure(ask('http://models.invalid/v1', { ...environment, NO_PROXY: 'models.invalid' }));
      assert.match(reason.message, /could not be reached/);
      assert.equal(asked.length, 1);
    } finally {
      proxy.closeAllConnections();
      proxy.close();
      await server.close();
    }
  });

  it('a key does not travel in the clear, nor stand in a URL', () => {
    assert.throws(
      make({ baseUrl: 'http://models.example/v1', apiKeyVariable: 'MINE' }),
      (thrown) => thrown instanceof Error && /not encrypted/.test(thrown.message) && !thrown.message.includes(key),
    );
    assert.doesNotThrow(make({ baseUrl: 'http://192.168.0.7:8000/v1' }));
    for (const baseUrl of [`https://user:${key}@models.example/v1`, `https://models.example/v1?key=${key}`])
      assert.throws(
        make({ baseUrl }),
        (thrown) => thrown instanceof Error && /without user name/.test(thrown.message) && !thrown.message.includes(key),
      );
    assert.throws(make({ baseUrl: 'models.example' }), /expected a URL such as/);
  });

  it('offline, only this machine is asked', () => {
    assert.throws(make({ offline: true }), /models\.example, and this run is offline/);
    for (const host of ['localhost:1', '127.0.0.1:1', '[::1]:1', '127.8.9.1'])
      assert.doesNotThrow(make({ offline: true, baseUrl: `http://${host}/v1` }), host);
    for (const host of ['127.0.0.1.evil.example', 'localhost.evil.example', '0x7f.evil.example'])
      assert.throws(make({ offline: true, baseUrl: `http://${host}/v1` }), /offline/, host);
  });

  it('the host is part of who a remote teacher is, and the port of a local one is not', () => {
    assert.equal(make({})().identity.provider, 'models.example');
    assert.equal(make({ baseUrl: 'http://localhost:8000/v1' })().identity.provider, undefined);
  });
});

describe('redactor', () => {
  it('takes secrets out whole, in pieces, and encoded', () => {
    const redact = redactor(['p@ss/word+secret&more']);
    for (const text of [
      'p@ss/word+secret&more',
      'p@ss/word…',
      encodeURIComponent('p@ss/word+secret&more'),
      Buffer.from('p@ss/word+secret&more').toString('base64'),
    ])
      assert.equal(redact(`before ${text} after`).replace('…', ''), 'before [redacted] after', text);
  });

  it('takes out what looks like a credential', () => {
    const redact = redactor([]);
    assert.equal(redact('Bearer abc.def-ghi, next'), 'Bearer [redacted], next');
    assert.equal(redact('{"api_key": "abcdefgh"}'), '{"api_key": "[redacted]"}');
    assert.equal(redact('https://me:hunter2@host/x'), 'https://me:[redacted]@host/x');
    assert.equal(redact('your key sk-proj-AbCdEfGhIjKlMn is wrong'), 'your key [redacted] is wrong');
  });

  it('leaves ordinary words alone', () => {
    const text = 'The server had an error while it was asked for tokens; 12 apples cost $3.50.';
    assert.equal(redactor(['EMPTY', 'x'])(text), text);
  });
});

describe('an AI SDK teacher', () => {
  it('passes messages and sampling on, once, and reads reasoning and cached tokens', async () => {
    const calls: { maxOutputTokens?: number; temperature?: number; topP?: number; seed?: number }[] = [];
    const content = [
      { type: 'reasoning', text: 'let me think' },
      { type: 'text', text: 'four' },
    ];
    const answer = await aiSdkTeacher(languageModel({ content }, calls)).generate(request('a'));
    assert.deepEqual(answer, {
      text: 'four',
      reasoning: 'let me think',
      finishReason: 'stop',
      usage: { promptTokens: 10, completionTokens: 7, cachedPromptTokens: 4, reasoningTokens: 2 },
    });
    assert.equal(calls.length, 1);
    const { maxOutputTokens, temperature, topP, seed } = calls[0] ?? {};
    assert.deepEqual({ maxOutputTokens, temperature, topP, seed }, { maxOutputTokens: 64, temperature: 0.7, topP: 0.9, seed: 5 });
  });

  it('meets the failures of a real provider of the SDK as our own client does, shows no key, and asks once', async () => {
    const expected: [Fault, RetryAdvice, RegExp][] = [
      ['rate-limited', { retry: 'pause', retryAfterMs: 7000 }, /answered 429: Rate limit reached/],
      ['server-error', { retry: 'later' }, /answered 500/],
      ['reset-before-billing', { retry: 'later' }, /could not be reached/],
      ['forbidden', { retry: 'never', scope: 'all' }, /answered 403/],
      ['too-long', { retry: 'never', scope: 'question' }, /maximum context length/],
      ['half-json', { retry: 'later' }, /JSON that is broken off/],
      ['web-page', { retry: 'later' }, /a web page: .*Sign in/],
      ['empty-answer', { retry: 'later' }, /empty answer/],
      ['stall', { retry: 'later' }, /did not answer within 0\.5 s/],
    ];
    for (const [fault, advice, message] of expected) {
      const server = await startFaultServer({ key, echoesKey: true, retryAfterSeconds: 7, faults: () => fault });
      try {
        const model = createOpenAICompatible({ name: 'test', baseURL: server.baseUrl, apiKey: key }).chatModel('big');
        const error = await failure(
          aiSdkTeacher(model, { secrets: [key], timeoutMs: fault === 'stall' ? 500 : 20_000 }).generate(request('a')),
        );
        assert.deepEqual(error.advice, advice, fault);
        assert.match(error.message, message);
        assert.ok(!inspect(error, { depth: 10, showHidden: true }).includes(key.slice(4, 14)), fault);
        assert.equal(server.served.length, 1, fault);
      } finally {
        await server.close();
      }
    }
  });

  it('takes models of the older interface', async () => {
    const old = { specificationVersion: 'v2', finishReason: 'length', usage: { inputTokens: 3, outputTokens: 2, totalTokens: 5 } };
    const model = languageModel({ finishReason: old.finishReason, usage: old.usage });
    const teacher = aiSdkTeacher(Object.assign(model, { specificationVersion: old.specificationVersion }));
    const { finishReason, usage } = await teacher.generate(request('a'));
    assert.deepEqual({ finishReason, usage }, { finishReason: 'length', usage: { promptTokens: 3, completionTokens: 2 } });
  });

  it('does not take a bare name, which would go through a gateway', () => {
    assert.throws(() => aiSdkTeacher('openai/gpt-5'), /would go through a gateway/);
  });
});

describe('a recorded teacher', () => {
  const write = async (name: string, lines: readonly unknown[]): Promise<string> => {
    const file = join(folder, name);
    await writeFile(file, lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
    return file;
  };

  it('finds answers by id, by question, by strategy and by sample', async () => {
    const teacher = await recordedTeacher(
      await write('many.jsonl', [
        { id: 'a', answer: 'any strategy' },
        { id: 'a', answer: 'primed', strategy: 'teacher' },
        { id: 'a', answer: 'second' },
        { id: 7, answer: 'a number for an id' },
        { question: 'What is b?', answer: 'by question', finishReason: 'length' },
      ]),
    );
    const text = async (id: string, change: Partial<TeacherRequest> = {}) => (await teacher.generate(request(id, change))).text;
    assert.equal(await text('a'), 'any strategy');
    assert.equal(await text('a', { strategy: 'teacher' }), 'primed');
    assert.equal(await text('a', { sampleIndex: 1 }), 'second');
    assert.equal(await text('7'), 'a number for an id');
    assert.equal((await teacher.generate(request('b'))).finishReason, 'length');
  });

  it('says how many answers are missing before the first is used', async () => {
    const file = await write('few.jsonl', [{ id: 'a', answer: 'x' }]);
    const teacher = await recordedTeacher(file);
    await assert.rejects(
      teacher.prepare?.(['a', 'b', 'c'].map((id) => request(id))) ?? assert.fail(),
      /2 of 3 questions have no recorded answer, first b \(strategy none, sample 0\), c/,
    );
  });

  it('names the line that is wrong', async () => {
    await assert.rejects(recordedTeacher(await write('w1.jsonl', [{ id: 'a', answer: 'x' }, { id: 'b' }])), /w1\.jsonl:2: "answer"/);
    await assert.rejects(recordedTeacher(await write('w2.jsonl', [{ answer: 'x' }])), /w2\.jsonl:1: .*"id" or a "question"/);
    await assert.rejects(recordedTeacher(await write('w3.jsonl', [{ id: 'a', answer: 'x' }, '{"id":'])), /w3\.jsonl:2/);
    await assert.rejects(
      recordedTeacher(
        await write('w4.jsonl', [
          { id: 'a', answer: 'x', sampleIndex: 0 },
          { id: 'a', answer: 'y', sampleIndex: 0 },
        ]),
      ),
      /w4\.jsonl:2: a second answer/,
    );
    await assert.rejects(recordedTeacher(await write('w5.jsonl', [])), /holds no answers/);
  });

  it('is another teacher when its file is another', async () => {
    const one = await recordedTeacher(await write('one.jsonl', [{ id: 'a', answer: 'x' }]));
    const two = await recordedTeacher(await write('two.jsonl', [{ id: 'a', answer: 'y' }]));
    assert.notEqual(one.identity.revision, two.identity.revision);
  });
});

describe('a local teacher', () => {
  const open = (batchSize: number, answer: (prompt: string) => string = () => 'ok', contextLength = 400) => {
    const { tokenizer, template, endToken } = byteTokenizer();
    const engine = fakeEngine({ tokenizer, endToken, answer, contextLength });
    const text = { tokenizer, template, endTokens: [endToken] };
    return { engine, template, text, teacher: engineTeacher({ engine, text, identity: { model: 'toy' }, batchSize }) };
  };

  it('hands the engine what is asked together at once, so that it can keep its batch full, and each answer as it comes', async () => {
    const { engine, text } = open(4);
    const batchSizes: (number | undefined)[] = [];
    const spied = {
      ...engine,
      sample: (...call: Parameters<typeof engine.sample>) => {
        batchSizes.push(call[1].batchSize);
        return engine.sample(...call);
      },
    };
    const teacher = engineTeacher({ engine: spied, text, identity: { model: 'toy' }, batchSize: 4 });
    await Promise.all(Array.from({ length: 40 }, (_, index) => teacher.generate(request(String(index)))));
    assert.deepEqual(
      engine.calls.samples.map((batch) => batch.length),
      [teacher.concurrency, 40 - teacher.concurrency],
    );
    assert.deepEqual(batchSizes, [4, 4]);
  });

  it('does not mix requests of different sampling, gives each its own seed, and counts tokens', async () => {
    const { engine, teacher } = open(4, () => '<think>a</think>bc');
    const sampling = { maximumTokens: 32, temperature: 0, topP: 1, seed: 1 };
    const answers = await Promise.all([
      teacher.generate(request('a', { sampling })),
      teacher.generate(request('b', { sampling: { ...sampling, temperature: 1 } })),
      teacher.generate(request('c', { sampling: { ...sampling, seed: 2 } })),
    ]);
    assert.deepEqual(
      engine.calls.samples.map((batch) => batch.map(({ seed }) => seed)),
      [[1, 2], [1]],
    );
    const { text, reasoning, tokens, usage } = answers[0] ?? assert.fail();
    assert.deepEqual([text, reasoning], ['bc', 'a']);
    assert.equal(tokens?.length, '<think>a</think>bc'.length + 1); // A token a byte, and the end.
    assert.equal(usage?.completionTokens, tokens?.length);
  });

  it('refuses a question that does not fit, alone', async () => {
    const { teacher } = open(2);
    const long = request('a', { messages: [{ role: 'user', content: 'x'.repeat(400) }] });
    const [one, two] = await Promise.allSettled([teacher.generate(long), teacher.generate(request('b'))]);
    assert.equal(two?.status, 'fulfilled');
    assert.ok(one?.status === 'rejected' && one.reason instanceof TeacherError);
    assert.deepEqual(one.reason.advice, { retry: 'never', scope: 'question' });
    assert.match(one.reason.message, /64 more may be answered; the model's context holds 400/);
  });

  it("carries the chat template's hash in its identity", () => {
    const { teacher, template } = open(2);
    assert.equal(teacher.identity.templateHash, template.hash);
  });
});

describe('separateReasoning', () => {
  for (const [answer, text, reasoning] of [
    ['plain', 'plain', undefined],
    ['<think>\nhm\n</think>\n\nyes', 'yes', 'hm'],
    ['hm</think>yes', 'yes', 'hm'], // The template opened it in the prompt.
    ['<think>cut off', '', 'cut off'],
    ['The tag <think> opens and </think> closes.', 'The tag <think> opens and </think> closes.', undefined],
  ] as const)
    it(JSON.stringify(answer), () => assert.deepEqual(separateReasoning(answer), { text, reasoning }));
});

describe("Anthropic's messages", () => {
  const messages = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'What is a?' },
  ] as const;
  const { sampling } = request('a');

  it('carry system texts beside the conversation, and no seed; topP is left out unless it is asked for', () => {
    const body = { model: 'claude', max_tokens: 64, system: 'Be brief.', messages: [messages[1]], temperature: 0.7 };
    const { settings } = anthropicProfile({ model: 'claude' });
    assert.deepEqual(anthropicMessageBody({ messages, sampling }, settings), body);
    assert.deepEqual(anthropicMessageBody({ messages, sampling }, { model: 'claude', omit: [] }), { ...body, top_p: 0.9 });
  });

  it('count cached tokens as part of the prompt, keep thinking apart, and say how they ended', () => {
    const usage = { input_tokens: 10, cache_creation_input_tokens: 3, cache_read_input_tokens: 20, output_tokens: 5 };
    const content = [
      { type: 'thinking', thinking: 'hm', signature: 's' },
      { type: 'text', text: 'yes' },
    ];
    const value = { type: 'message', model: 'claude-1', content, stop_reason: 'end_turn', usage };
    assert.deepEqual(parseAnthropicMessage(value), {
      text: 'yes',
      reasoning: 'hm',
      finishReason: 'stop',
      usage: { promptTokens: 33, completionTokens: 5, cachedPromptTokens: 20 },
      reportedModel: 'claude-1',
    });
    const reasons = ['max_tokens', 'refusal', 'stop_sequence', 'pause_turn'].map(
      (reason) => parseAnthropicMessage({ ...value, stop_reason: reason })?.finishReason,
    );
    assert.deepEqual(reasons, ['length', 'content-filter', 'stop', 'other']);
    assert.equal(parseAnthropicMessage({ type: 'error', error: { type: 'api_error', message: 'x' } }), undefined);
    assert.deepEqual(anthropicRateLimitOf({ 'anthropic-ratelimit-requests-limit': '50' }), { requestsPerMinute: 50 });
  });

  it('are known under the host that serves them, and their key is sent as x-api-key', async () => {
    const { identity } = anthropicProfile({ model: 'claude' });
    assert.deepEqual(
      [identity.kind, identity.provider, identity.location],
      ['anthropic', 'api.anthropic.com', 'https://api.anthropic.com/v1'],
    );
    assert.throws(() => anthropicTeacher({ model: 'claude', environment: {} }), /ANTHROPIC_API_KEY, which is not set/);
    assert.throws(() => anthropicTeacher({ model: 'claude', environment: { ANTHROPIC_API_KEY: key }, offline: true }), /offline/);
  });
});

describe('a teacher in a config', () => {
  const surroundings = { environment: {}, offline: true, openLocal: async () => fakeTeacher({ identity: { model: 'local model' } }) };

  it('is made by its kind', async () => {
    assert.equal((await createTeacher(teacherSchema.parse({ kind: 'fake' }), surroundings)).identity.kind, 'fake');
    assert.equal((await createTeacher(teacherSchema.parse({ kind: 'local', model: './m' }), surroundings)).identity.model, 'local model');
    const config = teacherSchema.parse({ kind: 'openai-compatible', baseUrl: 'http://localhost:8000/v1', model: 'm', concurrency: 3 });
    const teacher = await createTeacher(config, surroundings);
    assert.equal(teacher.concurrency, 3);
    await teacher.release();
    const local = { kind: 'anthropic', baseUrl: 'http://localhost:8000/v1', model: 'm' };
    const anthropic = await createTeacher(teacherSchema.parse(local), surroundings);
    assert.equal(anthropic.identity.kind, 'anthropic');
    await anthropic.release();
  });

  it('does not leave the machine when offline', async () => {
    const config = teacherSchema.parse({ kind: 'openai-compatible', baseUrl: 'https://models.example/v1', model: 'm' });
    await assert.rejects(createTeacher(config, surroundings), /offline/);
  });

  it('takes no unknown keys, and no key in the place of a variable', () => {
    const good = { kind: 'openai-compatible', baseUrl: 'http://localhost/v1', model: 'm' };
    for (const change of [{ baseURL: 'x' }, { apiKey: key }, { apiKeyVariable: key }, { concurrency: 0 }, { kind: 'openai' }])
      assert.equal(teacherSchema.safeParse({ ...good, ...change }).success, false, JSON.stringify(change));
  });
});
