/** An adapter out of a folder of this machine: its own files, and no others that lie beside them. */
import { readdir, realpath } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { chunks, isAbsent, openFile } from '../adapter/file.js';
import { possiblePaths } from '../adapter/manifest.js';
import type { Intake } from './intake.js';

/** Whether `path` lies in `folder`, or is it; both without links. */
export function isBelow(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way !== '..' && !way.startsWith(`..${sep}`) && !way.startsWith(sep) && !/^[A-Za-z]:/.test(way);
}

/** Takes the files of a folder; links are followed where they lead to something below `root` (without links itself), and are a fault elsewhere. */
export async function takeFolder(folder: string, root: string, intake: Intake): Promise<void> {
  for (const path of possiblePaths(await pathsIn(folder)).sort()) {
    const place = await realpath(join(folder, path)).catch(() => undefined);
    const file = place !== undefined && isBelow(root, place) ? await openFile(place) : undefined;
    if (file === undefined) {
      intake.refuse(`${path}: Expected a file below the folder that adapters may be loaded from but received a link elsewhere`);
      continue;
    }
    try {
      await intake.addFile(path, chunks(file));
    } finally {
      await file.handle.close();
    }
  }
}

/** Two levels, as adapters have them. Empty where there is no such folder. */
async function pathsIn(folder: string): Promise<string[]> {
  const entries = await listed(folder);
  const below = await Promise.all(
    entries.map(async (name) => (await listed(join(folder, name))).map((child) => `${name}/${child}`)),
  );
  return [...entries, ...below.flat()];
}

async function listed(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}
