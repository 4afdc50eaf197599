/**
 * The digest of an adapter: sha-256 over the files that define it, each as length of its path, path, length of its content, content.
 * The lengths make the boundaries part of what is hashed: no two different folders have the same input. A README or a picture
 * beside the adapter is not part of it; the manifest is, with its metrics and notes.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { AppError } from '../errors.js';
import { Faults } from '../tensor/faults.js';
import { FileFaults } from './faults.js';
import { chunks, MAX_JSON_BYTES, openFile, readFile } from './file.js';
import { definingPaths, MANIFEST_FILE, parseManifest } from './manifest.js';

/** Files in sorted order go in, `sha256:` and 64 hex digits come out. */
export class ContentHash {
  readonly #hash = createHash('sha256');
  #expectedBytes = 0;

  /** Announces the next file; its content follows through `update`. */
  file(path: string, bytes: number): void {
    if (this.#expectedBytes > 0) throw new RangeError(`Expected ${this.#expectedBytes} bytes more before ${path}`);
    const name = new TextEncoder().encode(path);
    this.#hash.update(length(name.byteLength)).update(name).update(length(bytes));
    this.#expectedBytes = bytes;
  }

  update(content: Uint8Array): void {
    if (content.byteLength > this.#expectedBytes) {
      throw new RangeError(`Expected at most ${this.#expectedBytes} bytes but received ${content.byteLength}`);
    }
    this.#expectedBytes -= content.byteLength;
    // One call hashes at most 2^31 - 1 bytes.
    for (let at = 0; at < content.byteLength; at += 2 ** 30) this.#hash.update(content.subarray(at, at + 2 ** 30));
  }

  digest(): string {
    if (this.#expectedBytes > 0) throw new RangeError(`Expected ${this.#expectedBytes} bytes more`);
    return `sha256:${this.#hash.digest('hex')}`;
  }
}

/**
 * The digest of the adapter in a folder, and the bytes of its files. Reads a chunk at a time and never judges the content: a broken
 * adapter has a digest too. Throws AppError `adapter_invalid` where a file cannot be read, `adapter_changed` where one becomes shorter.
 */
export async function digestFolder(folder: string): Promise<{ digest: string; bytes: number }> {
  const hash = new ContentHash();
  let total = 0;
  for (const path of await listPaths(folder)) {
    total += await under(path, () => hashFile(join(folder, path), path, hash));
  }
  return { digest: hash.digest(), bytes: total };
}

/** What is refused of a file, under its name. */
async function under<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    throw AppError.ofFaults(error.code, path, [error.message], { cause: error });
  }
}

/** The bytes of one file, none where there is no such file; `path` is what it is called in the hash. */
async function hashFile(place: string, path: string, hash: ContentHash): Promise<number> {
  const file = await openFile(place);
  if (file === undefined) return 0;
  try {
    hash.file(path, file.bytes);
    for await (const chunk of chunks(file)) hash.update(chunk);
    return file.bytes;
  } finally {
    await file.handle.close();
  }
}

/** The paths that may define the adapter in a folder: which contexts it has is in its manifest. */
async function listPaths(folder: string): Promise<string[]> {
  const bytes = await under(MANIFEST_FILE, () => readFile(join(folder, MANIFEST_FILE), MAX_JSON_BYTES));
  if (bytes === undefined) return definingPaths(null);
  return definingPaths(parseManifest(bytes, new FileFaults(MANIFEST_FILE, new Faults())));
}

/** 64 bits, little-endian. */
function length(bytes: number): Uint8Array {
  const field = new Uint8Array(8);
  new DataView(field.buffer).setBigUint64(0, BigInt(bytes), true);
  return field;
}
