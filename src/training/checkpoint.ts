/**
 * Where a run stands, in one file: parameters, the optimiser's moments, the best parameters so far, and what is counted. It replaces the one
 * before it in a single step, so a run that is killed at any moment finds a whole one. Everything random is a function of the seed and the step,
 * and needs no place here.
 */
import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { AppError } from '../errors.js';
import { toFloat32 } from '../tensor/convert.js';
import { Faults } from '../tensor/faults.js';
import { quote } from '../tensor/json.js';
import { SafetensorsFile, writeSafetensors } from '../tensor/safetensors.js';
import type { Tensor } from '../tensor/tensor.js';

const FORMAT = 'graft-checkpoint/1';

const count = z.int().nonnegative();
const ProgressJson = z.strictObject({
  /** Updates that are done. */
  step: count,
  best: z.strictObject({ step: count, loss: z.number() }).nullable(),
  /** Evaluations since the best one. */
  worse: count,
  /** Time spent, over all sittings, and caption tokens trained on. */
  seconds: z.number().nonnegative(),
  tokens: count,
});
export type Progress = Readonly<z.infer<typeof ProgressJson>>;

export interface Arrays {
  readonly values: Float32Array;
  readonly first: Float32Array;
  readonly second: Float32Array;
  /** Meaningless while there is no best step. */
  readonly best: Float32Array;
}

/** What has to be equal for a run to go on: settings and data, by name, as text. */
export type Identity = Readonly<Record<string, string>>;
const IdentityJson = z.record(z.string(), z.string());

export async function writeCheckpoint(path: string, progress: Progress, arrays: Arrays, identity: Identity): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const tensors = Object.entries(arrays).map(([name, values]: [string, Float32Array]): [string, Tensor] => [
    name,
    { dtype: 'float32', shape: [values.length], data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) },
  ]);
  const metadata = { format: FORMAT, progress: JSON.stringify(progress), identity: JSON.stringify(identity) };
  await writeSafetensors(path, tensors, Object.entries(metadata));
}

export async function hasCheckpoint(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}

/**
 * Reads a checkpoint into the arrays. Throws AppError `invalid_file` where it is none, `invalid_config` naming each setting that differs
 * from the run that wrote it.
 */
export async function readCheckpoint(path: string, arrays: Arrays, identity: Identity): Promise<Progress> {
  const file = await SafetensorsFile.open(path);
  try {
    const { metadata, entries } = file.header;
    if (metadata.get('format') !== FORMAT)
      throw AppError.ofFaults('invalid_file', path, [
        `Expected a checkpoint of ${FORMAT} but received ${metadata.get('format') ?? 'none'}`,
      ]);
    const broken = new Faults();
    const progress = parseText('progress', metadata.get('progress'), ProgressJson, broken);
    const theirs = parseText('identity', metadata.get('identity'), IdentityJson, broken);
    if (progress === undefined || theirs === undefined) throw broken.error('invalid_file', path);
    const faults = Object.entries(identity)
      .filter(([name, value]) => theirs[name] !== value)
      .map(([name, value]) => `Expected ${name} to be ${theirs[name] ?? 'absent'}, as before, but received ${value}`);
    if (faults.length > 0) throw AppError.ofFaults('invalid_config', 'The run cannot be resumed with other settings', faults);
    const all = Object.entries(arrays) as [string, Float32Array][];
    for (const [name, { length }] of all) {
      const { dtype, shape } = entries.get(name) ?? {};
      if (dtype !== 'float32' || shape?.length !== 1 || shape[0] !== length)
        broken.add(`Expected ${name} to be float32 [${length}] but received ${dtype ?? 'none'} [${shape?.join(', ') ?? ''}]`);
    }
    // Nothing is touched before all of it can be.
    broken.check('invalid_file', path);
    for (const [name, values] of all) values.set(toFloat32(await file.read(name)));
    return progress;
  } finally {
    await file.close();
  }
}

/** JSON in a metadata field; undefined, with a fault, where it is not what it should be. */
function parseText<T>(name: string, text: string | undefined, schema: z.ZodType<T>, faults: Faults): T | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text ?? '');
  } catch {
    // Not of the schema either.
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) faults.add(`Expected ${name} of a run but received ${quote(text)}`);
  return parsed.data;
}
