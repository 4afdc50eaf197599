/**
 * `npm run bench:responsiveness`: how long the front end's event loop is ever held up while the engine has more to do than it can. The server runs in
 * this process, so that its loop can be watched from within; clients, and a publisher that keeps changing the adapters folder, run in another.
 *
 * On a busy machine a loop is also late because its process waits for a core. The kernel counts that wait for every thread (/proc, Linux), and it is
 * taken off: what is left is time in which the loop computed or was blocked. A bystander, an idle process that is watched in the same way at the same
 * time, says how far the rest can be trusted: where it was late itself, the bar is not judged.
 *
 *     npm run bench:responsiveness -- [--seconds 20] [--concurrency 32] [--adapters 200] [--bar 50]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { readdir, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startServer } from '../src/cli/serve.js';
import { loadConfig } from '../src/config.js';
import { hasShared, shared } from '../test/support/shared.js';
import { Client, COMPLETED, captionPayload, jsonPayload, type Outcome, type Payload, tally } from './client.js';
import { Bars, jpeg, pause, variantOf, Workshop } from './server.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '20' },
    concurrency: { type: 'string', default: '32' },
    adapters: { type: 'string', default: '200' },
    bar: { type: 'string', default: '50' },
  },
});
const seconds = Number(values.seconds);
const concurrency = Number(values.concurrency);
const barMs = Number(values.bar);

const TICK_MS = 5;
const ORIGINALS = 8;
const PUBLISH_EVERY_MS = 250;
const SCRAPE_EVERY_MS = 1000;
/** As large as the server takes by default. */
const LARGEST_BYTES = 20 * 10 ** 6;

/** A load that the clients' process is told to make. */
type Load = 'streams' | 'largest forms' | 'largest JSON bodies';

/** What the other processes are started for. */
type Errand =
  | { readonly role: 'bystander' }
  | { readonly role: 'clients'; readonly url: string; readonly adapters: string; readonly store: string; readonly load: Load };

interface Delay {
  readonly ms: number;
  /** The part of it in which the loop's thread was ready to run and had no core. */
  readonly waitMs: number;
}

interface Watched {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly longestMs: number;
  /** Longest of what is left without waiting for a core: our code, garbage collection, blocking calls. */
  readonly heldMs: number;
  /** How many of those are above the bar. */
  readonly above: number;
}

/** Watches this process's event loop: how much later than it asked for does a timer come? */
class Watch {
  readonly #delays: Delay[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor() {
    let lastMs = performance.now();
    let lastWaitMs = waitedMs();
    this.#timer = setInterval(() => {
      const [now, wait] = [performance.now(), waitedMs()];
      this.#delays.push({ ms: Math.max(0, now - lastMs - TICK_MS), waitMs: wait - lastWaitMs });
      lastMs = now;
      lastWaitMs = wait;
    }, TICK_MS);
  }

  stop(): Watched {
    clearInterval(this.#timer);
    const delays = this.#delays.map(({ ms }) => ms).sort((a, b) => a - b);
    const held = this.#delays.map(({ ms, waitMs }) => Math.max(0, ms - waitMs));
    const quantile = (q: number): number => delays[Math.floor(q * (delays.length - 1))] ?? Number.NaN;
    return {
      p50Ms: quantile(0.5),
      p99Ms: quantile(0.99),
      longestMs: quantile(1),
      heldMs: Math.max(...held),
      above: held.filter((ms) => ms > barMs).length,
    };
  }
}

/** Milliseconds for which this process's first thread has waited for a core so far. */
function waitedMs(): number {
  return Number(readFileSync('/proc/self/schedstat', 'utf8').split(' ')[1]) / 1e6;
}

const errand = process.env['GRAFT_BENCH_ERRAND'];
if (errand === undefined) await measure();
else await run(JSON.parse(errand) as Errand);

async function measure(): Promise<void> {
  const bars = new Bars();
  const workshop = await Workshop.open();
  try {
    const store = path.join(workshop.folder, 'store');
    for (let seed = 0; seed < ORIGINALS; seed++) await workshop.writeAdapter(path.join(store, `original-${seed}`), seed);
    for (let index = 0; index < Number(values.adapters); index++)
      await variantOf(
        path.join(store, `original-${index % ORIGINALS}`),
        path.join(workshop.adapters, `adapter-${index}`),
        `task ${index}`,
      );
    const { backbone, adapters } = workshop;
    const flags = { backbone, adapters, port: '0', logLevel: 'error' };
    const server = await startServer(await loadConfig({ flags, env: {}, folder: workshop.folder }));
    await server.ready;
    console.log(
      `backbone ${workshop.backboneName}, ${values.adapters} adapters, ${concurrency} requests at a time, ${seconds} s of streams\n`,
    );
    console.log(
      '| load | requests | late p50 ms | p99 | longest | longest without waiting for a core | above bar | bystander longest |',
    );
    console.log('|---|---|---|---|---|---|---|---|');
    const clientsOf = (load: Load, forSeconds: number) =>
      startErrand({ role: 'clients', url: server.url, adapters, store, load }, forSeconds);
    // The first pass compiles code and fills caches; it is not counted.
    await reply(await clientsOf('streams', 3), 'go');
    for (const load of ['streams', 'largest forms', 'largest JSON bodies'] as const) {
      // To start a process blocks this one for a while: both are there before the watch begins.
      const [bystander, clients] = [await startErrand({ role: 'bystander' }, seconds), await clientsOf(load, seconds)];
      const watch = new Watch();
      const [outcomes] = (await reply(clients, 'go')) as [Outcome[]];
      const { p50Ms, p99Ms, longestMs, heldMs, above } = watch.stop();
      const [beside] = (await reply(bystander, 'stop')) as [Watched];
      const cells = [
        outcomes.length,
        ...[p50Ms, p99Ms, longestMs, heldMs].map((ms) => ms.toFixed(1)),
        above,
        beside.longestMs.toFixed(1),
      ];
      console.log(`| ${load} | ${cells.join(' | ')} |`);
      if (beside.longestMs >= barMs) bars.skip(`the bystander was late by ${beside.longestMs.toFixed(0)} ms itself`);
      else
        bars.check(
          heldMs <= barMs,
          `${load}: the loop was held for ${heldMs.toFixed(1)} ms, ${above} times for more than ${barMs}`,
        );
      bars.check(
        outcomes.length > 0 && outcomes.every((outcome) => outcome === COMPLETED),
        `${load}: clients saw ${tally(outcomes)}`,
      );
    }
    await server.close();
  } finally {
    await workshop.close();
  }
  bars.report();
}

