/** A server with a store, the backbone that ships and its adapters to publish; and what it takes to publish them. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RunningServer, type ServerOptions, startServer } from '../../src/cli/serve.js';
import { type ConfigKey, loadConfig } from '../../src/config.js';
import { tarOfFolder } from './tar.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const SHIPPED = path.join(ROOT, 'adapters');

/** What replies of these routes hold. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: {
    readonly name?: string;
    readonly object?: string;
    readonly version?: number;
    readonly digest?: string;
    readonly bytes?: number;
    readonly versions?: readonly { readonly version: number; readonly digest: string }[];
    readonly current?: number;
    readonly split?: Readonly<Record<string, number>> | null;
    readonly shadow?: number | null;
    readonly pinned?: boolean;
    readonly resident?: boolean;
    readonly adapter?: { readonly name: string; readonly digest: string };
    readonly captions?: readonly { readonly text: string }[];
    readonly data?: readonly {
      readonly id?: string;
      readonly name?: string;
      readonly resident?: boolean;
      readonly pinned?: boolean;
    }[];
    readonly error?: {
      readonly message: string;
      readonly code: string;
      readonly param: string | null;
      readonly faults?: readonly string[];
    };
  };
}

export class StoreServer {
  readonly folder: string;
  server: RunningServer;
  readonly #flags: Partial<Record<ConfigKey, string>>;
  readonly #options: ServerOptions;

  private constructor(folder: string, server: RunningServer, flags: Partial<Record<ConfigKey, string>>, options: ServerOptions) {
    this.folder = folder;
    this.server = server;
    this.#flags = flags;
    this.#options = options;
  }

  static async start(flags: Partial<Record<ConfigKey, string>> = {}, options: ServerOptions = {}): Promise<StoreServer> {
    const folder = await mkdtemp(path.join(tmpdir(), 'graft-lifecycle-'));
    return new StoreServer(folder, await serverIn(folder, flags, options), flags, options);
  }

  async restart(): Promise<void> {
    await this.server.close();
    this.server = await serverIn(this.folder, this.#flags, this.#options);
  }

  async close(): Promise<void> {
    await this.server.close();
    await rm(this.folder, { recursive: true });
  }

  get url(): string {
    return this.server.url;
  }

  async ask(
    method: string,
    where: string,
    body?: FormData | Uint8Array | string | object,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const isRaw = body === undefined || body instanceof FormData || body instanceof Uint8Array || typeof body === 'string';
    const init = isRaw
      ? { body: (body as FormData | undefined) ?? null, headers }
      : { body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } };
    const response = await fetch(`${this.url}${where}`, { method, ...init });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: text.startsWith('{') ? (JSON.parse(text) as Answer['body']) : { name: text },
    };
  }

  /** Publishes one of the adapters that ship. */
  async publish(name: string, shipped: string, query = '', headers: Record<string, string> = {}): Promise<Answer> {
    const tar = Buffer.from(await tarOfFolder(path.join(SHIPPED, shipped), 'adapter/'));
    return this.ask('PUT', `/v1/adapters/${name}${query}`, tar, { 'content-type': 'application/x-tar', ...headers });
  }

  async caption(
    adapter: string,
    headers: Record<string, string> = {},
    more: Readonly<Record<string, string>> = {},
  ): Promise<Answer> {
    const form = new FormData();
    form.set('image', new Blob([await readFile(path.join(ROOT, 'models/scenes/example.jpg'))]), 'scene.jpg');
    form.set('adapter', adapter);
    for (const [key, value] of Object.entries(more)) form.set(key, value);
    return this.ask('POST', '/v1/captions', form, headers);
  }
}

async function serverIn(
  folder: string,
  flags: Partial<Record<ConfigKey, string>>,
  options: ServerOptions,
): Promise<RunningServer> {
  const all = { port: '0', threads: '1', logLevel: 'silent', store: path.join(folder, 'store'), ...flags };
  const server = await startServer(await loadConfig({ flags: all, env: {}, folder }), {}, options);
  await server.ready;
  return server;
}
