/** Where tenants stand: one file, or a folder of them. What is hidden is not read: editors and orchestrators keep their own things so. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { AppError } from '../errors.js';
import type { TenantFile } from './file.js';

const FILE = /^[^.].*\.ya?ml$/;

/** The state of all files; equal texts, equal files (unless one was written within a clock's tick). */
export interface Stamp {
  readonly text: string;
  /** The latest change, and when the stamp was taken, in milliseconds since 1970. */
  readonly newestMs: number;
  readonly takenMs: number;
}

/** The files of a location, by name. Throws `invalid_config` where there is none, or where the folder cannot be read. */
export async function listFiles(location: string): Promise<string[]> {
  try {
    if (!(await stat(location)).isDirectory()) return [location];
    const names = await readdir(location);
    return names
      .filter((name) => FILE.test(name))
      .sort()
      .map((name) => join(location, name));
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new AppError(
      'invalid_config',
      code === 'ENOENT'
        ? `Expected tenants at ${location} but there is nothing (graft keys create NAME --tenants ${location} makes them)`
        : `Expected a file or folder of tenants at ${location} that can be read but received ${code}`,
      { cause },
    );
  }
}

/** What they say. Throws as `listFiles`; of a file that cannot be read the error is its content. */
export async function readFiles(location: string): Promise<(TenantFile & { readonly path: string })[]> {
  const paths = await listFiles(location);
  return Promise.all(
    paths.map(async (path) => ({
      path,
      name: basename(path),
      content: await readFile(path, 'utf8').catch((error: unknown) => error as Error),
    })),
  );
}

/** Never throws: what cannot be looked at has a stamp too, and reading it says why. */
export async function stampOf(location: string): Promise<Stamp> {
  const takenMs = Date.now();
  const paths = await listFiles(location).catch(() => [location]);
  const states = await Promise.all(
    paths.map(async (path) => {
      const stats = await stat(path).catch(() => undefined);
      if (stats === undefined) return { text: `${path} -`, changedMs: 0 };
      // The system's own time: mtime can be set to anything.
      const { ino, size, mtimeMs, ctimeMs } = stats;
      return { text: `${path} ${ino} ${size} ${mtimeMs} ${ctimeMs}`, changedMs: ctimeMs };
    }),
  );
  const newestMs = Math.max(0, ...states.map(({ changedMs }) => changedMs));
  return { text: states.map(({ text }) => text).join('\n'), newestMs, takenMs };
}
