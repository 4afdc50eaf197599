/** A repository of the hub as a folder on this machine: what is missing is fetched, a few files at a time, and the folder is named in the end. */
import { mkdir, statfs } from 'node:fs/promises';
import { AppError } from '../errors.js';
import { mapConcurrent } from '../tensor/concurrent.js';
import { locked } from '../tensor/lock.js';
import { RepositoryCache } from './cache.js';
import { HubClient, type HubFile } from './client.js';
import { download } from './download.js';
import { leftBytes, sweep } from './part.js';
import { type Reference, repositoryOf } from './reference.js';
import type { Patience } from './retry.js';
import { type Choice, select } from './select.js';
import type { HubSettings } from './settings.js';

/** One line seldom fills a good connection, and many are no kindness to the hub. */
const AT_ONCE = 3;

export interface PullOptions extends Choice {
  readonly reference: Reference;
  readonly settings: HubSettings;
  readonly patience?: Patience;
  /** Without a byte for so long, a line is given up for a new one; a minute unless told. */
  readonly stallMs?: number;
  /** Bytes that are there of all that are chosen, the file that is being fetched for the longest, and how many are besides. */
  readonly onProgress?: (done: number, total: number, path: string, others: number) => void;
  readonly onNote?: (line: string) => void;
}

export interface Pulled {
  /** The snapshot's folder. */
  readonly folder: string;
  readonly commit: string;
  /** Paths in it, with slashes. */
  readonly files: readonly string[];
  /** How many of them were fetched now. */
  readonly fetched: number;
}

/** Throws AppError for all that the hub refuses, or sends wrong, or that the cache lacks when offline. */
export async function pull(options: PullOptions): Promise<Pulled> {
  const { reference, settings } = options;
  const cache = new RepositoryCache(settings.cache, reference);
  return settings.isOffline ? find(cache, reference) : fetchInto(cache, options);
}

/** What earlier pulls, or Python, have left. */
async function find(cache: RepositoryCache, reference: Reference): Promise<Pulled> {
  const subject = `${repositoryOf(reference)}@${reference.revision}`;
  const commit = await cache.known(reference.revision);
  if (commit === undefined)
    throw new AppError('not_found', `Expected ${subject} in ${cache.folder}, since HF_HUB_OFFLINE is set, but it is not there`);
  const missing = await cache.missing(commit);
  if (missing.length > 0)
    throw new AppError(
      'not_found',
      `Expected all of ${subject} in ${cache.snapshot(commit)}, since HF_HUB_OFFLINE is set, but it lacks ${missing.join(', ')}`,
    );
  return { folder: cache.snapshot(commit), commit, files: await cache.files(commit), fetched: 0 };
}

async function fetchInto(cache: RepositoryCache, options: PullOptions): Promise<Pulled> {
  const { reference, settings, patience, stallMs, onProgress, onNote } = options;
  const client = new HubClient(settings, patience);
  const commit = await client.commit(reference);
  const files = select(repositoryOf(reference), await client.files(reference, commit), options);

  await mkdir(cache.blobs, { recursive: true });
  const lacking = await whichLack(cache, commit, files);
  await checkRoom(cache.blobs, lacking);
  const tally = new Tally(files, lacking, onProgress);
  let fetched = 0;
  await mapConcurrent(lacking, AT_ONCE, async (file, signal) => {
    const onBytes = (bytes: number): void => tally.grow(file, bytes);
    const job = { client, reference, commit, file, blob: cache.blob(file), signal, onBytes };
    const fetch = async (): Promise<void> => {
      // Somebody else may have fetched it meanwhile.
      if (await cache.has(file)) return;
      await download({ ...job, ...(onNote && { onNote }), ...(stallMs !== undefined && { stallMs }) });
      fetched++;
    };
    const onWait = (): void => onNote?.(`${file.path} is being fetched by another process; waiting for it`);
    await locked(cache.lock(file), fetch, { signal, onWait });
    await cache.link(commit, file);
    tally.end(file);
  });
  for (const file of files) {
    if (!(await cache.hasLink(commit, file))) await cache.link(commit, file);
    await sweep(cache.blobs, file.etag);
  }
  // Last, so that who is offline meanwhile finds the commit before, whole.
  await cache.remember(reference.revision, commit);
  return { folder: cache.snapshot(commit), commit, files: files.map(({ path }) => path), fetched };
}

/** What is there of all files, as one number. */
class Tally {
  readonly #total: number;
  readonly #tell: PullOptions['onProgress'];
  /** Bytes of what is whole. */
  #whole: number;
  /** Of what is under way, the oldest first. */
  readonly #growing = new Map<HubFile, number>();

  constructor(files: readonly HubFile[], lacking: readonly HubFile[], tell: PullOptions['onProgress']) {
    const sum = (some: readonly HubFile[]): number => some.reduce((total, { bytes }) => total + bytes, 0);
    this.#total = sum(files);
    this.#whole = this.#total - sum(lacking);
    this.#tell = tell;
  }

  grow(file: HubFile, bytes: number): void {
    this.#growing.set(file, Math.min(bytes, file.bytes));
    this.#say(file);
  }

  end(file: HubFile): void {
    this.#growing.delete(file);
    this.#whole += file.bytes;
    this.#say(file);
  }

  #say(file: HubFile): void {
    const done = [...this.#growing.values()].reduce((sum, bytes) => sum + bytes, this.#whole);
    const [oldest = file] = this.#growing.keys();
    this.#tell?.(done, this.#total, oldest.path, Math.max(0, this.#growing.size - 1));
  }
}

/** Those whose content is neither among the blobs nor in the snapshot; the same content once. */
async function whichLack(cache: RepositoryCache, commit: string, files: readonly HubFile[]): Promise<HubFile[]> {
  const lacking = new Map<string, HubFile>();
  for (const file of files) if (!(await cache.has(file)) && !(await cache.hasLink(commit, file))) lacking.set(file.etag, file);
  return [...lacking.values()];
}

/** A full disk is better known before hours of fetching than after. */
async function checkRoom(folder: string, files: readonly HubFile[]): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  const parts = await Promise.all(files.map(({ etag }) => leftBytes(folder, etag)));
  const bytes = files.reduce((sum, file, index) => sum + Math.max(0, file.bytes - (parts[index] ?? 0)), 0);
  if (free < bytes) throw new AppError('disk_full', `Expected room for ${bytes} bytes in ${folder} but received ${free}`);
}
