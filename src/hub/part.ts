/**
 * The part of a file that has come so far, which outlives the process that fetched it. A part belongs to one process, by its name; the parts
 * of processes that are gone are taken over by a rename, of which only one of several takers succeeds. So two never write one file.
 */
import { readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { isAbandoned, MARK, newMark } from '../tensor/owner.js';

/** huggingface_hub's ending, with a name that it never makes: it cleans up after itself, not after others. */
const NAME = new RegExp(`^(?<etag>[0-9a-f]+)\\.${MARK}\\.incomplete$`);

/** Those of this process. */
const own = new Set<string>();

export interface Part {
  readonly path: string;
  /** Makes it free for the next one who wants the file. */
  release(): void;
}

/** A place for the file in `folder`, with what a process that is gone has left of it. */
export async function claim(folder: string, etag: string): Promise<Part> {
  const name = `${etag}.${newMark()}.incomplete`;
  own.add(name);
  const part = { path: join(folder, name), release: () => own.delete(name) };
  const left = await leftovers(folder, etag);
  for (const [index, { path }] of left.entries()) {
    // Whoever takes the longest one needs no other. Somebody else may be faster; an old one is young again, so that nobody takes it once more.
    if (index > 0) await rm(path, { force: true });
    else await take(path, part.path).catch(() => undefined);
  }
  return part;
}

async function take(path: string, place: string): Promise<void> {
  await utimes(path, new Date(), new Date());
  await rename(path, place);
}

/** How much of the file `claim` would find. */
export async function leftBytes(folder: string, etag: string): Promise<number> {
  return (await leftovers(folder, etag))[0]?.bytes ?? 0;
}

/** Removes what is left of a file that is whole by now. */
export async function sweep(folder: string, etag: string): Promise<void> {
  for (const { path } of await leftovers(folder, etag)) await rm(path, { force: true });
}

interface Leftover {
  readonly path: string;
  readonly bytes: number;
}

/** Parts of the file that nobody writes to, the longest first. */
async function leftovers(folder: string, etag: string): Promise<Leftover[]> {
  const found: Leftover[] = [];
  for (const name of await readdir(folder)) {
    const mark = NAME.exec(name)?.groups;
    if (mark?.['etag'] !== etag || own.has(name)) continue;
    const info = await stat(join(folder, name)).catch(() => undefined);
    if (info !== undefined && isAbandoned(mark, info.mtimeMs)) found.push({ path: join(folder, name), bytes: info.size });
  }
  return found.sort((a, b) => b.bytes - a.bytes);
}
