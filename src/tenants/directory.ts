/**
 * The tenants of a file or a folder, as they are now. They come, change and go while the server runs: looking again and again is the truth,
 * since notifications are missing on some file systems; where they work, they only make it prompt.
 *
 * Files that are wrong change nothing. Who could come in before still can, nobody else, and the operator is told: a slip in a file must neither
 * lock everybody out nor let anybody in.
 */
import { type FSWatcher, watch } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../errors.js';
import { parseTenants, type TenantEntry } from './file.js';
import { KeyRing } from './key.js';
import { listFiles, readFiles, type Stamp, stampOf } from './place.js';
import type { Tenant } from './tenant.js';
import type { Tenants } from './tenants.js';

export interface DirectoryObserver {
  /** So many tenants there are from now on. */
  reloaded(tenants: number): void;
  /** The tenants stay what they were. */
  failed(error: AppError): void;
}

export interface DirectoryOptions {
  /** A YAML file, or a folder of them. */
  readonly location: string;
  /** What else may stand in a file, where it is the file of settings too. */
  readonly others?: readonly string[];
  readonly observer?: DirectoryObserver;
  /** Milliseconds between looks. */
  readonly rescanMs?: number;
}

const RESCAN_MS = 1000;
/** An editor's writes come in a burst. */
const DEBOUNCE_MS = 50;
/** A file that is being written gets so many chances to be whole. */
const ATTEMPTS = 3;
const RETRY_MS = 50;
/** Two writes within one tick of a file system's clock look the same: what was written so recently is read again by the next look. */
const CLOCK_TICK_MS = 100;

/** What the files say; or why they say nothing. */
interface Reading {
  /** Equal texts, equal readings. */
  readonly text: string;
  readonly result: readonly TenantEntry[] | AppError;
}

export class TenantDirectory implements Tenants {
  readonly isOpen = false;
  readonly #options: DirectoryOptions;
  readonly #rescanMs: number;
  #ring = new KeyRing([]);
  #size = 0;
  #stamp: Stamp | undefined;
  #lastText: string | undefined;
  /** Looks follow each other. */
  #work: Promise<void> = Promise.resolve();
  #watcher: FSWatcher | undefined;
  #debounce: NodeJS.Timeout | undefined;
  #poll: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(options: DirectoryOptions) {
    const { rescanMs = RESCAN_MS } = options;
    if (!(rescanMs > 0)) throw new RangeError(`Expected rescanMs to be positive but received ${rescanMs}`);
    this.#options = options;
    this.#rescanMs = rescanMs;
  }

  /** Reads the tenants, and then keeps at it until `close`. Throws `invalid_config` with every fault of every file. */
  static async open(options: DirectoryOptions): Promise<TenantDirectory> {
    const directory = new TenantDirectory(options);
    directory.#stamp = await stampOf(options.location);
    const { text, result } = await directory.#read();
    if (result instanceof AppError) throw result;
    directory.#take(text, result);
    await directory.#watch();
    directory.#schedule();
    return directory;
  }

  /** How many there are. */
  get size(): number {
    return this.#size;
  }

  authenticate(key: string | undefined): Tenant {
    const tenant = this.#ring.find(key, Date.now());
    if (tenant === undefined)
      throw new AppError(
        'invalid_api_key',
        'Expected an API key that this server knows (in the header Authorization: Bearer KEY, or x-api-key) but received none',
      );
    return tenant;
  }

  /** Reads the files again, changed or not; resolves when that is done, however it went. */
  reload(): Promise<void> {
    return this.#then(() => this.#look(true));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#watcher?.close();
    clearTimeout(this.#debounce);
    clearTimeout(this.#poll);
    await this.#work;
  }

  #then(look: () => Promise<void>): Promise<void> {
    this.#work = this.#work.then(look);
    return this.#work;
  }

  async #look(isAsked: boolean): Promise<void> {
    if (this.#closed) return;
    const stamp = await stampOf(this.#options.location);
    if (!isAsked && this.#stamp !== undefined && isSettled(stamp, this.#stamp)) return;
    this.#stamp = stamp;
    const { text, result } = await this.#read();
    if (!isAsked && text === this.#lastText) return;
    if (result instanceof AppError) {
      // Told once, however often it is looked at.
      this.#lastText = text;
      this.#options.observer?.failed(result);
      return;
    }
    this.#take(text, result);
    this.#options.observer?.reloaded(this.#size);
  }

  #take(text: string, entries: readonly TenantEntry[]): void {
    this.#lastText = text;
    this.#ring = new KeyRing(entries);
    this.#size = entries.length;
  }

  async #read(): Promise<Reading> {
    let reading = await this.#readOnce();
    for (let attempt = 1; attempt < ATTEMPTS && reading.result instanceof AppError; attempt++) {
      await sleep(RETRY_MS);
      reading = await this.#readOnce();
    }
    return reading;
  }

  async #readOnce(): Promise<Reading> {
    const { location, others } = this.#options;
    let text = '';
    try {
      const files = await readFiles(location);
      text = JSON.stringify(files.map(({ path, content }) => [path, String(content)]));
      return { text, result: parseTenants(files, others) };
    } catch (error) {
      if (error instanceof AppError) return { text: text || error.message, result: error };
      throw error;
    }
  }

  async #watch(): Promise<void> {
    const { location } = this.#options;
    try {
      // Of a file its folder: the file itself is another one after each rename.
      const isFile = (await listFiles(location))[0] === location;
      this.#watcher = watch(isFile ? dirname(location) : location, { persistent: false }, () => {
        clearTimeout(this.#debounce);
        this.#debounce = setTimeout(() => void this.#then(() => this.#look(false)), DEBOUNCE_MS).unref();
      });
      this.#watcher.on('error', () => this.#watcher?.close());
    } catch {
      // No notifications here: the looks find everything.
    }
  }

  #schedule(): void {
    this.#poll = setTimeout(() => void this.#turn(), this.#rescanMs).unref();
  }

  async #turn(): Promise<void> {
    await this.#then(() => this.#look(false));
    if (!this.#closed) this.#schedule();
  }
}

/** Nothing moved since the stamp before, which was itself taken long enough after the last write to see the next one. */
function isSettled(now: Stamp, before: Stamp): boolean {
  // A time ahead of ours is that of another machine's clock, and no reason to read for ever.
  return now.text === before.text && Math.abs(before.takenMs - before.newestMs) > CLOCK_TICK_MS;
}
