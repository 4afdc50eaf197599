/**
 * What the tour plays on: the built server as its own process, in a temporary folder with a file of tenants, a store and a place for fine-tuning;
 * and requests as any client sends them, plain HTTP with a key.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { pack } from 'tar-stream';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const MAIN = path.join(ROOT, 'dist/cli/main.js');
/** Nothing here takes longer, unless it hangs. */
const PATIENCE_MS = 120_000;

/** Whom the tour plays: an operator, two customers, and one with hardly any rights. */
export const TENANTS = ['ops', 'acme', 'corner', 'tiny'] as const;
export type TenantName = (typeof TENANTS)[number];

const RIGHTS = `# Who may what: docs/tenants.md
tenants:
  ops: { keys: [], admin: true }
  acme: { keys: [], adapters: [english, french, german, pirate], weight: 1 }
  corner: { keys: [], adapters: [english, alt], weight: 1 }
  tiny: { keys: [], adapters: [alt], limits: { requestsPerSecond: 3 } }
`;

/** What replies hold, as far as the tour looks; a field that is not there fails its claim. */
export interface Body {
  readonly adapter?: { readonly name: string; readonly digest: string };
  readonly captions?: readonly { readonly text: string }[];
  readonly data?: readonly { readonly name: string }[];
  readonly digest?: string;
  readonly version?: number;
  readonly versions?: readonly { readonly version: number; readonly digest: string }[];
  readonly current?: number;
  readonly id?: string;
  readonly status?: string;
  readonly fine_tuned_model?: string | null;
  readonly error?: { readonly code: string; readonly message: string } | null;
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly body: Body;
}

export class Stage {
  readonly folder: string;
  readonly url: string;
  readonly keys: Readonly<Record<TenantName, string>>;
  readonly #server: ChildProcess;

  private constructor(folder: string, url: string, keys: Readonly<Record<TenantName, string>>, server: ChildProcess) {
    this.folder = folder;
    this.url = url;
    this.keys = keys;
    this.#server = server;
  }

  static async open(): Promise<Stage> {
    const folder = await mkdtemp(path.join(tmpdir(), 'graft-tour-'));
    const tenants = path.join(folder, 'tenants.yaml');
    await writeFile(tenants, RIGHTS);
    const keys: Partial<Record<TenantName, string>> = {};
    for (const name of TENANTS) keys[name] = await graft(folder, 'keys', 'create', name, '--tenants', tenants);
    const args = ['--tenants', tenants, '--store', 'store', '--finetuning', 'finetuning', '--port', '0', '--log-level', 'error'];
    const server = spawn(process.execPath, [MAIN, 'serve', ...args], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
    process.once('exit', () => server.kill('SIGKILL'));
    return new Stage(folder, await readyUrl(server), keys as Record<TenantName, string>, server);
  }

  /** Runs a command of `graft` against the tour's tenants. */
  graft(...args: readonly string[]): Promise<string> {
    return graft(this.folder, ...args, '--tenants', path.join(this.folder, 'tenants.yaml'));
  }

  async request(
    tenant: TenantName | null,
    method: string,
    at: string,
    body?: Buffer | FormData | object,
    headers = {},
  ): Promise<Reply> {
    const isPlain = body !== undefined && Object.getPrototypeOf(body) === Object.prototype;
    const response = await fetch(`${this.url}${at}`, {
      method,
      headers: {
        ...(tenant === null ? {} : { authorization: `Bearer ${this.keys[tenant]}` }),
        ...(isPlain ? { 'content-type': 'application/json' } : {}),
        ...headers,
      },
      ...(body === undefined ? {} : { body: isPlain ? JSON.stringify(body) : (body as Buffer | FormData) }),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json');
    return { status: response.status, headers: response.headers, text, body: isJson ? (JSON.parse(text) as Body) : {} };
  }

  /** A caption, whole. */
  caption(tenant: TenantName, image: Uint8Array, adapter: string | object, more = {}, headers = {}): Promise<Reply> {
    const data = `data:image/jpeg;base64,${Buffer.from(image).toString('base64')}`;
    return this.request(tenant, 'POST', '/v1/captions', { image: data, adapter, ...more }, headers);
  }

  /** Publishes the folder of an adapter that ships under another name, as `tar c | curl -T -` would. */
  async publish(tenant: TenantName, name: string, adapter: string): Promise<Reply> {
    const archive = pack();
    const folder = path.join(ROOT, 'adapters', adapter);
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const file = path.join(entry.parentPath, entry.name);
      archive.entry({ name: path.relative(folder, file).replaceAll(path.sep, '/') }, await readFile(file));
    }
    archive.finalize();
    const chunks: Buffer[] = [];
    for await (const chunk of archive) chunks.push(chunk as Buffer);
    return this.request(tenant, 'PUT', `/v1/adapters/${name}`, Buffer.concat(chunks), { 'content-type': 'application/x-tar' });
  }

  async close(): Promise<void> {
    const ended = once(this.#server, 'exit');
    this.#server.kill('SIGTERM');
    await ended;
    await rm(this.folder, { recursive: true });
  }
}

/** What a command printed on stdout, trimmed. Throws where it fails. */
async function graft(folder: string, ...args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [MAIN, ...args], { cwd: folder });
  return stdout.trim();
}

async function readyUrl(server: ChildProcess): Promise<string> {
  let printed = '';
  server.stdout?.setEncoding('utf8');
  for await (const chunk of server.stdout?.iterator({ destroyOnReturn: false }) ?? []) {
    printed += chunk as string;
    const url = /graft is ready on (\S+)/.exec(printed)?.[1];
    if (url === undefined) continue;
    server.stdout?.resume();
    return url;
  }
  throw new Error(`Expected a server that becomes ready but it ended and printed: ${printed}`);
}
