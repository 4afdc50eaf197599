/**
 * What a source of adapters is: something that says which files a folder has at one version, and gives their bytes. Everything else (single
 * flight, checks, the disk) is the same for all of them. What it says is not trusted: names become paths, sizes are promises.
 */
import { createHash } from 'node:crypto';
import { MAX_JSON_BYTES, MAX_TENSOR_BYTES } from '../adapter/file.js';
import { possiblePaths } from '../adapter/manifest.js';
import { AppError } from '../errors.js';
import type { HubFile } from '../hub/client.js';
import { isPlainPath } from '../hub/reference.js';
import type { Patience } from '../hub/retry.js';
import type { SourceKind } from './place.js';

/** One file of an adapter; its path is relative to the adapter, its etag is whatever tells its contents apart. */
export type SourceFile = HubFile;

/** The files of an adapter as they are at one moment, and for ever. */
export interface SourceVersion {
  /** 64 hex digits: equal ids, equal contents, as far as the source can be believed. */
  readonly id: string;
  readonly files: readonly SourceFile[];
  /** Whether etags are hashes of contents (sha256, or git's sha1) that can be checked. */
  readonly isHashed: boolean;
  /** A file's bytes from `start` on, or all. Throws Transient for what may pass, Changed where it is another file now. */
  open(file: SourceFile, start: number, signal: AbortSignal): Promise<Response>;
}

/** One adapter at its source. */
export interface Source {
  readonly kind: SourceKind;
  /** Its place and the server that has it: what is remembered of it is remembered under this. */
  readonly key: string;
  /** It names one version for ever: there is nothing to look at again. */
  readonly isPinned: boolean;
  /** Whether the network must not be asked. */
  readonly isOffline: boolean;
  /**
   * The version that is there now. Throws AppError: `not_found` where there is none, `invalid_config` where it may not be read, `adapter_invalid`
   * or `adapter_too_large` for what is no adapter, `download_failed` for all that is wrong on the way.
   */
  version(patience: Patience): Promise<SourceVersion>;
}

/** What was listed is there no more, or is another. */
export class Changed extends Error {}

/** Far more than an adapter has. */
const MAX_FILES = 64;

/**
 * Those of a folder's files that may define an adapter; READMEs, pictures and pickles are none. Throws `not_found` where there is none at all,
 * `adapter_invalid` for names that lead elsewhere, `adapter_too_large` beyond the limits.
 */
export function chooseFiles(subject: string, files: readonly SourceFile[], maxBytes: number): SourceFile[] {
  const strange = files.find(({ path }) => !isPlainPath(path));
  if (strange) {
    const message = `Expected ${subject} to have files inside of it but received ${JSON.stringify(strange.path.slice(0, 200))}`;
    throw new AppError('adapter_invalid', message);
  }
  const byPath = new Map(files.map((file) => [file.path, file]));
  const chosen = possiblePaths([...byPath.keys()])
    .sort()
    .flatMap((path) => byPath.get(path) ?? []);
  if (chosen.length === 0) throw new AppError('not_found', `Expected an adapter at ${subject} but received none`);
  if (chosen.length > MAX_FILES)
    throw new AppError('adapter_invalid', `Expected ${subject} to have at most ${MAX_FILES} files but received ${chosen.length}`);
  checkBytes(subject, bytesOf(chosen), maxBytes);
  for (const { path, bytes } of chosen)
    checkBytes(`${path} of ${subject}`, bytes, path.endsWith('.json') ? MAX_JSON_BYTES : MAX_TENSOR_BYTES);
  return chosen;
}

export function bytesOf(files: readonly SourceFile[]): number {
  return files.reduce((sum, { bytes }) => sum + bytes, 0);
}

function checkBytes(subject: string, bytes: number, maxBytes: number): void {
  if (bytes > maxBytes)
    throw new AppError('adapter_too_large', `Expected ${subject} to have at most ${maxBytes} bytes but received ${bytes}`);
}

/** An id for these files; `scope` is within what etags tell contents apart. */
export function versionId(scope: readonly string[], files: readonly SourceFile[]): string {
  const listed = files.map(({ path, bytes, etag }) => [path, bytes, etag]);
  return createHash('sha256')
    .update(JSON.stringify([scope, listed]))
    .digest('hex');
}
