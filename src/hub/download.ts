/**
 * One file from the hub into the cache. It grows under a name of its own, goes on where it was cut, also by a kill, and gets its place only
 * after its hash: what is in the cache under a hash has that hash, whatever server, proxy or disk was in between.
 */
import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Response } from 'undici';
import { AppError } from '../errors.js';
import { syncFolder } from '../tensor/folder.js';
import { bodyOf, type HubClient, type HubFile } from './client.js';
import { claim } from './part.js';
import type { Reference } from './reference.js';
import { retrying, Transient } from './retry.js';

const STALL_MS = 60_000;
const READ_BYTES = 1024 ** 2;

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
  throw new AppError(
    'download_failed',
    `${job.file.path}: Expected ${nameOf(job.file.etag)} ${job.file.etag} but received ${second}, twice`,
  );
}

/** The hash of what came. The file is in place if it is the right one, and gone if not. */
async function attempt(job: Download): Promise<string> {
  const { client, reference, commit, file, blob, signal, stallMs = STALL_MS, onBytes } = job;
  const part = await claim(dirname(blob), file.etag);
  try {
    const handle = await open(part.path, constants.O_RDWR | constants.O_CREAT, 0o666);
    let received: string;
    try {
      const growing = await Growing.of(handle, file);
      onBytes?.(growing.bytes);
      await retrying(
        async (gained) => {
          if (growing.bytes === file.bytes) return;
          await extend(growing, gained);
        },
        client.patience,
        signal,
      );
      received = growing.digest();
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

  async function extend(growing: Growing, gained: () => void): Promise<void> {
    const stalling = new AbortController();
    const timer = setTimeout(() => stalling.abort(), stallMs);
    const ending = signal === undefined ? stalling.signal : AbortSignal.any([stalling.signal, signal]);
    try {
      const response = await client.open(reference, commit, file.path, growing.bytes, ending);
      if (!continues(response, growing.bytes)) await growing.restart();
      for await (const chunk of bodyOf(response)) {
        timer.refresh();
        if (await growing.add(chunk)) gained();
        onBytes?.(growing.bytes);
        // More than was promised is nothing that has to be waited for.
        if (growing.bytes > file.bytes) return;
      }
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      clearTimeout(timer);
      stalling.abort();
    }
    if (growing.bytes < file.bytes) throw new Transient(`${file.path} ended after ${growing.bytes} of ${file.bytes} bytes`);
  }
}

/** Whether an answer begins where it was asked to. A server may give the whole file instead. */
function continues({ status, headers }: Response, start: number): boolean {
  if (start === 0) return status === 200;
  return status === 206 && new RegExp(`^bytes ${start}-`).test(headers.get('content-range') ?? '');
}

/** A file that grows at its end, and its hash with it. */
class Growing {
  readonly #handle: FileHandle;
  readonly #file: HubFile;
  #hash: Hash;
  /** The longest that it ever was. */
  #most = 0;
  bytes = 0;

  private constructor(handle: FileHandle, file: HubFile) {
    this.#handle = handle;
    this.#file = file;
    this.#hash = hashFor(file);
  }

  /** Goes on with what the file has. */
  static async of(handle: FileHandle, file: HubFile): Promise<Growing> {
    const growing = new Growing(handle, file);
    const buffer = Buffer.alloc(READ_BYTES);
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, growing.bytes);
      if (bytesRead === 0) break;
      growing.#hash.update(buffer.subarray(0, bytesRead));
      growing.bytes += bytesRead;
    }
    growing.#most = growing.bytes;
    if (growing.bytes > file.bytes) await growing.restart();
    return growing;
  }

  async restart(): Promise<void> {
    await this.#handle.truncate(0);
    this.#hash = hashFor(this.#file);
    this.bytes = 0;
  }

  /** Whether it is longer now than it ever was. */
  async add(chunk: Uint8Array): Promise<boolean> {
    for (let written = 0; written < chunk.length; ) {
      const { bytesWritten } = await this.#handle.write(chunk, written, chunk.length - written, this.bytes + written);
      written += bytesWritten;
    }
    this.#hash.update(chunk);
    this.bytes += chunk.length;
    const isGain = this.bytes > this.#most;
    if (isGain) this.#most = this.bytes;
    return isGain;
  }

  digest(): string {
    return this.#hash.digest('hex');
  }
}

/** Git hashes a header before the content. */
function hashFor({ etag, bytes }: HubFile): Hash {
  return etag.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`);
}

function nameOf(etag: string): string {
  return etag.length === 64 ? 'sha256' : "git's sha1";
}
