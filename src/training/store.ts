/**
 * Vision features on disk, float16, so that each image is encoded once, whatever is trained on it and however often.
 *
 * A store is one folder for one encoder and one preprocessing; features are found by a key made of the image's content. Records have one size and
 * are appended to a file of this process's own (`ID.bin`), so two runs can fill one store. Their keys follow in `ID.keys`, and only after the
 * records have reached the disk: a record that is half there has no key, and is not looked at.
 */
import { createHash, randomUUID } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isAbsent } from '../adapter/file.js';
import { AppError } from '../errors.js';
import { syncFolder } from '../tensor/folder.js';

const KEY_BYTES = 32;
const KEY = /^[0-9a-f]{64}$/;
/** Records between two syncs: what a crash costs at most. */
const SYNC_EVERY = 256;

interface Segment {
  readonly path: string;
  readonly records: FileHandle;
}

interface OwnSegment {
  readonly segment: Segment;
  readonly keys: FileHandle;
}

interface Place {
  readonly segment: Segment;
  readonly offset: number;
}

export class FeatureStore {
  readonly #folder: string;
  readonly #recordBytes: number;
  readonly #places = new Map<string, Place>();
  readonly #segments: Segment[] = [];
  /** What this process appends to; made with the first record. */
  #own: OwnSegment | undefined;
  #written = 0;
  readonly #unsynced: Buffer[] = [];

  private constructor(folder: string, recordBytes: number) {
    this.#folder = folder;
    this.#recordBytes = recordBytes;
  }

  /** Opens the store for records of `numbers` float16 numbers, and makes its folder where there is none. */
  static async open(folder: string, numbers: number): Promise<FeatureStore> {
    await mkdir(folder, { recursive: true });
    const store = new FeatureStore(folder, numbers * 2);
    const names = (await readdir(folder)).filter((name) => name.endsWith('.keys')).sort();
    try {
      for (const name of names) await store.#adopt(join(folder, name.slice(0, -'.keys'.length)));
    } catch (error) {
      await store.close();
      throw error;
    }
    return store;
  }

  get size(): number {
    return this.#places.size;
  }

  has(key: string): boolean {
    return this.#places.has(key);
  }

  /** Appends a record; `key` is 64 hex digits. Rejects with the system's error where the disk is full: nothing that is there is touched. */
  async add(key: string, features: Uint16Array): Promise<void> {
    if (!KEY.test(key)) throw new RangeError(`Expected a key of 64 hex digits but received ${key}`);
    if (features.byteLength !== this.#recordBytes)
      throw new RangeError(`Expected ${this.#recordBytes / 2} numbers but received ${features.length}`);
    this.#own ??= await this.#create();
    const { segment } = this.#own;
    const offset = this.#written * this.#recordBytes;
    await write(segment.records, new Uint8Array(features.buffer, features.byteOffset, features.byteLength), offset);
    this.#places.set(key, { segment, offset });
    this.#unsynced.push(Buffer.from(key, 'hex'));
    this.#written++;
    if (this.#unsynced.length >= SYNC_EVERY) await this.flush();
  }

  /** Makes all records durable. */
  async flush(): Promise<void> {
    if (!this.#own || this.#unsynced.length === 0) return;
    const { segment, keys } = this.#own;
    await segment.records.sync();
    const done = this.#written - this.#unsynced.length;
    await write(keys, Buffer.concat(this.#unsynced), done * KEY_BYTES);
    await keys.sync();
    this.#unsynced.length = 0;
  }

  /** The records of these keys, one after the other. Throws RangeError for a key that is not there, `invalid_file` where a file lost its end. */
  async read(keys: readonly string[]): Promise<Uint16Array> {
    const features = new Uint16Array((keys.length * this.#recordBytes) / 2);
    const bytes = new Uint8Array(features.buffer);
    await Promise.all(
      keys.map(async (key, index) => {
        const place = this.#places.get(key);
        if (!place) throw new RangeError(`Expected features of ${key} but the store has none`);
        await readFully(place.segment, bytes.subarray(index * this.#recordBytes, (index + 1) * this.#recordBytes), place.offset);
      }),
    );
    return features;
  }

  /** Makes all records durable and closes the files, also where the disk takes no more. */
  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      await Promise.all(this.#segments.map(({ records }) => records.close()));
      await this.#own?.keys.close();
    }
  }

  async #create(): Promise<OwnSegment> {
    const name = join(this.#folder, randomUUID());
    const records = await open(`${name}.bin`, 'wx+');
    const keys = await open(`${name}.keys`, 'wx');
    await syncFolder(this.#folder);
    const segment = { path: `${name}.bin`, records };
    this.#segments.push(segment);
    return { segment, keys };
  }

  /** Takes over another process's records, as many as have a whole key and are whole themselves. */
  async #adopt(name: string): Promise<void> {
    const keys = await readFile(`${name}.keys`);
    const path = `${name}.bin`;
    const records = await open(path, 'r').catch((error: unknown) => {
      // Whatever took it away: its images are encoded again.
      if (!isAbsent(error)) throw error;
    });
    if (!records) return;
    const { size } = await records.stat();
    const count = Math.min(Math.floor(keys.length / KEY_BYTES), Math.floor(size / this.#recordBytes));
    const segment = { path, records };
    this.#segments.push(segment);
    for (let index = 0; index < count; index++) {
      const key = keys.toString('hex', index * KEY_BYTES, (index + 1) * KEY_BYTES);
      this.#places.set(key, { segment, offset: index * this.#recordBytes });
    }
  }
}

/** Key of an image's features: what its file holds, and how it was altered. */
export function featureKey(bytes: Uint8Array, view: string): string {
  const content = createHash('sha256').update(bytes).digest();
  return createHash('sha256').update(content).update(view).digest('hex');
}

async function write(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

async function readFully({ path, records }: Segment, into: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await records.read(into, done, into.length - done, position + done);
    if (bytesRead === 0)
      throw new AppError('invalid_file', `${path}: Expected ${into.length} bytes at ${position} but the file ends after ${done}`);
    done += bytesRead;
  }
}
