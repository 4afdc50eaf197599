/** A checkpoint's tensors as values of a graph: by reference, shared, widened, and every fault at once. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Weights } from '../../../src/backbone/weights.js';
import type { AppError } from '../../../src/errors.js';
import { Graph } from '../../../src/onnx/graph.js';
import { Checkpoint } from '../../../src/tensor/checkpoint.js';
import { float16FromFloat32, toFloat32 } from '../../../src/tensor/convert.js';
import { writeSafetensors } from '../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../src/tensor/tensor.js';
import { Gaussian, tensor } from '../../support/tiny.js';

const values = new Gaussian(3).array(12, 1);
const halves: Tensor = { dtype: 'float16', shape: [3, 4], data: new Uint8Array(float16FromFloat32(values).buffer) };
let folder: string;
let checkpoint: Checkpoint;
let weights: Weights;
let g: Graph;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-weights-'));
  const tensors: [string, Tensor][] = [
    ['full', tensor([3, 4], values)],
    ['half', halves],
    ['count', { dtype: 'int64', shape: [], data: new Uint8Array(8) }],
  ];
  await writeSafetensors(path.join(folder, 'model.safetensors'), tensors);
  checkpoint = await Checkpoint.open(folder);
  checkpoint.alias('full', 'tied');
});

beforeEach(() => {
  weights = new Weights(checkpoint);
  g = new Graph();
});

afterAll(async () => {
  await checkpoint.close();
  await rm(folder, { recursive: true });
});

function faults(): readonly string[] | undefined {
  try {
    weights.check();
    return undefined;
  } catch (error) {
    const file = path.join(folder, 'model.safetensors');
    expect(error).toMatchObject({
      name: 'AppError',
      code: 'invalid_file',
      message: expect.stringContaining(`${file}: Expected`) as string,
    });
    return (error as AppError).faults;
  }
}

describe('value', () => {
  it('points at the tensor’s own bytes in the checkpoint’s file', async () => {
    const value = weights.value(g, 'full', [3, 4]);
    expect(value).toEqual({ name: 'full', dtype: 'float32', shape: [3, 4] });
    const data = g.initializers.get('full')?.data;
    if (!data || data instanceof Uint8Array) throw new TypeError('Expected a reference');
    expect(data).toMatchObject({ location: 'model.safetensors', bytes: 48 });
    const file = await readFile(path.join(folder, data.location));
    expect(file.subarray(data.offset, data.offset + data.bytes)).toEqual(Buffer.from(values.buffer));
    expect(faults()).toBeUndefined();
  });

  it('widens halves in the graph', () => {
    expect(weights.value(g, 'half', [3, 4])).toMatchObject({ dtype: 'float32', shape: [3, 4] });
    expect(g.initializers.get('half')?.value.dtype).toBe('float16');
    expect(g.nodes.map(({ op }) => op)).toEqual(['Cast']);
  });

  it('is one value, however often and under whichever tied name it is asked for', () => {
    const first = weights.value(g, 'full', [3, 4]);
    expect(weights.value(g, 'tied', [3, 4])).toBe(first);
    weights.value(g, 'half', [3, 4]);
    weights.value(g, 'half', [3, 4]);
    expect([...g.initializers.keys()]).toEqual(['full', 'half']);
  });

  it('stands for a tensor that is missing, so that a build meets all faults, each once', () => {
    expect(weights.value(g, 'absent', [2 ** 30, 2 ** 30])).toMatchObject({ dtype: 'float32', shape: [2 ** 30, 2 ** 30] });
    weights.value(g, 'absent', [2 ** 30, 2 ** 30]);
    weights.value(g, 'full', [4, 3]);
    weights.value(g, 'half', [12]);
    weights.value(g, 'count', []);
    expect(faults()).toEqual([
      'Expected a tensor absent of [1073741824, 1073741824] but the checkpoint has none',
      'Expected full to be [4, 3] but received [3, 4]',
      'Expected half to be [12] but received [3, 4]',
      'Expected count to be float32, float16 or bfloat16 but received int64',
    ]);
  });
});

describe('rows', () => {
  it('are widened after they were looked up', () => {
    const ids = g.input('ids', 'int64', ['n']);
    expect(weights.rows(g, 'half', [3, 4], ids)).toMatchObject({ dtype: 'float32', shape: ['n', 4] });
    expect(g.nodes.map(({ op }) => op)).toEqual(['Gather', 'Cast']);
    weights.rows(g, 'full', [3, 4], ids);
    expect(g.nodes.map(({ op }) => op)).toEqual(['Gather', 'Cast', 'Gather']);
    expect(faults()).toBeUndefined();
  });

  it('of a table that is missing are a fault like any other', () => {
    weights.rows(g, 'absent', [5, 4], g.input('ids', 'int64', ['n']));
    expect(faults()).toEqual(['Expected a tensor absent of [5, 4] but the checkpoint has none']);
  });
});

describe('read', () => {
  it('gives the numbers in float32', async () => {
    expect(await weights.read('full', [3, 4])).toEqual(values);
    expect(await weights.read('half', [3, 4])).toEqual(toFloat32(halves));
    expect(weights.has('tied')).toBe(true);
    expect(weights.has('absent')).toBe(false);
  });

  it('refuses with every fault that was met before it', async () => {
    weights.expect('absent', [1]);
    weights.expect('full', [3, 4]);
    await expect(weights.read('half', [4, 3])).rejects.toMatchObject({
      code: 'invalid_file',
      faults: ['Expected a tensor absent of [1] but the checkpoint has none', 'Expected half to be [4, 3] but received [3, 4]'],
    });
  });
});
