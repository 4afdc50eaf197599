/**
 * The adapters in a folder, by name, and which version of each is there now. Adapters come, change and go while the server runs:
 * scanning again and again is the truth, because file notifications are missing on some file systems; where they work, they only
 * make it prompt. A version is known by its digest, and hashed only when the files' sizes, times or inodes say that it may be another.
 *
 * An adapter that is broken stays in the list with its fault. The version before it is not served in its place: who asks for a name
 * gets what the folder says now, or a reason.
 */
import { EventEmitter } from 'node:events';
import { type FSWatcher, watch } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../errors.js';
import { mapConcurrent } from '../tensor/concurrent.js';
import type { AdapterRef } from './adapter.js';
import { digestFolder } from './digest.js';
import { type Candidate, exists, findAdapters, type Stamp, stampOf } from './scan.js';
import { type AdapterSummary, inspectFolder } from './summary.js';

export interface RegisteredAdapter {
  /** `name`, or `tenant/name`. */
  readonly name: string;
  readonly ref: AdapterRef;
  /** Bytes of its files. */
  readonly bytes: number;
  readonly summary: AdapterSummary;
  /** When this version was first seen, in milliseconds since 1970. */
  readonly registeredAt: number;
  /** Where it was fetched from; absent where it lies in the folder of adapters. */
  readonly source?: string;
  /** Why it cannot be served; absent where nothing is known against it. */
  readonly fault?: string;
  /** What it is mixed of, for one request; absent for every adapter that a list holds. */
  readonly blend?: readonly BlendedPart[];
}

export interface BlendedPart {
  /** As it was asked for. */
  readonly name: string;
  readonly weight: number;
  readonly adapter: RegisteredAdapter;
}

/** Names, each in one of the lists. */
export interface RegistryChange {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
}

export interface RegistryOptions {
  /** Milliseconds between scans. */
  readonly rescanMs?: number;
}

interface Entry {
  readonly adapter: RegisteredAdapter;
  readonly stamp: Stamp;
}

const CONCURRENT_FOLDERS = 4;
/** A publisher's writes come in a burst. */
const DEBOUNCE_MS = 50;
/** A folder that is being written gets so many chances to hold still. */
const ATTEMPTS = 3;
const RETRY_MS = 50;
/** A scan takes at most about a tenth of the time, however many adapters there are. */
const IDLE_PER_SCAN = 9;
/** Two writes within one tick of a file system's clock look the same: what was written so recently is hashed again by the next scan. */
const CLOCK_TICK_MS = 100;

