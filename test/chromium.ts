import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

/** The browser of this machine: RETORT_CHROMIUM, or the first of the usual names on the PATH; undefined where there is none. */
export const findChromium = (): string | undefined => {
  const given = process.env['RETORT_CHROMIUM'];
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const names = ['chromium', 'chromium-browser', 'google-chrome'];
  return [...(given === undefined ? [] : [given]), ...folders.flatMap((folder) => names.map((name) => join(folder, name)))].find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
};

/** One page in a headless browser, driven over the DevTools protocol. */
export interface BrowserPage {
  send(method: string, parameters?: object): Promise<Record<string, unknown>>;
  /** The value of an expression in the page. */
  evaluate(expression: string): Promise<unknown>;
  /** Opens an address and waits until it has loaded. */
  open(url: string): Promise<void>;
  /** Events since the last call of `open`, by method. */
  readonly events: { readonly method: string; readonly params: Record<string, unknown> }[];
  close(): Promise<void>;
}

export const openBrowser = async (executable: string): Promise<BrowserPage> => {
  const profile = await mkdtemp(join(tmpdir(), 'retort-chromium-'));
  const options = ['--headless', '--no-sandbox', '--disable-gpu', '--remote-debugging-port=0', `--user-data-dir=${profile}`, 'about:blank'];
  const browser = spawn(executable, options, { stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = new Promise<void>((resolve) => browser.once('exit', () => resolve()));
  const address = await new Promise<string>((resolve, reject) => {
    let text = '';
    browser.stderr.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const found = /DevTools listening on (ws:\S+)/.exec(text)?.[1];
      if (found !== undefined) resolve(found);
    });
    browser.once('exit', () => reject(new Error(`the browser ended: ${text.slice(-500)}`)));
  });
  const list = await fetch(`http://${new URL(address).host}/json/list`);
  const target = ((await list.json()) as { type: string; webSocketDebuggerUrl: string }[]).find(({ type }) => type === 'page');
  const socket = new WebSocket(target?.webSocketDebuggerUrl ?? '');
  await new Promise((resolve) => socket.addEventListener('open', resolve, { once: true }));

  const events: BrowserPage['events'] = [];
  const waiting = new Map<number, (result: Record<string, unknown>) => void>();
  const listeners = new Set<(method: string) => void>();
  socket.addEventListener('message', ({ data }) => {
    const message = JSON.parse(String(data));
    if (message.id !== undefined) waiting.get(message.id)?.(message.error === undefined ? message.result : { error: message.error });
    else {
      events.push(message);
      for (const listener of listeners) listener(message.method);
    }
  });
  let nextId = 0;
  const send: BrowserPage['send'] = (method, parameters = {}) => {
    const id = ++nextId;
    return new Promise((resolve) => {
      waiting.set(id, resolve);
      socket.send(JSON.stringify({ id, method, params: parameters }));
    });
  };
  for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await send(`${domain}.enable`);
  return {
    send,
    events,
    evaluate: async (expression) => {
      const { result, exceptionDetails } = await send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
      if (exceptionDetails !== undefined) throw new Error(`in the page: ${JSON.stringify(exceptionDetails)}`);
      return (result as { value?: unknown }).value;
    },
    open: async (url) => {
      events.length = 0;
      const loaded = new Promise<void>((resolve) => {
        const listener = (method: string) => {
          if (method !== 'Page.loadEventFired') return;
          listeners.delete(listener);
          resolve();
        };
        listeners.add(listener);
      });
      await send('Page.navigate', { url });
      await loaded;
    },
    close: async () => {
      socket.close();
      browser.kill();
      await exited;
      await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
    },
  };
};
