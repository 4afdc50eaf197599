/**
 * A real server for benches that break it or weigh it: the built `graft serve` as a child process with its own children, on the real pair of
 * checkpoints where they are beside the checkout and on the tiny one elsewhere, with random adapters. What it is made of is read from /proc (Linux).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { cp, link, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { writeAdapter } from '../src/adapter/write.js';
import { describeBackbone } from '../src/backbone/backbone.js';
import { readBackbone } from '../src/backbone/manifest.js';
import type { AdapterTarget } from '../src/backbone/module.js';
import type { ConfigKey } from '../src/config.js';
import { randomDraft } from '../test/support/adapter.js';
import { hasShared, realBackbone } from '../test/support/shared.js';
import { makeTinyBackbone } from '../test/support/tiny.js';
import type { Client } from './client.js';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const MAIN = path.join(ROOT, 'dist/cli/main.js');
/** A server that takes longer than this for anything here hangs. */
const PATIENCE_MS = 60_000;

export type Flags = Partial<Record<ConfigKey, string>>;

/** A temporary folder with `adapters/` in it, and a backbone to serve. */
export class Workshop {
  readonly folder: string;
  readonly backbone: string;
  readonly target: AdapterTarget;

  private constructor(folder: string, backbone: string, target: AdapterTarget) {
    this.folder = folder;
    this.backbone = backbone;
    this.target = target;
  }

  static async open(): Promise<Workshop> {
    const folder = await mkdtemp(path.join(tmpdir(), 'graft-bench-'));
    await mkdir(path.join(folder, 'adapters'));
    const backbone = hasShared ? realBackbone : await makeTinyBackbone(path.join(folder, 'backbone'));
    return new Workshop(folder, backbone, (await describeBackbone(await readBackbone(backbone))).target);
  }

  get adapters(): string {
    return path.join(this.folder, 'adapters');
  }

  /** The model's name in requests. */
  get backboneName(): string {
    return hasShared ? 'real' : 'tiny';
  }

  /** A random adapter in a folder of any name: LoRA of mixed ranks, BitFit and IA3 in turn. */
  async writeAdapter(folder: string, seed: number): Promise<void> {
    const method = (['lora', 'lora', 'bitfit', 'ia3'] as const)[seed % 4] ?? 'lora';
    const rank = [2, 4, 8, 16][Math.floor(seed / 4) % 4] ?? 2;
    await writeAdapter(folder, randomDraft(this.target, { method, rank, contexts: ['image', 'text'], seed }, 0.05));
  }

  /** `adapters/NAME` for each name; returns the names. */
  async writeAdapters(count: number): Promise<string[]> {
    const names = Array.from({ length: count }, (_, index) => `adapter-${index}`);
    for (const [index, name] of names.entries()) await this.writeAdapter(path.join(this.adapters, name), index);
    return names;
  }

  close(): Promise<void> {
    return rm(this.folder, { recursive: true });
  }
}

/** A copy whose tensors are hard links: another digest (its manifest counts), no other bytes on disk. */
export async function variantOf(source: string, place: string, note: string): Promise<void> {
  await mkdir(place);
  for (const entry of await readdir(source, { withFileTypes: true, recursive: true })) {
    const at = path.join(place, path.relative(source, entry.parentPath), entry.name);
    const from = path.join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await mkdir(at);
    else if (entry.name.endsWith('.safetensors')) await link(from, at);
    else if (entry.name === 'adapter.json')
      await writeFile(at, JSON.stringify({ ...(JSON.parse(await readFile(from, 'utf8')) as object), task: note }));
    else await cp(from, at);
  }
}

export class Served {
  readonly #process: ChildProcess;
  readonly #exit: Promise<unknown[]>;
  readonly url: string;

  private constructor(child: ChildProcess, url: string) {
    this.#process = child;
    this.#exit = once(child, 'exit');
    this.url = url;
  }

