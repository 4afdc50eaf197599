/**
 * Adapters that were published to this server: for each name its versions, and which of them serves. A change is on the disk before anybody is
 * told of it, so that a server that is killed comes back with every change that it acknowledged, and with none by half: contents are complete
 * before the index names them, and go after it has forgotten them. One server at a time has a store.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { digestFolder } from '../adapter/digest.js';
import type { RegisteredAdapter } from '../adapter/registry.js';
import { type Inspection, inspectFolder } from '../adapter/summary.js';
import { AppError } from '../errors.js';
import { mapConcurrent } from '../tensor/concurrent.js';
import { type Held, hold, LEFT_MS } from '../tensor/lock.js';
import {
  type Content,
  type Entry,
  promote,
  publish,
  rollback,
  type Share,
  serving,
  type Version,
  withoutVersion,
  withShadow,
  withSplit,
} from './entry.js';
import { type Entries, readLedger, writeLedger } from './ledger.js';
import type { Reference } from './reference.js';
import { pick } from './split.js';
import { type Room, Vault } from './vault.js';

/** One version of a name, as requests use it. */
export interface StoredAdapter extends RegisteredAdapter {
  readonly version: number;
  /** How many the name has. */
  readonly versions: number;
}

/** A version that stays on the disk until `release`. */
export interface HeldVersion {
  readonly adapter: StoredAdapter;
  readonly release: () => void;
}

export interface Published {
  readonly version: Version;
  /** False where the name had this content already. */
  readonly isNew: boolean;
}

type Description = Pick<Inspection, 'summary' | 'fault'>;

const CONCURRENT_FOLDERS = 4;
/** Of files that processes which were killed have left beside the folders of the store. */
const LEFTOVER = /^(?:lock\..+|\.index\.json\.tmp-.+)$/;

