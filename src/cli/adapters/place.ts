/** Where a command may write: a folder that is new, unless the user says that what is there may go; never one with what it reads. */
import { readdir, realpath } from 'node:fs/promises';
import { resolve, sep } from 'node:path';
import { AppError } from '../../errors.js';

export interface PlaceFlags {
  readonly out: string;
  readonly replace?: boolean;
}

/** Throws AppError `invalid_config` where something is at `--out` and `--replace` was not given. */
export async function checkPlace({ out, replace = false }: PlaceFlags): Promise<void> {
  if (replace) return;
  // What is there and is no folder cannot be listed, and is in the way as well.
  const names = await readdir(out).catch((error: unknown) => (isAbsent(error) ? [] : [out]));
  if (names.length > 0)
    throw new AppError(
      'invalid_config',
      `Expected --out to be a new folder but received ${out}, which exists (--replace takes its place)`,
    );
}

/** Throws AppError `invalid_config` where what is read lies in `--out`, and would go with what is there. */
export async function checkApart({ out }: PlaceFlags, sources: readonly (string | null | undefined)[]): Promise<void> {
  const place = await realOf(out);
  for (const source of sources) {
    if (source == null || !`${await realOf(source)}${sep}`.startsWith(`${place}${sep}`)) continue;
    throw new AppError('invalid_config', `Expected --out apart from what is read but received ${out}, which holds ${source}`);
  }
}

/** Without links; what is not there has none. */
async function realOf(path: string): Promise<string> {
  return realpath(path).catch(() => resolve(path));
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
