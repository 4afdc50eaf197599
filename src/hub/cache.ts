/**
 * One repository in the cache that huggingface_hub keeps, in its own layout, so that Python and Graft share every file:
 *
 *   models--OWNER--NAME/blobs/ETAG                  contents, under their hash
 *   models--OWNER--NAME/snapshots/COMMIT/PATH       links to them, a folder as the repository is at a commit
 *   models--OWNER--NAME/refs/REVISION               the commit that a branch or a tag was when it was last asked for
 *   .locks/models--OWNER--NAME/ETAG.graft           who is fetching a content, of ours (lock.ts)
 */
import { link, mkdir, readdir, readFile, rm, stat, symlink } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { AppError } from '../errors.js';
import { replaceFile, syncFolder } from '../tensor/folder.js';
import type { HubFile } from './client.js';
import { COMMIT, isPlainPath, type Reference, repositoryOf } from './reference.js';

const WEIGHTS = '.safetensors';
const INDEX = '.safetensors.index.json';
const MAX_INDEX_BYTES = 100_000_000;

export class RepositoryCache {
  readonly folder: string;
  readonly blobs: string;

  constructor(cache: string, reference: Reference) {
    this.folder = join(cache, `models--${repositoryOf(reference).replace('/', '--')}`);
    this.blobs = join(this.folder, 'blobs');
  }

  blob({ etag }: HubFile): string {
    return join(this.blobs, etag);
  }

  /** Where whoever fetches the content says so. */
  lock({ etag }: HubFile): string {
    return join(dirname(this.folder), '.locks', basename(this.folder), `${etag}.graft`);
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  /** Whether the content is there. A blob got its name when it was complete; another size is that of a broken disk or copy. */
  async has(file: HubFile): Promise<boolean> {
    return (await sizeOf(this.blob(file))) === file.bytes;
  }

  /** Whether the file is in the commit's snapshot, as a link or, where a system has no links, as a file. */
  async hasLink(commit: string, file: HubFile): Promise<boolean> {
    return (await sizeOf(this.#place(commit, file.path))) === file.bytes;
  }

  /** Puts the content into the commit's snapshot. */
  async link(commit: string, file: HubFile): Promise<void> {
    const place = this.#place(commit, file.path);
    await mkdir(dirname(place), { recursive: true });
    await rm(place, { force: true });
    try {
      await symlink(relative(dirname(place), this.blob(file)), place);
    } catch (error) {
      // Another process may have been first; and Windows lets few make symbolic links, but all make hard ones.
      if (await this.hasLink(commit, file)) return;
      if (process.platform !== 'win32') throw error;
      await link(this.blob(file), place);
    }
    await syncFolder(dirname(place));
  }

  /** Remembers which commit a branch or a tag is. */
  async remember(revision: string, commit: string): Promise<void> {
    if (revision === commit) return;
    const place = this.#reference(revision);
    await mkdir(dirname(place), { recursive: true });
    await replaceFile(place, new TextEncoder().encode(commit));
  }

  /** The commit that the revision was last known to be, where a snapshot of it is here. */
  async known(revision: string): Promise<string | undefined> {
    const text = COMMIT.test(revision) ? revision : await readFile(this.#reference(revision), 'utf8').catch(() => '');
    const commit = text.trim();
    if (!COMMIT.test(commit)) return undefined;
    return (await stat(this.snapshot(commit)).catch(() => undefined))?.isDirectory() ? commit : undefined;
  }

  /** Files of a snapshot, links to nothing left out. */
  async files(commit: string): Promise<string[]> {
    const folder = this.snapshot(commit);
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    const paths = entries
      .filter((entry) => !entry.isDirectory())
      .map((entry) => relative(folder, join(entry.parentPath, entry.name)));
    const sizes = await Promise.all(paths.map((path) => sizeOf(join(folder, path))));
    return paths.filter((_, index) => sizes[index] !== undefined).map((path) => path.replaceAll('\\', '/'));
  }

  /** What is plainly missing in a snapshot that may have been left half done: weights, or shards that an index names. */
  async missing(commit: string): Promise<string[]> {
    const files = new Set(await this.files(commit));
    const needed = await Promise.all([...files].filter((path) => path.endsWith(INDEX)).map((path) => this.#shards(commit, path)));
    const shards = [...new Set(needed.flat())].filter((path) => !files.has(path));
    if (shards.length > 0) return shards;
    return [...files].some((path) => path.endsWith(WEIGHTS)) ? [] : [`*${WEIGHTS}`];
  }

  async #shards(commit: string, index: string): Promise<string[]> {
    const path = this.#place(commit, index);
    if (((await sizeOf(path)) ?? 0) > MAX_INDEX_BYTES) return [];
    try {
      const { weight_map: map } = JSON.parse(await readFile(path, 'utf8')) as { weight_map?: object };
      return Object.values(map ?? {}).map((shard) => join(dirname(index), String(shard)).replaceAll('\\', '/'));
    } catch (cause) {
      throw AppError.ofFaults('invalid_file', path, [`Expected an index of weights but received ${String(cause)}`], { cause });
    }
  }

  #place(commit: string, path: string): string {
    if (!COMMIT.test(commit) || !isPlainPath(path))
      throw new RangeError(`Expected a commit and a plain path but received ${commit} and ${path}`);
    return join(this.snapshot(commit), path);
  }

  #reference(revision: string): string {
    if (!isPlainPath(revision)) throw new RangeError(`Expected a plain revision but received ${revision}`);
    return join(this.folder, 'refs', revision);
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  const info = await stat(path).catch(() => undefined);
  return info?.isFile() ? info.size : undefined;
}