export class AdapterStore {
  readonly #folder: string;
  readonly #lock: Held;
  readonly #vault: Vault;
  readonly #descriptions = new Map<string, Description>();
  readonly #listeners: (() => void)[] = [];
  #entries: Entries;
  /** Changes follow each other. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(folder: string, lock: Held, vault: Vault, entries: Entries) {
    this.#folder = folder;
    this.#lock = lock;
    this.#vault = vault;
    this.#entries = entries;
  }

  /** Throws AppError `invalid_config` where another server uses the folder, or where it is none that can be used. */
  static async open(folder: string): Promise<AdapterStore> {
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const lock = await hold(join(folder, 'lock'));
      if (!lock.isHeld) throw taken(folder, lock.pid);
      try {
        return await AdapterStore.#read(folder, lock);
      } catch (error) {
        await lock.release();
        throw error;
      }
    } catch (error) {
      if (!(error instanceof Error && 'syscall' in error)) throw error;
      throw new AppError('invalid_config', `store: Expected a folder that can be written but received ${error.message}`, {
        cause: error,
      });
    }
  }

  static async #read(folder: string, lock: Held): Promise<AdapterStore> {
    const vault = await Vault.open(folder);
    let entries = await readLedger(folder);
    if (entries === undefined) {
      // Without its index all of them would be swept.
      if (!(await vault.isEmpty()))
        throw new AppError('invalid_config', `store: Expected index.json beside the versions in ${folder} but received none`);
      entries = new Map();
      await writeLedger(folder, entries);
    }
    const store = new AdapterStore(folder, lock, vault, entries);
    for (const name of await readdir(folder)) if (LEFTOVER.test(name)) await rm(join(folder, name), { force: true });
    const digests = [...store.#digests()];
    await vault.sweep(digests);
    await mapConcurrent(digests, CONCURRENT_FOLDERS, async (digest) => store.#describe(digest));
    return store;
  }

  /** Waits for changes under way; others may open the store then. */
  async close(): Promise<void> {
    await this.#last;
    await this.#lock.release();
  }

  /** Calls the listener after each change. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Bytes of all contents. */
  get bytes(): number {
    const versions = [...this.#entries.values()].flatMap((entry) => entry.versions);
    const bytes = new Map(versions.map((one) => [one.digest, one.bytes]));
    return [...bytes.values()].reduce((sum, size) => sum + size, 0);
  }

  /** The current version of every name, sorted by name. */
  list(): StoredAdapter[] {
    const current = [...this.#entries].flatMap(([name, entry]) => this.#find(name, entry, entry.current) ?? []);
    return current.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  get(name: string): Entry | undefined {
    return this.#entries.get(name);
  }

  /** The versions that serve names which are pinned. */
  pinned(): StoredAdapter[] {
    const pinned = [...this.#entries].filter(([, entry]) => entry.pinned);
    return pinned.flatMap(([name, entry]) => serving(entry).flatMap((version) => this.#find(name, entry, version) ?? []));
  }

  /** The version that a request gets; `key` chooses where a name is split. Undefined where there is none. */
  select({ name, version, digest }: Reference, key: string): HeldVersion | undefined {
    const entry = this.#entries.get(name);
    if (entry === undefined) return undefined;
    if (version === undefined && digest === undefined)
      return this.#hold(name, entry, entry.split.length > 0 ? pick(name, key, entry.split) : entry.current);
    const named = entry.versions.find((one) => (digest === undefined ? one.version === version : one.digest === digest));
    return named && this.#hold(name, entry, named.version);
  }

  /** The version that runs behind this one's requests. */
  shadowOf({ name, version }: StoredAdapter): HeldVersion | undefined {
    const entry = this.#entries.get(name);
    const shadow = entry?.shadow ?? null;
    return entry === undefined || shadow === null || shadow === version ? undefined : this.#hold(name, entry, shadow);
  }

  /** The engine found other content than the digest says: hashes it again, and says from then on that it is broken where that is so. */
  async examine(digest: string): Promise<void> {
    const folder = this.#vault.folderOf(digest);
    const found = await digestFolder(folder).catch(() => undefined);
    const known = this.#descriptions.get(digest);
    if (found?.digest === digest || known === undefined) return;
    this.#descriptions.set(digest, { ...known, fault: 'Expected its files in the store to be as they came but they are not' });
  }

  /** A folder to put a version together in. */
  async reserve(): Promise<Room> {
    return this.#vault.reserve();
  }

  /** Makes a folder of `reserve`, whose files are synced, a version. What is described has been checked. Throws AppError `conflict`. */
  async publish(
    name: string,
    folder: string,
    content: Omit<Content, 'createdMs'> & Pick<Description, 'summary'>,
    isCurrent: boolean,
  ): Promise<Published> {
    return this.#exclusively(async () => {
      const { digest, bytes, by, summary } = content;
      const stamped = { digest, bytes, createdMs: Date.now(), by };
      const { entry, version, isNew } = publish(name, this.#entries.get(name), stamped, isCurrent);
      const isWhole = this.#descriptions.get(digest)?.fault === undefined && (await this.#vault.has(digest));
      if (!isWhole) await this.#vault.put(folder, digest);
      this.#descriptions.set(digest, { summary, fault: undefined });
      try {
        await this.#write(name, entry);
      } finally {
        await this.#clear(digest);
      }
      return { version, isNew };
    });
  }

  /** These resolve to the entry after the change, undefined where there is no such name. They throw AppError `conflict` or `adapter_not_found`. */
  rollback(name: string, to?: number): Promise<Entry | undefined> {
    return this.#change(name, (entry) => rollback(name, entry, to));
  }

  split(name: string, shares: readonly Share[]): Promise<Entry | undefined> {
    return this.#change(name, (entry) => withSplit(name, entry, shares));
  }

  shadow(name: string, version: number | null): Promise<Entry | undefined> {
    return this.#change(name, (entry) => withShadow(name, entry, version));
  }

  promote(name: string): Promise<Entry | undefined> {
    return this.#change(name, (entry) => promote(name, entry));
  }

  pin(name: string, pinned: boolean): Promise<Entry | undefined> {
    return this.#change(name, (entry) => ({ ...entry, pinned }));
  }

  deleteVersion(name: string, version: number): Promise<Entry | undefined> {
    return this.#change(name, (entry) => withoutVersion(name, entry, version));
  }

  /** All versions of a name; false where there are none. */
  async delete(name: string): Promise<boolean> {
    return this.#exclusively(async () => {
      const entry = this.#entries.get(name);
      if (entry === undefined) return false;
      await this.#write(name, undefined);
      for (const { digest } of entry.versions) await this.#clear(digest);
      return true;
    });
  }

  async #change(name: string, make: (entry: Entry) => Entry): Promise<Entry | undefined> {
    return this.#exclusively(async () => {
      const before = this.#entries.get(name);
      if (before === undefined) return undefined;
      const entry = make(before);
      await this.#write(name, entry);
      for (const { digest } of before.versions) await this.#clear(digest);
      return entry;
    });
  }

  async #write(name: string, entry: Entry | undefined): Promise<void> {
    if (!(await this.#lock.isOurs()))
      throw new AppError(
        'internal',
        `The store ${this.#folder} was taken over by another server: this one changes nothing in it`,
      );
    const entries = new Map(this.#entries);
    if (entry === undefined) entries.delete(name);
    else entries.set(name, entry);
    await writeLedger(this.#folder, entries);
    this.#entries = entries;
    for (const listener of this.#listeners) listener();
  }

  /** Removes a content that no version has and no request uses. */
  async #clear(digest: string): Promise<void> {
    if (this.#digests().has(digest) || this.#vault.isLeased(digest)) return;
    await this.#vault.remove(digest);
    this.#descriptions.delete(digest);
  }

  #hold(name: string, entry: Entry, version: number): HeldVersion | undefined {
    const adapter = this.#find(name, entry, version);
    if (adapter === undefined) return undefined;
    const { digest } = adapter.ref;
    const onIdle = (): void => void this.#exclusively(() => this.#clear(digest)).catch(() => undefined);
    return { adapter, release: this.#vault.lease(digest, onIdle) };
  }

  #find(name: string, entry: Entry, number: number): StoredAdapter | undefined {
    const version = entry.versions.find((one) => one.version === number);
    const description = version && this.#descriptions.get(version.digest);
    if (version === undefined || description === undefined) return undefined;
    const { digest, bytes, createdMs } = version;
    const { summary, fault } = description;
    return {
      name,
      ref: { name, digest, folder: this.#vault.folderOf(digest) },
      bytes,
      summary,
      registeredAt: createdMs,
      version: number,
      versions: entry.versions.length,
      ...(fault === undefined ? {} : { fault }),
    };
  }

  async #describe(digest: string): Promise<void> {
    const folder = this.#vault.folderOf(digest);
    const { summary, fault } = await inspectFolder(folder);
    const isThere = fault === undefined || (await this.#vault.has(digest));
    this.#descriptions.set(digest, { summary, fault: isThere ? fault : 'Expected its files in the store but they are gone' });
  }

  #digests(): Set<string> {
    return new Set([...this.#entries.values()].flatMap(({ versions }) => versions.map(({ digest }) => digest)));
  }

  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}

function taken(folder: string, pid: number | undefined): AppError {
  const who = pid === undefined ? 'a server of another machine or container' : `process ${pid}`;
  return new AppError(
    'invalid_config',
    `store: Expected a store that no other server uses but ${folder} belongs to ${who}; what was left by one that is gone is free after ${LEFT_MS / 1000} s`,
  );
}
