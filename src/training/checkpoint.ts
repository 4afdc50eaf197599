/**
 * Where a run stands, in one file: parameters, the optimiser's moments, the best parameters so far, and what is counted. It replaces the one
 * before it in a single step, so a run that is killed at any moment finds a whole one. Everything random is a function of the seed and the step,
 * and needs no place here.
 */
import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError } from '../errors.js';
import { toFloat32 } from '../tensor/convert.js';
import { SafetensorsFile, writeSafetensors } from '../tensor/safetensors.js';
import type { Tensor } from '../tensor/tensor.js';

const FORMAT = 'graft-checkpoint/1';

export interface Progress {
  /** Updates that are done. */
  readonly step: number;
  readonly best: { readonly step: number; readonly loss: number } | null;
  /** Evaluations since the best one. */
  readonly worse: number;
  /** Time spent, over all sittings, and caption tokens trained on. */
  readonly seconds: number;
  readonly tokens: number;
}

export interface Arrays {
  readonly values: Float32Array;
  readonly first: Float32Array;
  readonly second: Float32Array;
  /** Meaningless while there is no best step. */
  readonly best: Float32Array;
}

/** What has to be equal for a run to go on: settings and data, by name, as text. */
export type Identity = Readonly<Record<string, string>>;

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
    const { metadata } = file.header;
    if (metadata.get('format') !== FORMAT)
      throw AppError.ofFaults('invalid_file', path, [
        `Expected a checkpoint of ${FORMAT} but received ${metadata.get('format') ?? 'none'}`,
      ]);
    const theirs = JSON.parse(metadata.get('identity') ?? '{}') as Identity;
    const faults = Object.entries(identity)
      .filter(([name, value]) => theirs[name] !== value)
      .map(([name, value]) => `Expected ${name} to be ${theirs[name] ?? 'absent'}, as before, but received ${value}`);
    if (faults.length > 0) throw AppError.ofFaults('invalid_config', 'The run cannot be resumed with other settings', faults);
    for (const [name, values] of Object.entries(arrays) as [string, Float32Array][]) {
      const read = toFloat32(await file.read(name));
      if (read.length !== values.length)
        throw AppError.ofFaults('invalid_file', path, [
          `Expected ${name} of ${values.length} numbers but received ${read.length}`,
        ]);
      values.set(read);
    }
    return JSON.parse(metadata.get('progress') ?? '{}') as Progress;
  } finally {
    await file.close();
  }
}
