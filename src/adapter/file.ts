/**
 * Reading an adapter's files. A folder may be replaced, or be half written, at any moment, and may hold what is no file: a file that
 * is not there is an ordinary answer, and a pipe is refused instead of waited for.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { AppError } from '../errors.js';

export const MAX_JSON_BYTES = 1024 ** 2;
export const MAX_TENSOR_BYTES = 2 * 1024 ** 3;

/** Small enough that hashing one chunk does not hold up the event loop. */
const CHUNK_BYTES = 256 * 1024;
/** Node reads at most 2^31 - 1 bytes a call. */
const READ_BYTES = 2 ** 30;

export interface OpenedFile {
  readonly handle: FileHandle;
  readonly bytes: number;
}

/**
 * Opens a regular file, or what a link points to; undefined where there is none.
 * Throws AppError `adapter_invalid` (a sentence without the path) for anything that is there and cannot be read as a file.
 */
export async function openFile(path: string): Promise<OpenedFile | undefined> {
  let handle: FileHandle;
  try {
    // Not blocking: opening a pipe would wait for a writer. Windows has no such flag, and no such pipes.
    handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (cause) {
    if (isAbsent(cause)) return undefined;
    throw new AppError('adapter_invalid', `Expected a readable file but received ${codeOf(cause)}`, { cause });
  }
  const stat = await handle.stat();
  if (stat.isFile()) return { handle, bytes: stat.size };
  await handle.close();
  throw new AppError('adapter_invalid', 'Expected a file but received something else');
}

/** A whole file of at most `maxBytes` bytes; undefined where there is none. Throws AppError `adapter_invalid` like `openFile`. */
export async function readFile(path: string, maxBytes: number): Promise<Uint8Array | undefined> {
  const file = await openFile(path);
  if (file === undefined) return undefined;
  try {
    if (file.bytes > maxBytes) {
      throw new AppError('adapter_invalid', `Expected at most ${maxBytes} bytes but received ${file.bytes}`);
    }
    const content = new Uint8Array(file.bytes);
    let done = 0;
    while (done < content.byteLength) {
      const { bytesRead } = await file.handle.read(content, done, Math.min(content.byteLength - done, READ_BYTES), done);
      // It became shorter: what is there is what its digest is of.
      if (bytesRead === 0) return content.subarray(0, done);
      done += bytesRead;
    }
    return content;
  } finally {
    await file.handle.close();
  }
}

/**
 * The bytes of an open file, as many as it had then, a chunk at a time; a chunk is only valid until the next one.
 * Throws AppError `adapter_changed` where it became shorter.
 */
export async function* chunks({ handle, bytes }: OpenedFile): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(Math.min(bytes, CHUNK_BYTES));
  for (let position = 0; position < bytes; ) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.byteLength, bytes - position), position);
    if (bytesRead === 0)
      throw new AppError('adapter_changed', `Expected a file of ${bytes} bytes to stay so but received ${position}`);
    position += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Whether a system call failed because there is nothing of that name. */
export function isAbsent(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes(codeOf(error));
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
