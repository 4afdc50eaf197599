/**
 * The fingerprint of a checkpoint: which weights an adapter was trained on, whatever the folder is called. Only computed where an
 * adapter states one, because it reads every weight; then kept for as long as the files stay as they are.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../errors.js';
import { ContentHash } from './digest.js';
import { chunks, openFile } from './file.js';

const known = new Map<string, { readonly version: string; readonly fingerprint: Promise<string> }>();

/**
 * sha-256 over `config.json` and every `model*.safetensors` of the folder, sorted, names and sizes included.
 * Throws AppError `invalid_file` where the folder or one of its files cannot be read.
 */
export async function fingerprint(folder: string): Promise<string> {
  const names = await listFiles(folder);
  const version = await versionOf(folder, names);
  const before = known.get(folder);
  if (before?.version === version) return before.fingerprint;
  const promise = hashFiles(folder, names);
  known.set(folder, { version, fingerprint: promise });
  // A failure is not worth keeping: the next call may find the file.
  promise.catch(() => known.delete(folder));
  return promise;
}

/** What changes with every change of what the fingerprint is of, and is known without reading it: for whoever keeps it beyond this process. */
export async function checkpointVersion(folder: string): Promise<string> {
  return versionOf(folder, await listFiles(folder));
}

/**
 * The same of a vision encoder: other features of the same weights are another encoder to an adapter. `features` names them where they
 * are not the family's own.
 */
export async function encoderFingerprint(folder: string, features: string | undefined): Promise<string> {
  const weights = await fingerprint(folder);
  if (features === undefined) return weights;
  const hash = new ContentHash();
  const content = new TextEncoder().encode(`${weights} ${features}`);
  hash.file('features', content.byteLength);
  hash.update(content);
  return hash.digest();
}

async function versionOf(folder: string, names: readonly string[]): Promise<string> {
  const stats = await Promise.all(names.map((name) => under(join(folder, name), (path) => stat(path, { bigint: true }))));
  // The last change of a file's state cannot be set by whoever writes it, as its time of modification can.
  const lines = stats.map(
    ({ size, mtimeNs, ctimeNs, dev, ino }, index) => `${names[index]} ${size} ${mtimeNs} ${ctimeNs} ${dev} ${ino}`,
  );
  return lines.join('\n');
}

async function listFiles(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((name) => name === 'config.json' || /^model.*\.safetensors$/.test(name)).sort();
  } catch (cause) {
    throw AppError.ofFaults('invalid_file', folder, [`Expected a checkpoint folder but received ${String(cause)}`], { cause });
  }
}

async function hashFiles(folder: string, names: readonly string[]): Promise<string> {
  const hash = new ContentHash();
  for (const name of names) {
    await under(join(folder, name), async (path) => {
      const file = await openFile(path);
      if (file === undefined) throw new AppError('invalid_file', 'Expected a file but received none: it went away meanwhile');
      try {
        hash.file(name, file.bytes);
        for await (const chunk of chunks(file)) hash.update(chunk);
      } finally {
        await file.handle.close();
      }
    });
  }
  return hash.digest();
}

/** What is refused of a file, by us or the system, under its name. */
async function under<T>(path: string, action: (path: string) => Promise<T>): Promise<T> {
  return action(path).catch((cause: unknown) => {
    const known = cause instanceof AppError ? cause.message : `Expected a readable file but received ${String(cause)}`;
    throw AppError.ofFaults('invalid_file', path, [known], { cause });
  });
}
