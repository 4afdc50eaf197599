/**
 * A file that comes over a line which may break: it grows at its end, its hash with it, and goes on where it was cut.
 */
import { createHash, type Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import type { HubFile } from './client.js';
import { type Answer, bodyOf } from './line.js';
import { type Patience, retrying, Transient } from './retry.js';

const STALL_MS = 60_000;
const READ_BYTES = 1024 ** 2;

export interface Growth {
  readonly file: HubFile;
  /** The file's bytes from `start` on, or all of them. Throws Transient for what may pass. */
  readonly open: (start: number, signal: AbortSignal) => Promise<Answer>;
  readonly patience: Patience;
  /** A line on which nothing comes for so long is given up for a new one; a minute unless told. */
  readonly stallMs?: number | undefined;
  /** How much of it there is. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/** What came of it. */
export interface Grown {
  readonly bytes: number;
  /** The hash of all of them, of the kind that the file's etag is. */
  readonly etag: string;
}

/**
 * Lets the file behind the handle, which may have a part of it, grow to its length. What a server sends beyond that shows in `bytes`.
 * Throws what `open` throws, Transient no more.
 */
export async function grow(handle: FileHandle, { file, open, patience, stallMs = STALL_MS, onBytes }: Growth): Promise<Grown> {
  const growing = await Growing.of(handle, file);
  onBytes?.(growing.bytes);
  await retrying(async (gained) => {
    if (growing.bytes !== file.bytes) await extend(gained);
  }, patience);
  return { bytes: growing.bytes, etag: growing.digest() };

  async function extend(gained: () => void): Promise<void> {
    const line = new AbortController();
    const hangUp = (): void => line.abort();
    const timer = setTimeout(hangUp, stallMs);
    patience.signal?.addEventListener('abort', hangUp, { once: true });
    try {
      const response = await open(growing.bytes, line.signal);
      if (!continues(response, growing.bytes)) await growing.restart();
      for await (const chunk of bodyOf(response, line.signal)) {
        timer.refresh();
        if (await growing.add(chunk)) gained();
        onBytes?.(growing.bytes);
        // More than was promised is nothing that has to be waited for.
        if (growing.bytes > file.bytes) return;
      }
    } finally {
      clearTimeout(timer);
      patience.signal?.removeEventListener('abort', hangUp);
      hangUp();
    }
    if (growing.bytes < file.bytes) throw new Transient(`${file.path} ended after ${growing.bytes} of ${file.bytes} bytes`);
  }
}

/** Whether an answer begins where it was asked to. A server may give the whole file instead. */
function continues({ status, headers }: Answer, start: number): boolean {
  if (start === 0) return status === 200;
  return status === 206 && new RegExp(`^bytes ${start}-`).test(headers.get('content-range') ?? '');
}

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
    const buffer = Buffer.alloc(Math.min(READ_BYTES, Math.max(1, (await handle.stat()).size)));
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
  return etag.length === 40 ? createHash('sha1').update(`blob ${bytes}\0`) : createHash('sha256');
}
