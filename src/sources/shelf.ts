/**
 * What is on the disk, as adapters: each content is hashed and described once before it is used, and each version is fetched once, however many
 * ask for it under whatever names.
 */
import { join } from 'node:path';
import { LRUCache } from 'lru-cache';
import { digestFolder } from '../adapter/digest.js';
import { type AdapterSummary, inspectFolder } from '../adapter/summary.js';
import { AppError } from '../errors.js';
import type { Patience } from '../hub/retry.js';
import { type DiskLease, DiskTier } from './disk.js';
import { fetchVersion } from './fetch.js';
import type { SourceKind } from './place.js';
import { Records } from './records.js';
import { bytesOf, type SourceVersion } from './source.js';

const MAX_DIGESTS = 16_384;

/** What happens, for metrics. */
export interface ShelfObserver {
  fetched(kind: SourceKind, seconds: number, bytes: number): void;
  evicted(): void;
}

/** An adapter on the disk. */
export interface Stocked {
  readonly digest: string;
  readonly bytes: number;
  readonly summary: AdapterSummary;
}

export class Shelf {
  readonly #disk: DiskTier;
  readonly records: Records;
  readonly #observer: ShelfObserver;
  /** What has been hashed by this process. */
  readonly #stocked: Map<string, Stocked>;
  /** Content by version. */
  readonly #digests = new LRUCache<string, string>({ max: MAX_DIGESTS });
  readonly #fetches = new Map<string, Promise<Stocked>>();

  private constructor(disk: DiskTier, records: Records, stocked: Map<string, Stocked>, observer: ShelfObserver) {
    this.#disk = disk;
    this.records = records;
    this.#stocked = stocked;
    this.#observer = observer;
    for (const [version, digest] of records.digests()) this.#digests.set(version, digest);
  }

  /** Throws `invalid_config` where the folder cannot be used. */
  static async open(folder: string, maxBytes: number, observer: ShelfObserver): Promise<Shelf> {
    const stocked = new Map<string, Stocked>();
    const onEvict = (digest: string): void => {
      stocked.delete(digest);
      observer.evicted();
    };
    const disk = await DiskTier.open(join(folder, 'adapters'), { maxBytes, onEvict });
    const records = await Records.open(join(folder, 'sources'), (digest) => disk.has(digest));
    return new Shelf(disk, records, stocked, observer);
  }

  get bytes(): number {
    return this.#disk.bytes;
  }

  get maxBytes(): number {
    return this.#disk.maxBytes;
  }

  lease(digest: string): DiskLease | undefined {
    return this.#disk.lease(digest);
  }

  /** Where it is now, which counts as no use of it. */
  folderOf(digest: string): string | undefined {
    return this.#disk.folderOf(digest);
  }

  /** What is there under a digest; undefined, and then gone, where that is not what the digest says. */
  async find(digest: string): Promise<Stocked | undefined> {
    const known = this.#stocked.get(digest);
    if (known !== undefined && this.#disk.has(digest)) return known;
    const lease = this.#disk.lease(digest);
    try {
      if (lease === undefined || !(await this.#disk.verify(digest))) return undefined;
      const { summary, fault } = await inspectFolder(lease.folder);
      if (fault !== undefined) return undefined;
      return this.#keep({ digest, bytes: lease.bytes, summary });
    } finally {
      lease?.release();
    }
  }

  /** Hashes again what the engine found to be something else. */
  async mend(digest: string): Promise<void> {
    this.#stocked.delete(digest);
    await this.find(digest);
  }

  /**
   * A version from the disk or from its source. Throws AppError: what the source says, `adapter_invalid` with the faults of what came,
   * `source_unavailable` where there is no room; Changed where the version is gone.
   */
  async bring(kind: SourceKind, version: SourceVersion, patience: Patience): Promise<Stocked> {
    const digest = this.#digests.get(version.id);
    const found = digest === undefined ? undefined : await this.find(digest);
    if (found !== undefined) return found;
    let fetch = this.#fetches.get(version.id);
    if (fetch === undefined) {
      fetch = this.#fetch(kind, version, patience).finally(() => this.#fetches.delete(version.id));
      this.#fetches.set(version.id, fetch);
    }
    return fetch;
  }

  async #fetch(kind: SourceKind, version: SourceVersion, patience: Patience): Promise<Stocked> {
    const startedMs = performance.now();
    const room = await this.#disk.reserve(bytesOf(version.files));
    let lease: DiskLease;
    let stocked: Stocked;
    try {
      await fetchVersion(version, room.folder, patience);
      const { summary, fault } = await inspectFolder(room.folder);
      if (fault !== undefined) throw new AppError('adapter_invalid', fault);
      const { digest } = await digestFolder(room.folder);
      lease = await room.publish(digest, bytesOf(version.files));
      stocked = { digest, bytes: lease.bytes, summary };
    } finally {
      await room.end();
    }
    // Whoever waits for it takes a lease of its own in this turn of the event loop.
    setImmediate(lease.release);
    this.#digests.set(version.id, stocked.digest);
    this.#observer.fetched(kind, (performance.now() - startedMs) / 1000, stocked.bytes);
    return this.#keep(stocked);
  }

  #keep(stocked: Stocked): Stocked {
    this.#stocked.set(stocked.digest, stocked);
    return stocked;
  }
}
