/** One version of an adapter from its source into a folder: every byte checked as far as the source lets it be, and on the disk when it is over. */
import { mkdir, open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError } from '../errors.js';
import { wrongHash } from '../hub/download.js';
import { grow } from '../hub/grow.js';
import type { Patience } from '../hub/retry.js';
import { mapConcurrent } from '../tensor/concurrent.js';
import { syncFolder } from '../tensor/folder.js';
import type { SourceFile, SourceVersion } from './source.js';

const CONCURRENT_FILES = 4;
/** Bytes with a wrong hash are asked for once more: a proxy or a disk on the way may have been at fault. */
const ATTEMPTS = 2;

/**
 * Fills an empty folder. Throws what the version's `open` throws, Transient no more, and `download_failed` where bytes are not those that were
 * promised; the folder is then in no order, but nobody writes to it any more.
 */
export async function fetchVersion(version: SourceVersion, folder: string, patience: Patience): Promise<void> {
  const places = version.files.map((file) => ({ file, path: join(folder, ...file.path.split('/')) }));
  const folders = new Set(places.map(({ path }) => dirname(path)));
  for (const each of folders) await mkdir(each, { recursive: true });
  const end = new AbortController();
  const stop = (): void => end.abort(patience.signal?.reason);
  patience.signal?.addEventListener('abort', stop, { once: true });
  if (patience.signal?.aborted) stop();
  const failures: unknown[] = [];
  await mapConcurrent(places, CONCURRENT_FILES, ({ file, path }) =>
    fetchFile(version, file, path, { ...patience, signal: end.signal }).catch((error: unknown) => {
      failures.push(error);
      // Without this one the others are worth nothing.
      end.abort(error);
    }),
  );
  patience.signal?.removeEventListener('abort', stop);
  if (failures.length > 0) throw failures[0];
  for (const each of folders) await syncFolder(each);
}

async function fetchFile(version: SourceVersion, file: SourceFile, path: string, patience: Patience): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    patience.signal?.throwIfAborted();
    const handle = await open(path, 'wx+');
    try {
      const { bytes, etag } = await grow(handle, { file, open: (start, signal) => version.open(file, start, signal), patience });
      if (bytes !== file.bytes)
        throw new AppError('download_failed', `${file.path}: Expected ${file.bytes} bytes but received more`);
      if (!version.isHashed || etag === file.etag) {
        await handle.sync();
        return;
      }
      if (attempt === ATTEMPTS) throw wrongHash(file, etag);
    } finally {
      await handle.close();
    }
    await rm(path);
  }
}