  /** Resolves when the server says that it is ready. Throws where there is no build, or an old one, or the server ends instead. */
  static async start(workshop: Workshop, flags: Flags = {}): Promise<Served> {
    checkBuild();
    const all = { backbone: workshop.backbone, adapters: workshop.adapters, port: '0', logLevel: 'error', ...flags };
    const args = Object.entries(all).flatMap(([key, value]) => [
      `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
      value,
    ]);
    // Not in the checkout: a graft.yaml there would have its say.
    const child = spawn(process.execPath, [MAIN, 'serve', ...args], {
      cwd: workshop.folder,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    process.once('exit', () => child.kill('SIGKILL'));
    let printed = '';
    child.stdout.setEncoding('utf8');
    for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
      printed += chunk as string;
      const url = /graft is ready on (\S+)/.exec(printed)?.[1];
      if (!url) continue;
      child.stdout.resume(); // A pipe that nobody reads would stop the server in the end.
      return new Served(child, url);
    }
    throw new Error(`Expected a server that becomes ready but it ended and printed: ${printed}`);
  }

  get pid(): number {
    return this.#process.pid as number;
  }

  get engine(): number | undefined {
    return this.#children('serving/process.js')[0];
  }

  get images(): readonly number[] {
    return this.#children('images/process.js');
  }

  /** Sends a signal and gives the exit code, null where it did not end by itself. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.#process.kill(signal);
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), PATIENCE_MS);
    const [code] = (await this.#exit) as [number | null];
    clearTimeout(timer);
    return code;
  }

  #children(script: string): number[] {
    const pids = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
    return pids.filter((pid) => commandOf(pid).includes(script));
  }
}

/** Open file descriptors of a process. */
export function descriptorsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Resident memory of a process in MB; 0 where it has ended. */
export function residentMb(pid: number | undefined): number {
  if (pid === undefined) return 0;
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Math.round((Number(kib ?? 0) * 1024) / 1e6);
}

/** What must be zero when nobody asks for anything. */
export interface Rest {
  readonly leases: number;
  readonly running: number;
  readonly waiting: number;
  readonly queued: number;
}

/** Waits until the server is at rest, and says what is left where it never is. */
export async function settle(client: Client, patienceMs = 10_000): Promise<Rest> {
  const endMs = performance.now() + patienceMs;
  for (;;) {
    const metrics = await client.metrics();
    const value = (name: string): number => metrics.get(`graft_${name}`) ?? Number.NaN;
    const rest = {
      leases: value('adapter_leases'),
      running: value('num_requests_running'),
      waiting: value('num_requests_waiting'),
      queued: value('queue_length'),
    };
    if (isAtRest(rest) || performance.now() > endMs) return rest;
    await pause(50);
  }
}

export function isAtRest(rest: Rest): boolean {
  return Object.values(rest).every((count) => count === 0);
}

/** Waits until a condition holds; throws where it does not within a minute. */
export async function until(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const endMs = performance.now() + PATIENCE_MS;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`Expected that ${what} within ${PATIENCE_MS} ms`);
    await pause(10);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Smooth colours: a JPEG that is large in pixels, slow to decode and small to send. Another seed is another picture. */
export async function jpeg(width: number, height: number, seed = 0): Promise<Buffer> {
  const spots = Uint8Array.from({ length: 16 * 12 * 3 }, (_, index) => (index * 7919 + seed * 104_729) % 251);
  return sharp(spots, { raw: { width: 16, height: 12, channels: 3 } })
    .resize(width, height, { fit: 'fill' })
    .jpeg()
    .toBuffer();
}

/** Collects what is wrong; a bench ends with 1 where anything is. */
export class Bars {
  readonly #broken: string[] = [];
  #unjudged = 0;

  check(holds: boolean, bar: string): void {
    if (!holds) this.#broken.push(bar);
  }

  /** A bar that this run can say nothing about. */
  skip(reason: string): void {
    this.#unjudged++;
    console.log(`(not judged: ${reason})`);
  }

  report(): void {
    if (this.#broken.length === 0) console.log(`\nAll bars hold${this.#unjudged === 0 ? '' : `, ${this.#unjudged} not judged`}.`);
    for (const bar of this.#broken) console.log(`BROKEN: ${bar}`);
    process.exitCode = this.#broken.length === 0 ? 0 : 1;
  }
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return ''; // It has ended meanwhile.
  }
}

export function checkBuild(): void {
  const builtMs = statSync(MAIN, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = readdirSync(path.join(ROOT, 'src'), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const newestMs = Math.max(...sources.map((file) => statSync(path.join(file.parentPath, file.name)).mtimeMs));
  if (builtMs < newestMs) throw new Error('Expected a build of the present source in dist: run `npm run build` first');
}
