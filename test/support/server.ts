/** A whole server on a tiny backbone, in this process with its real child processes, and what it takes to talk to it. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { writeAdapter } from '../../src/adapter/write.js';
import { describeBackbone } from '../../src/backbone/backbone.js';
import { readBackbone } from '../../src/backbone/manifest.js';
import { type RunningServer, type ServerOptions, startServer } from '../../src/cli/serve.js';
import { type ConfigKey, loadConfig } from '../../src/config.js';
import { Gaussian, makeTinyBackbone } from './tiny.js';

export interface TinyServer {
  readonly server: RunningServer;
  readonly url: string;
  /** Holds `backbone/` and `adapters/`. */
  readonly folder: string;
  close(): Promise<void>;
}

/** Writes a backbone and adapters of these names, and starts a server on a free port; resolves when it is ready. */
export async function startTinyServer(
  adapters: readonly string[],
  flags: Partial<Record<ConfigKey, string>> = {},
  options: ServerOptions = {},
): Promise<TinyServer> {
  const folder = await makeTinyFolder(adapters);
  const config = await loadConfig({ flags: { ...tinyFlags(folder), ...flags }, env: {}, folder });
  const server = await startServer(config, process.env, options);
  await server.ready;
  const close = async (): Promise<void> => {
    await server.close();
    await rm(folder, { recursive: true });
  };
  return { server, url: server.url, folder, close };
}

export async function makeTinyFolder(adapters: readonly string[]): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-server-'));
  await makeTinyBackbone(path.join(folder, 'backbone'));
  await mkdir(path.join(folder, 'adapters'));
  for (const [index, name] of adapters.entries()) await writeTinyAdapter(folder, name, index + 1);
  return folder;
}

export function tinyFlags(folder: string): Partial<Record<ConfigKey, string>> {
  return {
    backbone: path.join(folder, 'backbone'),
    adapters: path.join(folder, 'adapters'),
    port: '0',
    threads: '1',
    maxBatch: '16',
    logLevel: 'silent',
  };
}

/** A random LoRA of both contexts on every module, with a projector. */
export async function writeTinyAdapter(folder: string, name: string, seed: number, prompt = ''): Promise<void> {
  const { target } = await describeBackbone(await readBackbone(path.join(folder, 'backbone')));
  const random = new Gaussian(seed);
  const rank = 2;
  const group = () => ({
    modules: new Map(
      target.modules.map(({ name: module, inFeatures, outFeatures }) => [
        module,
        {
          rank,
          alpha: 4,
          a: random.array(rank * inFeatures, 1 / Math.sqrt(inFeatures)),
          b: random.array(outFeatures * rank, 0.5),
        },
      ]),
    ),
  });
  const { hiddenSize, imageDim } = target;
  if (imageDim === null) throw new TypeError('Expected a backbone with a vision encoder');
  await writeAdapter(path.join(folder, 'adapters', name), {
    method: 'lora',
    groups: new Map([
      ['image', group()],
      ['text', group()],
    ]),
    projector: { weight: random.array(hiddenSize * imageDim, 1 / Math.sqrt(imageDim)), bias: random.array(hiddenSize, 0.1) },
    task: 'caption',
    prompt,
  });
}

/** A small PNG of noise; another seed is another image. */
export async function noisePng(seed = 1, width = 40, height = 30): Promise<Buffer> {
  const random = new Gaussian(seed);
  const pixels = Uint8Array.from({ length: width * height * 3 }, () => Math.floor(random.uniform() * 256));
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
}

export type Fields = Readonly<Record<string, string | readonly string[] | Uint8Array>>;

/** Bytes are files, lists repeated fields. */
export function formOf(fields: Fields): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Uint8Array) form.append(name, new Blob([Buffer.from(value)]), 'image.png');
    else for (const item of [value].flat()) form.append(name, item);
  }
  return form;
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Body;
}

/** What replies hold, as far as the tests look. */
export interface Body {
  readonly object?: string;
  readonly id?: string;
  readonly adapter?: { readonly name: string; readonly digest: string } | null;
  readonly captions?: readonly { readonly text: string; readonly finish_reason: string }[];
  readonly choices?: readonly { readonly text: string; readonly index: number; readonly finish_reason: string | null }[];
  readonly data?: readonly (Body & {
    readonly name?: string;
    readonly digest?: string;
    readonly fault?: string | null;
    readonly leases?: number;
  })[];
  readonly usage?: Readonly<Record<string, number>>;
  readonly timings?: Readonly<Record<string, number | null>>;
  readonly error?: { readonly message: string; readonly type: string; readonly code: string; readonly param: string | null };
  readonly index?: number;
  readonly text?: string;
  readonly reason?: string;
}

export async function post(url: string, body: FormData | object | string, headers: Record<string, string> = {}): Promise<Reply> {
  const form = body instanceof FormData;
  const init = form
    ? { body }
    : {
        body: typeof body === 'string' ? body : JSON.stringify(body),
        headers: { 'content-type': 'application/json', ...headers },
      };
  return replyOf(await fetch(url, { method: 'POST', ...init }));
}

export async function get(url: string): Promise<Reply> {
  return replyOf(await fetch(url));
}

async function replyOf(response: Response): Promise<Reply> {
  return { status: response.status, headers: response.headers, body: (await response.json()) as Body };
}

/** The events of a stream as they come; `[DONE]` ends it, and anything after that is an error. */
export async function* events(response: Response): AsyncGenerator<Body> {
  let buffered = '';
  let done = false;
  for await (const chunk of (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
    buffered += chunk;
    const blocks = buffered.split('\n\n');
    buffered = blocks.pop() ?? '';
    for (const block of blocks) {
      if (done || !block.startsWith('data: ')) throw new Error(`Expected data before [DONE] but received ${block}`);
      if (block === 'data: [DONE]') done = true;
      else yield JSON.parse(block.slice(6)) as Body;
    }
  }
  if (!done) throw new Error('Expected a stream that ends in [DONE]');
}

/** Waits until a condition holds; the test's own timeout is the limit. */
export async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** The value of one series of /metrics, asked for with this key. */
export async function metric(url: string, series: string, key?: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`, key === undefined ? {} : { headers: { 'x-api-key': key } })).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `));
  return line === undefined ? Number.NaN : Number(line.slice(series.length + 1));
}
