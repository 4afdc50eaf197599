/**
 * One file from the hub into the cache. It grows under a name of its own, goes on where it was cut, also by a kill, and gets its place only
 * after its hash: what is in the cache under a hash has that hash, whatever server, proxy or disk was in between.
 */
import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError } from '../errors.js';
import { syncFolder } from '../tensor/folder.js';
import type { HubClient, HubFile } from './client.js';
import { grow } from './grow.js';
import { claim } from './part.js';
import type { Reference } from './reference.js';

export interface Download {
  readonly client: HubClient;
  readonly reference: Reference;
  readonly commit: string;
  readonly file: HubFile;
  /** Where it goes. */
  readonly blob: string;
  /** Ends it: its reason is thrown. */
  readonly signal?: AbortSignal;
  /** Without a byte for so long, a line is given up for a new one. */
  readonly stallMs?: number;
  /** How much of it there is. */
  readonly onBytes?: (bytes: number) => void;
  /** Told what is noteworthy but no failure. */
  readonly onNote?: (line: string) => void;
}

/** Throws `download_failed` where the hub's bytes are twice not those that it promised. */
export async function download(job: Download): Promise<void> {
  const first = await attempt(job);
  if (first === job.file.etag) return;
  job.onNote?.(`${job.file.path}: its bytes are not those that the hub promised; once more from the beginning`);
  const second = await attempt(job);
  if (second === job.file.etag) return;
  throw wrongHash(job.file, second);
}

/** What came twice has not the hash that was promised. */
export function wrongHash({ path, etag }: HubFile, received: string): AppError {
  const name = etag.length === 64 ? 'sha256' : "git's sha1";
  return new AppError('download_failed', `${path}: Expected ${name} ${etag} but received ${received}, twice`);
}

/** The hash of what came. The file is in place if it is the right one, and gone if not. */
async function attempt(job: Download): Promise<string> {
  const { client, reference, commit, file, blob, signal, stallMs, onBytes } = job;
  const part = await claim(dirname(blob), file.etag);
  try {
    const handle = await open(part.path, constants.O_RDWR | constants.O_CREAT, 0o666);
    let received: string;
    try {
      const line = (start: number, ending: AbortSignal) => client.open(reference, commit, file.path, start, ending);
      const patience = { ...client.patience, ...(signal && { signal }) };
      received = (await grow(handle, { file, open: line, patience, stallMs, onBytes })).etag;
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (received !== file.etag) {
      await rm(part.path, { force: true });
      return received;
    }
    await rename(part.path, blob);
    await syncFolder(dirname(blob));
    return received;
  } finally {
    part.release();
  }
}
