/**
 * Adapters on this disk, between their sources and memory: a folder for each content, named by its digest, least recently used out first, within
 * a bound in bytes. What is leased stays. What is on the disk is the whole truth: the index is made from it, so that nothing can disagree with
 * it after a kill, and another process may use (and clear) the same folder.
 *
 * A folder gets its name when it is complete and synced, and loses it before it is removed: under a digest there is all or nothing.
 */
import { mkdir, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { digestFolder } from '../adapter/digest.js';
import { exists } from '../adapter/scan.js';
import { AppError } from '../errors.js';
import { syncFolder } from '../tensor/folder.js';
import { isAbandoned, MARK, newMark } from '../tensor/owner.js';

const DIGEST = /^sha256:([0-9a-f]{64})$/;
const NAME = /^[0-9a-f]{64}$/;
const TEMPORARY = new RegExp(`^\\.${MARK}\\.tmp$`);
/** Folders that this process is writing, or removing. */
const own = new Set<string>();
/** A folder's time says when it was last used; it need not be exact. */
const TOUCH_EVERY_MS = 60_000;

export interface DiskOptions {
  readonly maxBytes: number;
  readonly onEvict?: (digest: string) => void;
}

/** The right to read an adapter's folder, which stays until `release`; that may be called twice. */
export interface DiskLease {
  readonly folder: string;
  readonly bytes: number;
  readonly release: () => void;
}

/** Room for an adapter that is still to come. */
export interface Reservation {
  /** An empty folder. */
  readonly folder: string;
  /** Makes it an adapter's, complete and hashed; `lease` says what is there now, whoever wrote it. */
  publish(digest: string, bytes: number): Promise<DiskLease>;
  /** Gives the room back; also after `publish`. */
  end(): Promise<void>;
}

interface Entry {
  readonly name: string;
  readonly bytes: number;
  leases: number;
  touchedMs: number;
}

export class DiskTier {
  readonly #folder: string;
  readonly #options: DiskOptions;
  /** The least recently used first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;
  #reservedBytes = 0;
  /** Changes of folders follow each other. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(folder: string, options: DiskOptions) {
    this.#folder = folder;
    this.#options = options;
  }

  /** Makes the index, and sweeps what processes that died have left. Throws `invalid_config` where the folder cannot be used. */
  static async open(folder: string, options: DiskOptions): Promise<DiskTier> {
    const tier = new DiskTier(folder, options);
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await tier.#read();
      await tier.#makeRoom(0);
    } catch (error) {
      if (!(error instanceof Error && 'syscall' in error)) throw error;
      throw new AppError('invalid_config', `diskCache: Expected a folder that can be written but received ${error.message}`, {
        cause: error,
      });
    }
    return tier;
  }

  get maxBytes(): number {
    return this.#options.maxBytes;
  }

  /** Of all adapters, and of what is being fetched. */
  get bytes(): number {
    return this.#bytes + this.#reservedBytes;
  }

  has(digest: string): boolean {
    return this.#entries.has(nameOf(digest));
  }

  /** Where it is now, unless somebody else needs its room; undefined where it is not. */
  folderOf(digest: string): string | undefined {
    const name = nameOf(digest);
    return this.#entries.has(name) ? join(this.#folder, name) : undefined;
  }

  /** Undefined where it is not there. */
  lease(digest: string): DiskLease | undefined {
    const entry = this.#entries.get(nameOf(digest));
    if (entry === undefined) return undefined;
    this.#entries.delete(entry.name);
    this.#entries.set(entry.name, entry);
    this.#touch(entry);
    return this.#leaseOf(entry);
  }

  /** Throws `source_unavailable` where what is in use leaves no room for so many bytes. */
  async reserve(bytes: number): Promise<Reservation> {
    return this.#exclusively(async () => {
      const used = [...this.#entries.values()].filter(({ leases }) => leases > 0);
      const usedBytes = used.reduce((sum, entry) => sum + entry.bytes, this.#reservedBytes);
      if (usedBytes + bytes > this.maxBytes) {
        const message = `Expected room for ${bytes} bytes on the disk but ${usedBytes} of ${this.maxBytes} are in use`;
        throw new AppError('source_unavailable', message, { retryAfterS: 1 });
      }
      await this.#makeRoom(bytes);
      const name = `.${newMark()}.tmp`;
      own.add(name);
      this.#reservedBytes += bytes;
      let isOpen = true;
      const folder = join(this.#folder, name);
      await mkdir(folder);
      return {
        folder,
        publish: (digest, size) => this.#publish(folder, nameOf(digest), size),
        end: async () => {
          if (!isOpen) return;
          isOpen = false;
          await clear(folder);
          own.delete(name);
          this.#reservedBytes -= bytes;
        },
      };
    });
  }

  /** Whether what is under the digest has it. What has not is removed, whoever uses it: it is of use to nobody. */
  async verify(digest: string): Promise<boolean> {
    const entry = this.#entries.get(nameOf(digest));
    if (entry === undefined) return false;
    const found = await digestFolder(join(this.#folder, entry.name)).catch(() => undefined);
    if (found?.digest === digest) return true;
    await this.#exclusively(() => this.#remove(entry));
    return false;
  }

  async #publish(temporary: string, name: string, bytes: number): Promise<DiskLease> {
    return this.#exclusively(async () => {
      const known = this.#entries.get(name);
      // Somebody may have cleared the folder.
      if (known !== undefined && (await exists(join(this.#folder, name)))) return this.#leaseOf(known);
      if (known !== undefined) this.#forget(known);
      await syncFolder(temporary);
      await rename(temporary, join(this.#folder, name)).catch(async (error: unknown) => {
        // Another process may have been first.
        if (!(await exists(join(this.#folder, name)))) throw error;
      });
      await syncFolder(this.#folder);
      const entry = { name, bytes, leases: 0, touchedMs: Date.now() };
      this.#entries.set(name, entry);
      this.#bytes += bytes;
      return this.#leaseOf(entry);
    });
  }

  async #read(): Promise<void> {
    const found: Entry[] = [];
    for (const name of await readdir(this.#folder)) {
      const place = join(this.#folder, name);
      const info = await stat(place).catch(() => undefined);
      if (info === undefined) continue;
      const mark = TEMPORARY.exec(name)?.groups;
      if (mark && !own.has(name) && isAbandoned(mark, info.mtimeMs)) await rm(place, { recursive: true, force: true });
      if (!NAME.test(name) || !info.isDirectory()) continue;
      found.push({ name, bytes: await bytesIn(place), leases: 0, touchedMs: info.mtimeMs });
    }
    for (const entry of found.sort((a, b) => a.touchedMs - b.touchedMs)) {
      this.#entries.set(entry.name, entry);
      this.#bytes += entry.bytes;
    }
  }

  async #makeRoom(bytes: number): Promise<void> {
    for (const entry of this.#entries.values()) {
      if (this.bytes + bytes <= this.maxBytes) return;
      if (entry.leases > 0) continue;
      await this.#remove(entry);
      this.#options.onEvict?.(`sha256:${entry.name}`);
    }
  }

  /** From the index first, so that nobody gets a lease on what is going away. */
  async #remove(entry: Entry): Promise<void> {
    if (this.#entries.get(entry.name) !== entry) return;
    this.#entries.delete(entry.name);
    const aside = `.${newMark()}.tmp`;
    own.add(aside);
    const place = join(this.#folder, aside);
    // Somebody else may have been faster.
    await rename(join(this.#folder, entry.name), place).catch(() => undefined);
    await clear(place);
    own.delete(aside);
    this.#bytes -= entry.bytes;
  }

  #forget(entry: Entry): void {
    this.#entries.delete(entry.name);
    this.#bytes -= entry.bytes;
  }

  #touch(entry: Entry): void {
    const now = Date.now();
    if (now - entry.touchedMs < TOUCH_EVERY_MS) return;
    entry.touchedMs = now;
    void utimes(join(this.#folder, entry.name), now / 1000, now / 1000).catch(() => undefined);
  }

  #leaseOf(entry: Entry): DiskLease {
    entry.leases++;
    let isOpen = true;
    const release = (): void => {
      if (isOpen) entry.leases--;
      isOpen = false;
    };
    return { folder: join(this.#folder, entry.name), bytes: entry.bytes, release };
  }

  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}

/** What cannot be removed now is swept at the next start. */
async function clear(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true }).catch(() => undefined);
}

/** Throws RangeError for what is no digest: it becomes a path. */
function nameOf(digest: string): string {
  const name = DIGEST.exec(digest)?.[1];
  if (name === undefined) throw new RangeError(`Expected sha256: and 64 hex digits but received ${JSON.stringify(digest)}`);
  return name;
}

async function bytesIn(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const sizes = await Promise.all(files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}
