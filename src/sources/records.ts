/**
 * Which version a source had when it was last looked at, and which content that is: what lets a server serve after a restart without a network.
 * A file each, replaced in one step. They are only a memory: a broken or missing one costs a look at the source.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { replaceFile } from '../tensor/folder.js';

/** The oldest are forgotten beyond that. */
const MAX_RECORDS = 4096;

const RECORD = z.object({
  /** The place and the server that was asked. */
  key: z.string(),
  version: z.string().regex(/^[0-9a-f]{64}$/),
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  /** When the source last said so, in milliseconds since 1970. */
  checkedMs: z.number(),
});

export type SourceRecord = Readonly<z.output<typeof RECORD>>;

export class Records {
  readonly #folder: string;
  /** The oldest first. */
  readonly #records = new Map<string, SourceRecord>();
  /** Changes of files follow each other. */
  #last: Promise<void> = Promise.resolve();

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Reads what is there, and removes what is broken or says nothing about any content that `isKept`. */
  static async open(folder: string, isKept: (digest: string) => boolean): Promise<Records> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const records = new Records(folder);
    const found: SourceRecord[] = [];
    for (const name of await readdir(folder)) {
      const record = await readRecord(join(folder, name));
      if (record !== undefined && fileOf(record.key) === name && isKept(record.digest)) found.push(record);
      else await rm(join(folder, name), { recursive: true, force: true });
    }
    for (const record of found.sort((a, b) => a.checkedMs - b.checkedMs)) records.#records.set(record.key, record);
    records.#bound();
    return records;
  }

  get(key: string): SourceRecord | undefined {
    return this.#records.get(key);
  }

  /** Content by version, as far as it is known. */
  digests(): Map<string, string> {
    return new Map([...this.#records.values()].map(({ version, digest }) => [version, digest]));
  }

  /** On the disk a little later. */
  set(record: SourceRecord): void {
    this.#records.delete(record.key);
    this.#records.set(record.key, record);
    const content = new TextEncoder().encode(JSON.stringify(record));
    this.#then(() => replaceFile(join(this.#folder, fileOf(record.key)), content));
    this.#bound();
  }

  delete(key: string): void {
    this.#records.delete(key);
    this.#then(() => rm(join(this.#folder, fileOf(key)), { force: true }));
  }

  /** Resolves when all is on the disk that can be. */
  settled(): Promise<void> {
    return this.#last;
  }

  #bound(): void {
    for (const key of this.#records.keys()) {
      if (this.#records.size <= MAX_RECORDS) return;
      this.delete(key);
    }
  }

  /** What fails is only a memory. */
  #then(change: () => Promise<void>): void {
    this.#last = this.#last.then(change).catch(() => undefined);
  }
}

function fileOf(key: string): string {
  return `${createHash('sha256').update(key).digest('hex')}.json`;
}

async function readRecord(path: string): Promise<SourceRecord | undefined> {
  try {
    return RECORD.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return undefined;
  }
}
