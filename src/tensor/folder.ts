/**
 * Files and folders that appear whole or not at all: written under a hidden name, synced, and moved into place. What was in that place stays
 * until the new one is complete. A rename alone may be forgotten in a power cut, though the file itself was synced, so folders are synced too.
 */
import { randomUUID } from 'node:crypto';
import { renameSync, type Stats } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

/** A leftover of a process that died is certainly nobody's after this long. */
const LEFTOVER_MS = 3_600_000;

/** Makes what was created or renamed in a folder durable. Windows cannot open a folder, and does so by itself. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Whose a file is, and who may read it. */
export type Access = Pick<Stats, 'mode' | 'uid' | 'gid'>;

/** Writes a file that takes the place of the one before it in one step. Without `access` it is the system's usual one. */
export async function replaceFile(path: string, content: Uint8Array, access?: Access): Promise<void> {
  const target = resolve(path);
  const temporary = hiddenName(target);
  try {
    await writeSynced(temporary, content, access);
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(target));
}

/**
 * Makes a folder at `place` of what `fill` writes into a temporary one. Rejects with what `fill` or the system rejects with, the place as
 * it was before.
 */
export async function publishFolder(place: string, fill: (temporary: string) => Promise<void>): Promise<void> {
  const target = resolve(place);
  const temporary = hiddenName(target);
  await mkdir(temporary, { recursive: true });
  try {
    await fill(temporary);
    await syncFolder(temporary);
    await moveInto(temporary, target);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
  await syncFolder(dirname(target));
  await sweep(target);
}

/** Writes a new file, and its folder where there is none, and sees both onto the disk. */
export async function writeSynced(path: string, content: Uint8Array, access?: Access): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const file = await open(path, 'wx', access && 0o600);
  try {
    if (access) {
      // Only root can give a file away, and only root's would otherwise be closed to whom it was for.
      if (process.getuid?.() === 0) await file.chown(access.uid, access.gid);
      await file.chmod(access.mode & 0o7777);
    }
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await syncFolder(dirname(path));
}

/** Beside the place, and overlooked by the registry. */
function hiddenName(place: string): string {
  return join(dirname(place), `.${basename(place)}.tmp-${randomUUID()}`);
}

/**
 * A folder that is not empty cannot be replaced in one step: the old one steps aside, and comes back if the new one cannot take its
 * place. The two steps follow each other without a turn of the event loop, so that the place is empty for microseconds.
 */
async function moveInto(temporary: string, place: string): Promise<void> {
  const aside = hiddenName(place);
  try {
    renameSync(place, aside);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    renameSync(temporary, place);
    return;
  }
  try {
    renameSync(temporary, place);
  } catch (error) {
    renameSync(aside, place);
    throw error;
  }
  await rm(aside, { recursive: true, force: true });
}

/** Removes what writers of this folder that died long ago left behind, now that a complete one is in place. */
async function sweep(place: string): Promise<void> {
  const folder = dirname(place);
  for (const name of await readdir(folder)) {
    if (!name.startsWith(`.${basename(place)}.tmp-`)) continue;
    const info = await stat(join(folder, name)).catch(() => undefined);
    if (info !== undefined && Date.now() - info.mtimeMs > LEFTOVER_MS)
      await rm(join(folder, name), { recursive: true, force: true });
  }
}
