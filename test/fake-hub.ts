import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A hub of one repository, model or data set, on the loopback: the API that downloads use, and a second server to which large files are redirected. */
export interface FakeHub {
  readonly url: string;
  readonly commit: string;
  /** Every request as `METHOD path`, with its Authorization, Range and the host that it went to. */
  readonly requests: HubRequest[];
  /** What the next requests meet; changed by tests while the hub runs. */
  readonly behaviour: HubBehaviour;
  close(): Promise<void>;
}

export interface HubRequest {
  readonly path: string;
  readonly host: 'hub' | 'storage';
  readonly authorization: string | undefined;
  readonly range: string | undefined;
}

export interface HubBehaviour {
  /** Without this token: 401. */
  token?: string | undefined;
  /** Files are refused with this status: gated models. */
  fileStatus?: number | undefined;
  /** The storage ends the connection after so many bytes, this many times. */
  cuts?: { afterBytes: number; times: number } | undefined;
  /** The storage sends so many bytes, and then nothing more. */
  pauseAfterBytes?: number | undefined;
  /** The storage sends other bytes than it should. */
  isCorrupt?: boolean;
  /** The hub answers so many requests with 503. */
  outages?: number;
}

const gitHash = (bytes: Buffer) => createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

const listen = async (server: Server): Promise<string> => {
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
};

const close = (server: Server) =>
  new Promise<void>((resolve) => {
    server.closeAllConnections();
    server.close(() => resolve());
  });

const json = (response: ServerResponse, status: number, body: unknown) => {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
};

/** Starts a hub with the repository `name`; files of 1,000 bytes and more lie on the storage server, as large files do. */
export const startFakeHub = async (name: string, files: Readonly<Record<string, string | Buffer>>): Promise<FakeHub> => {
  const contents = new Map(Object.entries(files).map(([path, content]) => [path, Buffer.from(content)]));
  const commit = createHash('sha1')
    .update(JSON.stringify(Object.keys(files)))
    .digest('hex');
  const requests: HubRequest[] = [];
  const behaviour: HubBehaviour = {};
  const record = (request: IncomingMessage, host: HubRequest['host']) => {
    const { authorization, range } = request.headers;
    requests.push({ path: request.url ?? '', host, authorization, range });
  };

  const storage = createServer((request, response) => {
    record(request, 'storage');
    const bytes = contents.get(decodeURIComponent((request.url ?? '').slice(1)));
    if (bytes === undefined) return json(response, 404, {});
    sendBytes(behaviour.isCorrupt === true ? Buffer.from(bytes.map((byte) => byte ^ 1)) : bytes, request, response, behaviour);
  });
  const storageUrl = await listen(storage);

  const hub = createServer((request, response) => {
    record(request, 'hub');
    const path = decodeURIComponent((request.url ?? '').split('?')[0] ?? '');
    if ((behaviour.outages ?? 0) > 0) {
      behaviour.outages = (behaviour.outages ?? 0) - 1;
      return json(response, 503, { error: 'overloaded' });
    }
    if (behaviour.token !== undefined && request.headers.authorization !== `Bearer ${behaviour.token}`) {
      return json(response, 401, { error: 'Invalid username or password.' });
    }
    const revision = path.match(/\/(?:revision|tree|resolve)\/([^/]+)/)?.[1];
    const isKnown = path.includes(name) && revision !== undefined && ['main', 'v1', commit].includes(revision);
    if (!isKnown) return json(response, 404, { error: 'Repository not found' });
    const isApi = /^\/api\/(?:models|datasets)\//.test(path);
    if (isApi && path.includes('/revision/')) {
      return json(response, 200, { _id: '1', id: name, private: false, gated: false, lastModified: '2026-01-01', sha: commit });
    }
    if (isApi) {
      const entries = [...contents].map(([file, bytes]) => ({
        ...{ type: 'file', path: file, size: bytes.length, oid: bytes.length < 1000 ? gitHash(bytes) : 'a'.repeat(40) },
        ...(bytes.length < 1000 ? {} : { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } }),
      }));
      return json(response, 200, [...entries, { type: 'directory', path: 'onnx', size: 0, oid: 'b'.repeat(40) }]);
    }
    if (behaviour.fileStatus !== undefined) return json(response, behaviour.fileStatus, { error: 'Access to this model is restricted.' });
    const file = path.slice(path.indexOf(`/resolve/${revision}/`) + `/resolve/${revision}/`.length);
    const bytes = contents.get(file);
    if (bytes === undefined) return json(response, 404, { error: 'Entry not found' });
    if (bytes.length < 1000) return sendBytes(bytes, request, response, {});
    response.writeHead(302, { location: `${storageUrl}/${encodeURIComponent(file)}` }).end();
  });
  const url = await listen(hub);
  return { url, commit, requests, behaviour, close: async () => void (await Promise.all([close(hub), close(storage)])) };
};

const sendBytes = (bytes: Buffer, request: IncomingMessage, response: ServerResponse, behaviour: HubBehaviour): void => {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const begin = Number(range?.[1] ?? 0);
  const end = range?.[2] ? Math.min(Number(range[2]) + 1, bytes.length) : bytes.length;
  const part = bytes.subarray(begin, end);
  response.writeHead(range === null ? 200 : 206, {
    etag: `"${sha256(bytes)}"`,
    // With it the client goes to the storage's own address, as it does with the hub's real one.
    'x-cache': 'Hit from cloudfront',
    'content-length': part.length,
    ...(range === null ? {} : { 'content-range': `bytes ${begin}-${end - 1}/${bytes.length}` }),
  });
  const { cuts } = behaviour;
  if (behaviour.pauseAfterBytes !== undefined && part.length > behaviour.pauseAfterBytes) {
    response.write(part.subarray(0, behaviour.pauseAfterBytes));
  } else if (cuts !== undefined && cuts.times > 0 && part.length > cuts.afterBytes) {
    cuts.times -= 1;
    response.write(part.subarray(0, cuts.afterBytes), () => setTimeout(() => response.destroy(), 20));
  } else {
    response.end(part);
  }
};
