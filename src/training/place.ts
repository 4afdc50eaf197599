/**
 * Where a run puts what it makes. It is looked at before anything is read: a day of training must not end at a folder that cannot be written,
 * and publishing replaces the whole folder that it is told, so that must not be somebody's photos, nor an adapter that nobody gave up.
 */
import { access, constants, readdir, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, sep } from 'node:path';
import { CONFIG_FILE, MANIFEST_FILE } from '../adapter/manifest.js';
import { AppError } from '../errors.js';
import { quote } from '../tensor/json.js';
import type { TrainOptions } from './options.js';

/** What a server takes for the name of an adapter, and `backbone.json` for that of a backbone. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** Throws AppError `invalid_config` that names everything that is wrong with where the run is to write. Makes nothing. */
export async function checkPlaces(options: TrainOptions, runFolder: string): Promise<void> {
  const { out, cache, method } = options;
  const given = [
    nameFault(basename(out)),
    ...insiders(options, runFolder).map(
      ([flag, place]) => `--out: Expected a folder of its own, since it is replaced whole, but ${flag} ${place} is in it`,
    ),
  ];
  const seen = await Promise.all([
    method === 'full' ? backboneFault(options) : adapterFault(options),
    writeFault('--out', dirname(out)),
    writeFault('--run', runFolder),
    writeFault('--cache', cache),
  ]);
  const faults = [...given, ...seen].filter((fault) => fault !== undefined);
  if (faults.length > 0) throw AppError.ofFaults('invalid_config', 'The options are wrong', faults);
}

function nameFault(name: string): string | undefined {
  if (NAME.test(name)) return undefined;
  return `--out: Expected a name of letters, digits, ".", "_" or "-" (at most 128) but received ${quote(name)}`;
}

/** An adapter may take the place of an adapter that may go, and of nothing else. */
async function adapterFault(options: TrainOptions): Promise<string | undefined> {
  const { out } = options;
  const names = await occupants(out);
  if (names?.length === 0) return undefined;
  if (names?.includes(MANIFEST_FILE) || names?.includes(CONFIG_FILE))
    return mayGo(options) ? undefined : stays('an adapter', out);
  return `--out: Expected a new folder, or that of an adapter to replace, but ${out} is something else`;
}

/** A backbone may take the place of one that was published likewise, where nobody has put anything into it. */
async function backboneFault(options: TrainOptions): Promise<string | undefined> {
  const { out } = options;
  const names = await occupants(out);
  const adapters = await occupants(join(out, 'adapters'));
  const isOurs =
    names?.includes('backbone.json') &&
    names.every((name) => ['backbone.json', 'language', 'adapters'].includes(name)) &&
    adapters?.every((name) => name === basename(out));
  if (names?.length === 0) return undefined;
  if (isOurs) return mayGo(options) ? undefined : stays('a trained backbone', out);
  return `--out: Expected a new folder, or that of a trained backbone to replace, but ${out} is something else`;
}

/** A run that goes on may replace what is there, which it has put there or was allowed to replace when it began. */
function mayGo({ replace, resume }: TrainOptions): boolean {
  return replace || resume;
}

function stays(what: string, out: string): string {
  return `--out: Expected a new folder but ${out} holds ${what}: --replace takes its place, --resume goes on with the run that made it`;
}

/** What is in a folder; nothing where there is none, undefined where it is no folder. */
async function occupants(place: string): Promise<readonly string[] | undefined> {
  const info = await stat(place).catch(() => null);
  if (info === null) return [];
  return info.isDirectory() ? readdir(place) : undefined;
}

/** The places that would be lost with the folder. */
function insiders({ out, backbone, data, images, validation, cache }: TrainOptions, run: string): [string, string][] {
  const places = { '--backbone': backbone, '--data': data, '--images': images, '--validation': validation, '--run': run };
  return Object.entries({ ...places, '--cache': cache }).flatMap(([flag, place]): [string, string][] =>
    place !== null && isWithin(out, place) ? [[flag, place]] : [],
  );
}

function isWithin(folder: string, place: string): boolean {
  const path = relative(folder, place);
  return !(path === '..' || path.startsWith(`..${sep}`) || isAbsolute(path));
}

/** Why a folder cannot be written, or not be made. */
async function writeFault(flag: string, folder: string): Promise<string | undefined> {
  let at = folder;
  let info = await stat(at).catch(() => undefined);
  while (info === undefined && dirname(at) !== at) {
    at = dirname(at);
    info = await stat(at).catch(() => undefined);
  }
  if (!info?.isDirectory()) return `${flag}: Expected a folder at ${at} but received something else`;
  try {
    await access(at, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    return `${flag}: Expected a folder that can be written but ${at} cannot (${code})`;
  }
}
