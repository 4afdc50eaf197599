/** A hub of our own, in this process, that misbehaves as it is told: the routes that huggingface_hub uses too, so that it can be asked for a second opinion. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface MockFile {
  readonly content: Buffer;
  /** Kept as a large file: named by its sha-256, and sent by another host where there is one. */
  readonly lfs?: true;
}

/** What was asked, as it came. */
export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

/** True where the request has been answered. */
export type Misbehaviour = (request: IncomingMessage, response: ServerResponse, path: string) => boolean;

export const COMMIT = 'c0ffee0000000000000000000000000000000000';

export function etagOf({ content, lfs }: MockFile): string {
  if (lfs) return createHash('sha256').update(content).digest('hex');
  return createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
}

export class MockHub {
  readonly repository = 'owner/model';
  readonly files: Map<string, MockFile>;
  readonly asked: Asked[] = [];
  /** Asked before the usual answer, newest last; an empty list is a good hub. */
  misbehaviour: Misbehaviour | undefined;
  /** Where large files are sent from instead. */
  elsewhere: string | undefined;
  /** A name without an owner, from the days before there were any: asked for it, the hub sends on. */
  legacy: string | undefined;
  commit = COMMIT;
  /** Files a page of the listing. */
  page = 1000;
  #server: Server;

  private constructor(server: Server, files: Readonly<Record<string, MockFile>>) {
    this.#server = server;
    this.files = new Map(Object.entries(files));
    server.on('request', (request, response) => this.#answer(request, response));
  }

  static async start(files: Readonly<Record<string, MockFile>>): Promise<MockHub> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new MockHub(server, files);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Requests for bytes of files. */
  get fetches(): Asked[] {
    return this.asked.filter(({ method, path }) => method === 'GET' && path.includes('/resolve/'));
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(request.url ?? '/', this.url);
    const path = decodeURIComponent(pathname);
    const { range, authorization } = request.headers;
    this.asked.push({ method: request.method ?? '', path, range, authorization });
    if (this.misbehaviour?.(request, response, path)) return;
    const [, before, after] = new RegExp(`^(/|/api/models/)${this.legacy}(/.*)$`).exec(request.url ?? '') ?? [];
    if (this.legacy !== undefined && after !== undefined) {
      response.writeHead(307, { location: `${before}${this.repository}${after}` }).end();
      return;
    }
    const api = `/api/models/${this.repository}`;
    const [, commit, name] = new RegExp(`^/${this.repository}/resolve/([^/]+)/(.+)$`).exec(path) ?? [];
    if (path === api || path.startsWith(`${api}/revision/`))
      json(response, { id: this.repository, sha: this.commit, siblings: [] });
    else if (path === `${api}/tree/${this.commit}`) this.#list(response, Number(searchParams.get('cursor') ?? 0));
    else if (name !== undefined && commit !== undefined) this.#sendFile(request, response, name);
    else response.writeHead(404, { 'x-error-code': 'RepoNotFound' }).end();
  }

  #list(response: ServerResponse, start: number): void {
    const entries = [...this.files].map(([path, file]) => ({
      type: 'file',
      path,
      size: file.content.length,
      oid: file.lfs ? 'a'.repeat(40) : etagOf(file),
      ...(file.lfs && { lfs: { oid: etagOf(file), size: file.content.length, pointerSize: 130 } }),
    }));
    const end = start + this.page;
    const next = `<${this.url}/api/models/${this.repository}/tree/${this.commit}?recursive=true&cursor=${end}>; rel="next"`;
    json(response, [...entries.slice(start, end), { type: 'directory', path: 'text', oid: 'b'.repeat(40), size: 0 }], {
      ...(end < entries.length && { link: next }),
    });
  }

  /** What a misbehaviour answers when it has waited long enough: the file that was asked for. */
  send(request: IncomingMessage, response: ServerResponse): void {
    const name = decodeURIComponent(new URL(request.url ?? '/', this.url).pathname).replace(/^.*\/resolve\/[^/]+\//, '');
    this.#sendFile(request, response, name);
  }

  #sendFile(request: IncomingMessage, response: ServerResponse, name: string): void {
    const file = this.files.get(name);
    if (!file) {
      response.writeHead(404, { 'x-error-code': 'EntryNotFound', 'x-repo-commit': this.commit }).end();
      return;
    }
    const headers = { 'x-repo-commit': this.commit, etag: `"${etagOf(file)}"`, 'accept-ranges': 'bytes' };
    if (file.lfs && this.elsewhere !== undefined) {
      const linked = { 'x-linked-etag': `"${etagOf(file)}"`, 'x-linked-size': file.content.length };
      response
        .writeHead(302, {
          ...headers,
          ...linked,
          location: `${this.elsewhere}/${this.repository}/resolve/${this.commit}/${name}`,
        })
        .end();
      return;
    }
    const { content } = file;
    const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const part = start > 0 ? { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` } : {};
    response.writeHead(start > 0 ? 206 : 200, { ...headers, ...part, 'content-length': content.length - start });
    response.end(request.method === 'HEAD' ? undefined : content.subarray(start));
  }
}

function json(response: ServerResponse, body: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}
