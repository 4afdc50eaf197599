/** A repository of the hub as a folder on this machine: what is missing is fetched, file after file, and the folder is named in the end. */
import { mkdir, statfs } from 'node:fs/promises';
import { AppError } from '../errors.js';
import { RepositoryCache } from './cache.js';
import { HubClient, type HubFile } from './client.js';
import { download } from './download.js';
import { leftBytes, sweep } from './part.js';
import { type Reference, repositoryOf } from './reference.js';
import type { Patience } from './retry.js';
import { type Choice, select } from './select.js';
import type { HubSettings } from './settings.js';

export interface PullOptions extends Choice {
  readonly reference: Reference;
  readonly settings: HubSettings;
  readonly patience?: Patience;
  /** Bytes that are there of all that are chosen, and the file that is being fetched. */
  readonly onProgress?: (done: number, total: number, path: string) => void;
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
  const { reference, settings, patience, onProgress, onNote } = options;
  const client = new HubClient(settings, patience);
  const commit = await client.commit(reference);
  const files = select(repositoryOf(reference), await client.files(reference, commit), options);

  await mkdir(cache.blobs, { recursive: true });
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const lacking = await whichLack(cache, commit, files);
  let done = total - lacking.reduce((sum, { bytes }) => sum + bytes, 0);
  await checkRoom(cache.blobs, lacking);
  for (const file of lacking) {
    const before = done;
    const onBytes = (bytes: number): void => onProgress?.(before + Math.min(bytes, file.bytes), total, file.path);
    const blob = cache.blob(file);
    // Somebody else may have fetched it meanwhile.
    if (!(await cache.has(file))) await download({ client, reference, commit, file, blob, onBytes, ...(onNote && { onNote }) });
    done += file.bytes;
    await cache.link(commit, file);
  }
  for (const file of files) {
    if (!(await cache.hasLink(commit, file))) await cache.link(commit, file);
    await sweep(cache.blobs, file.etag);
  }
  // Last, so that who is offline meanwhile finds the commit before, whole.
  await cache.remember(reference.revision, commit);
  return { folder: cache.snapshot(commit), commit, files: files.map(({ path }) => path), fetched: lacking.length };
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
