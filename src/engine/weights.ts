/**
 * The language model's weights in 8 or 4 bits. They are made once, into a file that onnxruntime maps from then on. It lies in a cache folder and
 * not with the model, which may be read-only, and is named after what is in the checkpoint, so that copies of one share it. A file that is not
 * exactly what was written is made again, and whoever removes one only has to wait for the next.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, realpath, rm, stat, statfs } from 'node:fs/promises';
import { dirname, join, parse, resolve } from 'node:path';
import { checkpointVersion, fingerprint } from '../adapter/fingerprint.js';
import type { Matrix } from '../backbone/language/model.js';
import { type BlockFile, MatrixList, QuantizedWeights } from '../backbone/quantized.js';
import type { Weights } from '../backbone/weights.js';
import { AppError } from '../errors.js';
import { type Checkpoint, commonFolder } from '../tensor/checkpoint.js';
import { replaceFile } from '../tensor/folder.js';
import { isIntact, pipeSafetensors } from '../tensor/pieces.js';
import type { Scheme } from '../tensor/quantize.js';
import { SafetensorsFile } from '../tensor/safetensors.js';
import { elements } from '../tensor/tensor.js';
import { blocksOf, tensorsOf } from './blocks.js';

/** In what the weights are multiplied. */
export type Precision = 'float32' | Narrow;
type Narrow = keyof typeof SCHEMES;

/** Measured (bench/RESULTS.md, "precision"): smaller blocks cost memory, larger ones accuracy. */
const SCHEMES = {
  int8: { bits: 8, block: 64, zeroPoints: false },
  int4: { bits: 4, block: 32, zeroPoints: true },
} as const satisfies Record<string, Scheme>;

const FORMAT = 'graft-blocks/1';
const FINGERPRINT = /^sha256:[0-9a-f]{64}$/;
/** A leftover of a process that died is certainly nobody's after this long. */
const LEFTOVER_MS = 3_600_000;

export interface NarrowOptions {
  readonly precision: Narrow;
  /** Folder that the files lie in. */
  readonly cache: string;
}

/**
 * The weights of an open checkpoint for the graphs that `build` builds. Throws AppError: `invalid_file` with every fault of the checkpoint,
 * `disk_full`, or `invalid_config` where the cache folder cannot be used.
 */
export async function narrowWeights(
  checkpoint: Checkpoint,
  { precision, cache }: NarrowOptions,
  build: (weights: Weights) => unknown,
): Promise<QuantizedWeights> {
  const { folder } = checkpoint;
  const list = new MatrixList(checkpoint);
  build(list);
  list.check();
  const file = await findOrMake(checkpoint, list.matrices, precision, resolve(cache));
  if (parse(file.path).root !== parse(checkpoint.root).root)
    throw new AppError(
      'invalid_config',
      `Expected --weights-cache to be a folder on the drive of ${folder} but received ${dirname(file.path)}`,
    );
  const root = commonFolder([checkpoint.root, dirname(file.path)]) ?? checkpoint.root;
  return new QuantizedWeights(checkpoint, root, file);
}

async function findOrMake(
  checkpoint: Checkpoint,
  matrices: readonly Matrix[],
  precision: Narrow,
  cache: string,
): Promise<BlockFile> {
  const scheme = SCHEMES[precision];
  const known = await knownFingerprint(checkpoint.folder, cache);
  const place = join(cache, `${known.slice('sha256:'.length)}.${precision}.safetensors`);
  const metadata = new Map([
    ['format', FORMAT],
    ['checkpoint', known],
    ['scheme', JSON.stringify(scheme)],
  ]);
  const tensors = tensorsOf(matrices, scheme);
  const found = await find(place, scheme, tensors, metadata);
  if (found) return found;

  const bytes = tensors.reduce((sum, [, { dtype, shape }]) => sum + elements(shape) * (dtype === 'float32' ? 4 : 1), 0);
  try {
    await mkdir(cache, { recursive: true });
    await sweep(cache);
    const { bavail, bsize } = await statfs(cache);
    if (bavail * bsize < bytes)
      throw new AppError(
        'disk_full',
        `Expected room for ${bytes} bytes of ${precision} weights in ${cache} but received ${bavail * bsize}`,
      );
    await pipeSafetensors(place, tensors, blocksOf(checkpoint, matrices, scheme), metadata);
  } catch (error) {
    throw explain(error, `${bytes} bytes of ${precision} weights`, cache);
  }
  const made = await find(place, scheme, tensors, metadata);
  if (!made) throw AppError.ofFaults('invalid_file', place, ['Expected the weights that were just written but received others']);
  return made;
}

/** The file, where it is there and all of it is what it should be. */
async function find(
  place: string,
  scheme: Scheme,
  tensors: ReturnType<typeof tensorsOf>,
  metadata: ReadonlyMap<string, string>,
): Promise<BlockFile | undefined> {
  // What is no such file is as good as none: it is made again.
  const file = await SafetensorsFile.open(place).catch(() => undefined);
  if (!file) return undefined;
  try {
    const { entries, metadata: own } = file.header;
    const isOurs =
      [...metadata].every(([key, value]) => own.get(key) === value) &&
      tensors.every(([name, { dtype, shape }]) => {
        const entry = entries.get(name);
        return entry?.dtype === dtype && entry.shape.join() === shape.join();
      });
    return isOurs && (await isIntact(file)) ? { path: await realpath(place), scheme, entries } : undefined;
  } finally {
    await file.close();
  }
}

/**
 * The fingerprint of the checkpoint. It reads every weight, which for a large model takes longer than all else, so it is kept under what tells that
 * the files are still the same.
 */
async function knownFingerprint(folder: string, cache: string): Promise<string> {
  const version = `${resolve(folder)}\n${await checkpointVersion(folder)}`;
  const place = join(cache, 'fingerprints', createHash('sha256').update(version).digest('hex'));
  const kept = await readFile(place, 'utf8').catch(() => '');
  if (FINGERPRINT.test(kept)) return kept;
  const found = await fingerprint(folder);
  try {
    await mkdir(dirname(place), { recursive: true });
    await replaceFile(place, new TextEncoder().encode(found));
  } catch {
    // A cache that cannot be written may hold the weights all the same; where it does not, writing those says what is wrong.
  }
  return found;
}

/** Removes what writers that died long ago left behind. */
async function sweep(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (!(name.startsWith('.') && name.endsWith('.tmp'))) continue;
    const info = await stat(join(cache, name)).catch(() => undefined);
    if (info && Date.now() - info.mtimeMs > LEFTOVER_MS) await rm(join(cache, name), { force: true });
  }
}

/** What the system refuses, in words. */
function explain(error: unknown, what: string, cache: string): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (error instanceof AppError) return error;
  if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code))
    return new AppError('disk_full', `Expected room for ${what} in ${cache} but there is none (${code})`, { cause: error });
  if (['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST', 'ENOENT'].includes(code))
    return new AppError(
      'invalid_config',
      `Expected a folder that can be written, for ${what}, at ${cache} but received ${code}: --weights-cache names another`,
      { cause: error },
    );
  return error;
}
