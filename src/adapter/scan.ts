/**
 * Which folders are adapters, and whether one has changed, found out with nothing but directory listings and file status:
 * thousands of adapters are looked at every few seconds.
 */
import type { Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../errors.js';
import { mapConcurrent } from '../tensor/concurrent.js';
import { Faults } from '../tensor/faults.js';
import { FileFaults } from './faults.js';
import { MAX_JSON_BYTES, readFile } from './file.js';
import { ALL_CONTEXTS, CONFIG_FILE, definingPaths, MANIFEST_FILE, PROJECTOR_FILE, parseManifest } from './manifest.js';

export interface Candidate {
  /** `name`, or `tenant/name`. */
  readonly name: string;
  readonly folder: string;
}

/** The state of a folder's defining files; equal texts, equal files (unless one was written within a clock's tick). */
export interface Stamp {
  readonly text: string;
  /** Latest change of any file, and when the stamp was taken, in milliseconds since 1970. */
  readonly newestMs: number;
  readonly takenMs: number;
  /** Paths of the files that count, and the state of the manifest which says so. */
  readonly paths: readonly string[];
  readonly manifest: string;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
/** The mark of a folder that a publisher is still writing. */
const TEMPORARY = /\.tmp-/;
/** A folder of these is an adapter whose manifest is yet to come, not a tenant with an adapter called `image`. */
const CONTEXT_FOLDERS: ReadonlySet<string> = new Set(['image', 'text', ALL_CONTEXTS]);
const CONCURRENT_STATS = 16;

/**
 * The adapter folders below `root`, and one level deeper those in folders that are no adapters themselves (tenants).
 * Links are followed. Throws AppError `invalid_config` where `root` cannot be read.
 */
export async function findAdapters(root: string): Promise<Candidate[]> {
  let names: string[];
  try {
    names = await readdir(root);
  } catch (cause) {
    throw new AppError('invalid_config', `Expected a folder of adapters at ${root} but received none (${String(cause)})`, {
      cause,
    });
  }
  const found = await mapConcurrent(names.filter(isName), CONCURRENT_STATS, async (name): Promise<Candidate[]> => {
    const folder = join(root, name);
    if (await isAdapter(folder)) return [{ name, folder }];
    const children = (await readdir(folder).catch(() => [])).filter(isName);
    const adapters = [];
    for (const child of children) if (await isAdapter(join(folder, child))) adapters.push(child);
    if (adapters.some((child) => CONTEXT_FOLDERS.has(child))) return [{ name, folder }];
    return adapters.map((child) => ({ name: `${name}/${child}`, folder: join(folder, child) }));
  });
  return found.flat();
}

/** The stamp of a folder now. `before` saves reading the manifest again where it has not changed. */
export async function stampOf(folder: string, before?: Stamp): Promise<Stamp> {
  const takenMs = Date.now();
  // The folder itself counts: replaced by another of the same files, it is at another place.
  const [own, manifest] = await Promise.all([status(folder, true), status(join(folder, MANIFEST_FILE))]);
  const paths = before !== undefined && before.manifest === manifest.text ? before.paths : await listPaths(folder);
  const files = await Promise.all(paths.map((path) => status(join(folder, path))));
  const newestMs = [own, ...files].reduce((newest, { changedMs }) => Math.max(newest, changedMs), 0);
  return { text: [own, ...files].map(({ text }) => text).join('\n'), newestMs, takenMs, paths, manifest: manifest.text };
}

export async function exists(path: string): Promise<boolean> {
  return (await statOf(path)) !== undefined;
}

function isName(name: string): boolean {
  return NAME.test(name) && !TEMPORARY.test(name);
}

async function isAdapter(folder: string): Promise<boolean> {
  for (const file of [MANIFEST_FILE, CONFIG_FILE, PROJECTOR_FILE]) if (await exists(join(folder, file))) return true;
  return false;
}

async function listPaths(folder: string): Promise<readonly string[]> {
  try {
    const bytes = await readFile(join(folder, MANIFEST_FILE), MAX_JSON_BYTES);
    const manifest = bytes === undefined ? null : parseManifest(bytes, new FileFaults(MANIFEST_FILE, new Faults()));
    return definingPaths(manifest);
  } catch (error) {
    if (error instanceof AppError) return definingPaths(undefined);
    throw error;
  }
}

/** A folder's own times change with every file beside the adapter: of it, only the identity counts. */
async function status(path: string, isFolder = false): Promise<{ text: string; changedMs: number }> {
  const stats = await statOf(path);
  if (stats === undefined) return { text: '-', changedMs: 0 };
  const { dev, ino, size, mtimeMs, ctimeMs } = stats;
  if (isFolder) return { text: `${dev} ${ino}`, changedMs: 0 };
  // The system's own time: mtime can be set to anything.
  return { text: `${ino} ${size} ${mtimeMs} ${ctimeMs}`, changedMs: ctimeMs };
}

/** undefined where there is nothing, or nothing that we may look at: reading it says why. */
async function statOf(path: string): Promise<Stats | undefined> {
  return stat(path).catch(() => undefined);
}
