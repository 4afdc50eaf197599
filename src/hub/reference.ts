/** Names on the hub: repositories as people write them, and files as a server names them, which become paths and are not trusted. */
import { AppError } from '../errors.js';

export interface Reference {
  /** null for the models that are older than owners, such as gpt2: the hub sends on to where they are now. */
  readonly owner: string | null;
  readonly name: string;
  /** A branch, a tag or a commit. */
  readonly revision: string;
}

/** A hash that names a commit, the same for ever. */
export const COMMIT = /^[0-9a-f]{40}$/;

const REFERENCE = /^(?:(?<owner>[\w.-]{1,96})\/)?(?<name>[\w.-]{1,96})(?:@(?<revision>[\w./+-]{1,200}))?$/;

/** `OWNER/NAME` or `NAME`, with `@REVISION` or without. Throws `invalid_config` for anything else. */
export function parseReference(text: string): Reference {
  const { owner = null, name, revision = 'main' } = REFERENCE.exec(text)?.groups ?? {};
  // The cache makes one folder name of the two, with "--" between them.
  const areNames = [owner ?? 'none', name].every((part) => part !== undefined && isPlainPath(part) && !part.includes('--'));
  if (!areNames || name === undefined || !isPlainPath(revision))
    throw new AppError(
      'invalid_config',
      `Expected OWNER/NAME or NAME, with @REVISION or without, but received ${JSON.stringify(text)}`,
    );
  return { owner, name, revision };
}

export function repositoryOf({ owner, name }: Reference): string {
  return owner === null ? name : `${owner}/${name}`;
}

/** Whether a path with slashes stays inside of the folder that it is put under, on every system. */
export function isPlainPath(path: string): boolean {
  if (/[\p{Cc}\\]|^[A-Za-z]:/u.test(path)) return false;
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}