/** Starts this file as another process; resolves once it runs. */
async function startErrand(what: Errand, forSeconds: number): Promise<ChildProcess> {
  const env = { ...process.env, GRAFT_BENCH_ERRAND: JSON.stringify(what) };
  const child = fork(
    fileURLToPath(import.meta.url),
    ['--seconds', String(forSeconds), '--concurrency', String(concurrency), '--bar', String(barMs)],
    { env },
  );
  process.once('exit', () => child.kill('SIGKILL'));
  await once(child, 'message');
  return child;
}

async function reply(child: ChildProcess, message: string): Promise<unknown[]> {
  const answer = once(child, 'message');
  child.send(message);
  const result = (await answer) as unknown[];
  child.disconnect();
  return result;
}

/** The other processes: they say that they are there, wait to be told, and answer. */
async function run(what: Errand): Promise<void> {
  const watch = what.role === 'bystander' ? new Watch() : undefined;
  const work = what.role === 'clients' ? await prepare(what) : undefined;
  process.send?.('ready');
  await once(process, 'message');
  process.send?.(watch?.stop() ?? (await work?.()));
}

async function prepare({ url, adapters, store, load }: Extract<Errand, { role: 'clients' }>): Promise<() => Promise<Outcome[]>> {
  const payloads = await payloadsOf(load, (await readdir(adapters)).slice(0, 50));
  const client = new Client(url);
  return async () => {
    const outcomes: Outcome[] = [];
    const endMs = performance.now() + seconds * 1000;
    const isOver = (): boolean => performance.now() > endMs;
    let next = 0;
    const worker = async (): Promise<void> => {
      while (!isOver()) outcomes.push(await client.outcome(payloads[next++ % payloads.length] as Payload));
    };
    const workers = Array.from({ length: load === 'streams' ? concurrency : 2 }, worker);
    await Promise.all([...workers, publish(adapters, store, isOver), scrape(client, isOver)]);
    client.close();
    return outcomes;
  };
}

async function payloadsOf(load: Load, names: readonly string[]): Promise<Payload[]> {
  const images = await photos();
  if (load === 'streams') {
    return Promise.all(
      names.map(async (adapter, index) =>
        index % 3 === 2
          ? jsonPayload('/v1/completions', { model: adapter, prompt: 'the cat sat on', max_tokens: 40, stream: true })
          : captionPayload({
              image: images[index % images.length] ?? Buffer.alloc(0),
              adapter,
              max_tokens: '40',
              stream: 'true',
            }),
      ),
    );
  }
  const adapter = names[0] ?? '';
  // Bytes behind the end of a JPEG are nobody's business, but they have to be carried.
  const largest = Buffer.concat([images[0] ?? Buffer.alloc(0)], LARGEST_BYTES);
  if (load === 'largest forms') return [await captionPayload({ image: largest, adapter, max_tokens: '5' })];
  return [jsonPayload('/v1/captions', { image: largest.toString('base64'), adapter, max_tokens: 5 })];
}

async function photos(): Promise<Buffer[]> {
  if (!hasShared) return Promise.all([1, 2, 3, 4].map((seed) => jpeg(640, 480, seed)));
  const names = (await readdir(shared('photos'))).filter((name) => name.endsWith('.jpg'));
  return Promise.all(names.map((name) => readFile(path.join(shared('photos'), name))));
}

/** Adapters come, change and go. */
async function publish(adapters: string, store: string, isOver: () => boolean): Promise<void> {
  for (let round = 0; !isOver(); round++) {
    const place = path.join(adapters, `changing-${round % 4}`);
    const fresh = path.join(store, `fresh-${process.pid}-${round}`);
    await variantOf(path.join(store, `original-${round % ORIGINALS}`), fresh, `version ${round}`);
    await rm(place, { recursive: true, force: true });
    await rename(fresh, place);
    await pause(PUBLISH_EVERY_MS);
  }
}

async function scrape(client: Client, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    await client.metrics();
    await client.get('/v1/adapters');
    await client.get('/v1/models');
    await pause(SCRAPE_EVERY_MS);
  }
}
