/** Where a command may write: a folder that is new, unless the user says that what is there may go. */
import { readdir } from 'node:fs/promises';
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

function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
