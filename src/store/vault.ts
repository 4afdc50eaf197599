/**
 * The contents of a store: a folder for each, named by its digest, that never changes. A content comes complete and synced, by one rename, and
 * leaves by another; what requests use stays until the last of them has ended. What a process that was killed has left in between is swept
 * at the next start, because the index does not name it.
 */
import type { Dirent } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { exists } from '../adapter/scan.js';
import { syncFolder } from '../tensor/folder.js';
import { newMark } from '../tensor/owner.js';

const DIGEST = /^sha256:([0-9a-f]{64})$/;

/** Where something is put together before it is a content. */
export interface Room {
  /** An empty folder. */
  readonly folder: string;
  /** Removes what is left of it. */
  end(): Promise<void>;
}

export class Vault {
  readonly #contents: string;
  /** What comes, and what goes. */
  readonly #passing: string;
  readonly #leases = new Map<string, number>();

  private constructor(folder: string) {
    this.#contents = join(folder, 'versions');
    this.#passing = join(folder, 'uploads');
  }

  /** Of a folder that nobody else uses. */
  static async open(folder: string): Promise<Vault> {
    const vault = new Vault(folder);
    for (const path of [vault.#contents, vault.#passing]) await mkdir(path, { recursive: true, mode: 0o700 });
    await syncFolder(folder);
    return vault;
  }

  /** Whether there is any content at all. */
  async isEmpty(): Promise<boolean> {
    return (await readdir(this.#contents)).length === 0;
  }

  /** Removes all but these. */
  async sweep(digests: Iterable<string>): Promise<void> {
    const kept = new Set([...digests].map(nameOf));
    for (const name of await readdir(this.#passing)) await rm(join(this.#passing, name), { recursive: true, force: true });
    for (const name of await readdir(this.#contents))
      if (!kept.has(name)) await rm(join(this.#contents, name), { recursive: true, force: true });
  }

  folderOf(digest: string): string {
    return join(this.#contents, nameOf(digest));
  }

  async has(digest: string): Promise<boolean> {
    return exists(this.folderOf(digest));
  }

  async reserve(): Promise<Room> {
    const folder = join(this.#passing, newMark());
    await mkdir(folder);
    // What cannot be removed now is swept at the next start.
    return { folder, end: () => rm(folder, { recursive: true, force: true }).catch(() => undefined) };
  }

  /** Makes a folder, whose files are synced, the content of a digest. What was there under it goes. */
  async put(folder: string, digest: string): Promise<void> {
    const entries: Dirent[] = await readdir(folder, { recursive: true, withFileTypes: true });
    for (const entry of entries) if (entry.isDirectory()) await syncFolder(join(entry.parentPath, entry.name));
    await syncFolder(folder);
    await this.remove(digest);
    await rename(folder, this.folderOf(digest));
    await syncFolder(this.#contents);
  }

  /** Under a digest there is all or nothing: the name goes first. */
  async remove(digest: string): Promise<void> {
    if (!(await this.has(digest))) return;
    const aside = join(this.#passing, newMark());
    await rename(this.folderOf(digest), aside);
    await rm(aside, { recursive: true, force: true }).catch(() => undefined);
  }

  isLeased(digest: string): boolean {
    return this.#leases.has(digest);
  }

  /** Keeps a content where it is; what it returns gives it up again, and may be called twice. `onIdle` is called with the last one. */
  lease(digest: string, onIdle: () => void): () => void {
    this.#leases.set(digest, (this.#leases.get(digest) ?? 0) + 1);
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      const left = (this.#leases.get(digest) ?? 1) - 1;
      if (left > 0) {
        this.#leases.set(digest, left);
        return;
      }
      this.#leases.delete(digest);
      onIdle();
    };
  }
}

/** Throws RangeError for what is no digest: it becomes a path. */
function nameOf(digest: string): string {
  const name = DIGEST.exec(digest)?.[1];
  if (name === undefined) throw new RangeError(`Expected sha256: and 64 hex digits but received ${JSON.stringify(digest)}`);
  return name;
}
