/**
 * Training files on the disk. One comes as a stream of any length, is counted and hashed on its way, and is nobody's until every row of it has
 * been checked: then it moves into place, and its record after it. What a server left behind that died meanwhile is swept at the next start.
 */
import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AppError } from '../errors.js';
import { syncFolder } from '../tensor/folder.js';
import type { RowChecker } from './checker.js';
import { FileJson, type TrainingFile } from './file.js';
import { newId } from './name.js';
import { Records } from './records.js';

const UPLOAD = '.upload-';
/** What a file counts besides its bytes: there is room for some thousands, however small. */
const EXTRA_BYTES = 64 * 1024;
const MAX_FILENAME = 255;

/** Bytes that have come and are nobody's yet: they are kept, or discarded. */
export interface Upload {
  readonly tenant: string;
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

export class TrainingFiles {
  readonly #folder: string;
  readonly #maxBytes: number;
  readonly #checker: RowChecker;
  readonly #records: Records<TrainingFile>;
  /** What each tenant's files count, and those that are coming. */
  readonly #used = new Map<string, number>();
  /** What uploads count that are neither kept nor discarded, by path. */
  readonly #uploads = new Map<string, { readonly tenant: string; counted: number }>();

  private constructor(folder: string, maxBytes: number, checker: RowChecker, records: Records<TrainingFile>) {
    this.#folder = folder;
    this.#maxBytes = maxBytes;
    this.#checker = checker;
    this.#records = records;
    for (const { tenant, bytes } of records.all()) this.#count(tenant, bytes + EXTRA_BYTES);
  }

  /** `maxBytes`: of all files of one tenant together. */
  static async open(
    folder: string,
    maxBytes: number,
    checker: RowChecker,
    onFault: (path: string) => void,
  ): Promise<TrainingFiles> {
    await mkdir(folder, { recursive: true });
    const records = await Records.open(folder, FileJson, onFault);
    for (const name of await readdir(folder)) {
      const isLeft = name.startsWith(UPLOAD) || (name.endsWith('.jsonl') && !records.get(name.slice(0, -'.jsonl'.length)));
      if (isLeft) await rm(join(folder, name), { force: true });
    }
    return new TrainingFiles(folder, maxBytes, checker, records);
  }

  get(id: string): TrainingFile | undefined {
    return this.#records.get(id);
  }

  /** The oldest first. */
  all(): TrainingFile[] {
    return this.#records.all();
  }

  /** Where the rows of a file are. */
  pathOf(id: string): string {
    return join(this.#folder, `${id}.jsonl`);
  }

  /** Writes a stream to the disk. Throws AppError `payload_too_large` where its tenant has no room left, `disk_full`. */
  async receive(tenant: string, stream: Readable): Promise<Upload> {
    const path = join(this.#folder, `${UPLOAD}${newId('file')}`);
    const upload = { tenant, counted: 0 };
    this.#uploads.set(path, upload);
    const hash = createHash('sha256');
    const take = (bytes: number): void => {
      upload.counted += bytes;
      this.#count(tenant, bytes);
      if ((this.#used.get(tenant) ?? 0) > this.#maxBytes) throw this.#tooMuch();
    };
    try {
      take(EXTRA_BYTES);
      const file = await open(path, 'wx');
      await pipeline(
        stream,
        async function* (chunks: AsyncIterable<Buffer>) {
          for await (const chunk of chunks) {
            take(chunk.byteLength);
            hash.update(chunk);
            yield chunk;
          }
        },
        file.createWriteStream({ flush: true }),
      );
      return { tenant, path, bytes: upload.counted - EXTRA_BYTES, sha256: hash.digest('hex') };
    } catch (error) {
      await this.discard({ path });
      throw diskFull(error);
    }
  }

  /** Makes a file of an upload. Throws AppError `invalid_request` that names the lines which are wrong; the upload is then still there. */
  async keep({ tenant, path, bytes, sha256 }: Upload, filename: string): Promise<TrainingFile> {
    const { rows, hasImages, prompt } = await this.#checker.check(path);
    const id = newId('file');
    const name = filename.slice(0, MAX_FILENAME);
    const file = { id, tenant, filename: name, bytes, sha256, createdAt: Date.now(), rows, hasImages, prompt };
    await rename(path, this.pathOf(id));
    await syncFolder(this.#folder);
    await this.#records.put(file);
    // Its bytes are the file's from now on.
    this.#uploads.delete(path);
    return file;
  }

  /** Forgets an upload that became no file. */
  async discard({ path }: Pick<Upload, 'path'>): Promise<void> {
    const upload = this.#uploads.get(path);
    if (!upload) return;
    this.#uploads.delete(path);
    this.#count(upload.tenant, -upload.counted);
    await rm(path, { force: true });
  }

  async remove({ id, tenant, bytes }: TrainingFile): Promise<void> {
    // The record first: bytes without one are swept.
    await this.#records.remove(id);
    await rm(this.pathOf(id), { force: true });
    this.#count(tenant, -bytes - EXTRA_BYTES);
  }

  #count(tenant: string, bytes: number): void {
    this.#used.set(tenant, (this.#used.get(tenant) ?? 0) + bytes);
  }

  #tooMuch(): AppError {
    const message = `file: Expected at most ${this.#maxBytes} bytes of training files together but received more: delete those that are not needed`;
    return new AppError('payload_too_large', message, { param: 'file' });
  }
}

/** A full disk in words; anything else as it is. */
export function diskFull(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (!['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code)) return error;
  return new AppError('disk_full', `Expected room on the disk for training but there is none (${code})`, { cause: error });
}