export class AdapterRegistry {
  readonly #folder: string;
  readonly #rescanMs: number;
  readonly #events = new EventEmitter<{ change: [RegistryChange] }>();
  #entries: ReadonlyMap<string, Entry> = new Map();
  #list: readonly RegisteredAdapter[] = [];
  #running: Promise<void> | undefined;
  #queued: Promise<void> | undefined;
  #watcher: FSWatcher | undefined;
  #debounce: NodeJS.Timeout | undefined;
  #poll: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(folder: string, { rescanMs = 2000 }: RegistryOptions) {
    if (!(rescanMs > 0)) throw new RangeError(`Expected rescanMs to be positive but received ${rescanMs}`);
    this.#folder = folder;
    this.#rescanMs = rescanMs;
  }

  /** Scans the folder once, and then keeps at it until `close`. Throws AppError `invalid_config` where there is no such folder. */
  static async open(folder: string, options: RegistryOptions = {}): Promise<AdapterRegistry> {
    const registry = new AdapterRegistry(resolve(folder), options);
    await registry.rescan();
    registry.#watch();
    registry.#schedule(0);
    return registry;
  }

  /** Absolute path. */
  get folder(): string {
    return this.#folder;
  }

  /** Sorted by name. The same array until something changes. */
  list(): readonly RegisteredAdapter[] {
    return this.#list;
  }

  get(name: string): RegisteredAdapter | undefined {
    return this.#entries.get(name)?.adapter;
  }

  /**
   * Resolves once a scan that began after this call is over. Throws AppError `invalid_config` where the folder cannot be read;
   * the adapters known so far then stay.
   */
  async rescan(): Promise<void> {
    if (this.#running === undefined) {
      this.#running = this.#scan().finally(() => {
        this.#running = undefined;
      });
      return this.#running;
    }
    // All who come while a scan runs share the one after it.
    this.#queued ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#queued = undefined;
        return this.rescan();
      });
    return this.#queued;
  }

  /** Calls the listener after each scan that found a difference. Returns what ends it. */
  onChange(listener: (change: RegistryChange) => void): () => void {
    this.#events.on('change', listener);
    return () => this.#events.off('change', listener);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#watcher?.close();
    clearTimeout(this.#debounce);
    clearTimeout(this.#poll);
    this.#events.removeAllListeners();
    await (this.#queued ?? this.#running)?.catch(() => undefined);
  }

  async #scan(): Promise<void> {
    const candidates = await findAdapters(this.#folder);
    const found = await mapConcurrent(candidates, CONCURRENT_FOLDERS, (candidate) => this.#read(candidate));
    const entries = new Map(found.filter((entry) => entry !== undefined).map((entry) => [entry.adapter.name, entry]));
    const missing = [...this.#entries.values()].filter(({ adapter }) => !entries.has(adapter.name));
    for (const entry of await this.#readReplaced(missing)) entries.set(entry.adapter.name, entry);
    if (!this.#closed) this.#publish(entries);
  }

  /** A folder that is being replaced is away for a moment: what seems to have gone is looked for once more. */
  async #readReplaced(missing: readonly Entry[]): Promise<Entry[]> {
    if (missing.length === 0) return [];
    await sleep(RETRY_MS);
    const names = new Set(missing.map(({ adapter }) => adapter.name));
    const candidates = (await findAdapters(this.#folder)).filter(({ name }) => names.has(name));
    const found = await mapConcurrent(candidates, CONCURRENT_FOLDERS, (candidate) => this.#read(candidate));
    return found.filter((entry) => entry !== undefined);
  }

  /** The entry that holds for a folder now; undefined where it went away meanwhile. */
  async #read(candidate: Candidate): Promise<Entry | undefined> {
    const before = this.#entries.get(candidate.name);
    if (before !== undefined && isSettled(await stampOf(candidate.folder, before.stamp), before.stamp)) return before;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const entry = await readVersion(candidate, before);
      if (entry !== undefined) return entry;
      if (!(await exists(candidate.folder))) return undefined;
      await sleep(RETRY_MS);
    }
    return restless(candidate, before);
  }

  #publish(entries: ReadonlyMap<string, Entry>): void {
    const old = this.#entries;
    const names = [...entries.keys()];
    const change = {
      added: names.filter((name) => !old.has(name)),
      changed: names.filter((name) => isDifferent(old.get(name), entries.get(name))),
      removed: [...old.keys()].filter((name) => !entries.has(name)),
    };
    this.#entries = entries;
    if (change.added.length + change.changed.length + change.removed.length === 0) return;
    this.#list = [...entries.values()].map(({ adapter }) => adapter).sort((a, b) => (a.name < b.name ? -1 : 1));
    this.#events.emit('change', change);
  }

  #watch(): void {
    try {
      this.#watcher = watch(this.#folder, { persistent: false }, () => {
        clearTimeout(this.#debounce);
        this.#debounce = setTimeout(() => void this.rescan().catch(() => undefined), DEBOUNCE_MS).unref();
      });
      this.#watcher.on('error', () => this.#watcher?.close());
    } catch {
      // No notifications here: the scans find everything.
    }
  }

  #schedule(lastScanMs: number): void {
    const waitMs = Math.max(this.#rescanMs, lastScanMs * IDLE_PER_SCAN);
    this.#poll = setTimeout(() => void this.#turn(), waitMs).unref();
  }

  async #turn(): Promise<void> {
    const startedMs = performance.now();
    // A folder that cannot be read now (a network drive) may be back at the next turn.
    await this.rescan().catch(() => undefined);
    if (!this.#closed) this.#schedule(performance.now() - startedMs);
  }
}

/** Reads and hashes a folder; undefined where it changed meanwhile, or went away. */
async function readVersion({ name, folder }: Candidate, before: Entry | undefined): Promise<Entry | undefined> {
  try {
    const place = await realpath(folder);
    const stamp = await stampOf(folder);
    const { summary, fault } = await inspectFolder(place);
    const { digest, bytes } = fault === undefined ? await digestFolder(place) : await digestFaulty(place);
    if ((await stampOf(folder, stamp)).text !== stamp.text) return undefined;
    const old = before?.adapter;
    const registeredAt = old?.ref.digest === digest ? old.registeredAt : Date.now();
    const adapter = {
      name,
      ref: { name, digest, folder: place },
      bytes,
      summary,
      registeredAt,
      ...(fault === undefined ? {} : { fault }),
    };
    return { adapter, stamp };
  } catch (error) {
    // Gone, replaced, no longer a folder: that is what a folder on the move looks like. Anything else is a defect.
    if (error instanceof AppError || isSystemError(error)) return undefined;
    throw error;
  }
}

/** A broken folder may hold files that cannot be hashed at all. */
async function digestFaulty(folder: string): Promise<{ digest: string; bytes: number }> {
  try {
    return await digestFolder(folder);
  } catch (error) {
    if (error instanceof AppError && error.code === 'adapter_invalid') return { digest: UNKNOWN_DIGEST, bytes: 0 };
    throw error;
  }
}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error;
}

/** No content has it. */
const UNKNOWN_DIGEST = `sha256:${'0'.repeat(64)}`;

/** No folder has it: the next scan reads. */
const NO_STAMP: Stamp = { text: '', newestMs: 0, takenMs: 0, paths: [], manifest: '' };

/** The entry of a folder that did not hold still: without a fault again as soon as a scan finds it at rest. */
function restless({ name, folder }: Candidate, before: Entry | undefined): Entry {
  const adapter: RegisteredAdapter = {
    name,
    ref: { name, digest: UNKNOWN_DIGEST, folder },
    bytes: 0,
    summary: before?.adapter.summary ?? { method: 'none', contexts: [], prompt: '', seesImages: false, format: 'unknown' },
    registeredAt: before?.adapter.ref.digest === UNKNOWN_DIGEST ? before.adapter.registeredAt : Date.now(),
    fault: 'Expected files that can be read and hold still but received a folder that is being written',
  };
  return { adapter, stamp: NO_STAMP };
}

/** Nothing moved since the stamp before, which was itself taken long enough after the last write to see the next one. */
function isSettled(now: Stamp, before: Stamp): boolean {
  // A time ahead of ours is that of another machine's clock, and no reason to hash for ever.
  return now.text === before.text && Math.abs(before.takenMs - before.newestMs) > CLOCK_TICK_MS;
}

function isDifferent(old: Entry | undefined, now: Entry | undefined): boolean {
  if (old === undefined || now === undefined) return false;
  const [a, b] = [old.adapter, now.adapter];
  return a.ref.digest !== b.ref.digest || a.ref.folder !== b.ref.folder || a.fault !== b.fault;
}
