/**
 * A real S3 server (s3rver) in a process of its own, and a line to it that can be broken: what is asked passes through here, is written down, and
 * may be answered otherwise. It believes any signature of an account that it knows, and looks at no condition. Its continuation tokens are made with DES, which OpenSSL 3 keeps among its legacy ciphers.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, request as forward, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { AwsClient } from 'aws4fetch';

/** The account that s3rver has. */
export const S3_KEYS = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' };
export const S3_ENV = { AWS_ACCESS_KEY_ID: 'S3RVER', AWS_SECRET_ACCESS_KEY: 'S3RVER' };
export const BUCKET = 'models';

export interface S3Asked {
  /** The key, or the query of a list. */
  readonly target: string;
  readonly isList: boolean;
  readonly headers: IncomingMessage['headers'];
}

/** True where the request has been answered; may wait before it lets it pass. */
export type S3Misbehaviour = (request: IncomingMessage, response: ServerResponse, target: string) => boolean | Promise<boolean>;

export class TestS3 {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #port: number;
  readonly #proxy: Server;
  readonly #client = new AwsClient({ ...S3_KEYS, service: 's3', region: 'us-east-1', retries: 0 });
  readonly asked: S3Asked[] = [];
  misbehaviour: S3Misbehaviour | undefined;

  private constructor(child: ChildProcess, folder: string, port: number, proxy: Server) {
    this.#child = child;
    this.#folder = folder;
    this.#port = port;
    this.#proxy = proxy;
    proxy.on('request', (request, response) => void this.#pass(request, response));
  }

  static async start(): Promise<TestS3> {
    const folder = await mkdtemp(path.join(tmpdir(), 'graft-s3-'));
    const main = createRequire(import.meta.url).resolve('s3rver');
    const code = `process.on('disconnect', () => process.exit());
      const S3rver = require(${JSON.stringify(main)});
      new S3rver({ address: '127.0.0.1', port: 0, silent: true, directory: ${JSON.stringify(folder)}, configureBuckets: [{ name: '${BUCKET}' }] })
        .run().then(({ port }) => process.send(port));`;
    const child = spawn(process.execPath, ['--openssl-legacy-provider', '-e', code], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const [port] = (await once(child, 'message')) as [number];
    const proxy = createServer();
    proxy.listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    return new TestS3(child, folder, port, proxy);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#proxy.address() as AddressInfo).port}`;
  }

  /** Requests for objects. */
  get fetches(): S3Asked[] {
    return this.asked.filter(({ isList }) => !isList);
  }

  get lists(): S3Asked[] {
    return this.asked.filter(({ isList }) => isList);
  }

  async put(key: string, content: Uint8Array | string): Promise<void> {
    const body = typeof content === 'string' ? content : Buffer.from(content);
    const response = await this.#client.fetch(this.#address(key), { method: 'PUT', body });
    if (!response.ok) throw new Error(`Expected to put ${key} but received ${response.status} ${await response.text()}`);
  }

  async delete(key: string): Promise<void> {
    await this.#client.fetch(this.#address(key), { method: 'DELETE' });
  }

  /** All files of a folder on this disk. */
  async upload(folder: string, key: string): Promise<void> {
    for (const [name, content] of await filesOf(folder)) await this.put(`${key}/${name}`, content);
  }

  async stop(): Promise<void> {
    this.#proxy.closeAllConnections();
    this.#proxy.close();
    this.#child.kill();
    await once(this.#child, 'exit');
    await rm(this.#folder, { recursive: true, force: true });
  }

  #address(key: string): string {
    return `http://127.0.0.1:${this.#port}/${BUCKET}/${key.split('/').map(encodeURIComponent).join('/')}`;
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, search } = new URL(request.url ?? '/', this.url);
    const key = decodeURIComponent(pathname).slice(`/${BUCKET}/`.length);
    const isList = key === '';
    const target = isList ? decodeURIComponent(search) : key;
    this.asked.push({ target, isList, headers: request.headers });
    if (await this.misbehaviour?.(request, response, target)) return;
    const { method, headers } = request;
    // With the very headers, for the host's name is signed.
    const passed = forward({ host: '127.0.0.1', port: this.#port, path: request.url, method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    passed.on('error', () => response.destroy());
    request.pipe(passed);
  }
}

/** Paths with slashes, and contents. */
export async function filesOf(folder: string): Promise<Map<string, Buffer>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => path.join(parentPath, name));
  const pairs = files.map(async (file) => [path.relative(folder, file).replaceAll('\\', '/'), await readFile(file)] as const);
  return new Map(await Promise.all(pairs));
}
