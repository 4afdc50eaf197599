/**
 * Records in a folder, one JSON file each, all of them in memory as well: there are thousands, not millions. A change is on the disk before
 * anybody is told of it, and is there whole or not at all.
 */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { replaceFile, syncFolder } from '../tensor/folder.js';

export interface Owned {
  readonly id: string;
  readonly tenant: string;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
}

export class Records<T extends Owned> {
  readonly #folder: string;
  readonly #records = new Map<string, T>();
  /** Writes go one after the other: the last state is the last written. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Reads what is there. What is no record is left alone, and told. */
  static async open<T extends Owned>(folder: string, schema: z.ZodType<T>, onFault: (path: string) => void): Promise<Records<T>> {
    const records = new Records<T>(folder);
    const names = (await readdir(folder)).filter((name) => /^[a-z]+-[0-9a-f]{32}\.json$/.test(name));
    const found: T[] = [];
    for (const name of names) {
      const path = join(folder, name);
      const parsed = schema.safeParse(await readJson(path));
      if (parsed.success && `${parsed.data.id}.json` === name) found.push(parsed.data);
      else onFault(path);
    }
    for (const record of found.sort(byAge)) records.#records.set(record.id, record);
    return records;
  }

  get(id: string): T | undefined {
    return this.#records.get(id);
  }

  /** The oldest first. */
  all(): T[] {
    return [...this.#records.values()];
  }

  /** Resolves once the record is durable; readers see it at once, so that two changes never start from the same state. */
  async put(record: T): Promise<void> {
    this.#records.set(record.id, record);
    const bytes = new TextEncoder().encode(`${JSON.stringify(record, null, 2)}\n`);
    await this.#next(() => replaceFile(this.#path(record.id), bytes));
  }

  async remove(id: string): Promise<void> {
    this.#records.delete(id);
    await this.#next(async () => {
      await rm(this.#path(id), { force: true });
      await syncFolder(this.#folder);
    });
  }

  #next(write: () => Promise<void>): Promise<void> {
    const written = this.#last.then(write);
    this.#last = written.catch(() => undefined);
    return written;
  }

  #path(id: string): string {
    return join(this.#folder, `${id}.json`);
  }
}

function byAge(a: Owned, b: Owned): number {
  return a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1);
}

/** undefined where it is none. */
function readJson(path: string): Promise<unknown> {
  return readFile(path, 'utf8')
    .then((text): unknown => JSON.parse(text))
    .catch(() => undefined);
}
