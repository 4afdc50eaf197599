/** Vision families against transformers: how tests run an encoder, and the numbers that the fixtures' scripts make pictures of. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openWeights } from '../../src/backbone/backbone.js';
import type { VisionModel } from '../../src/backbone/vision/model.js';
import { Graph, type Value } from '../../src/onnx/graph.js';
import { float32, Session } from '../../src/runtime/session.js';
import { elements } from '../../src/tensor/tensor.js';

/** A run of a fixture: its checkpoint, what is changed in its config.json, and the size of the image. */
export interface VisionCase {
  readonly weights: string;
  readonly changes?: object;
  /** The checkpoint's own where absent. */
  readonly size?: readonly [number, number];
  /** Another activation, and what is chosen of the features; null where nothing is. */
  readonly act?: string | null;
  readonly layer?: number | 'last_hidden_state' | null;
  readonly select?: 'default' | 'full' | null;
}

/** What `read` makes of a checkpoint's config.json with changes. */
export async function changed<T>(folder: string, changes: object, read: (file: string) => Promise<T>): Promise<T> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'graft-config-'));
  try {
    const config = JSON.parse(await readFile(path.join(folder, 'config.json'), 'utf8')) as object;
    const file = path.join(scratch, 'config.json');
    await writeFile(file, JSON.stringify({ ...config, ...changes }));
    return await read(file);
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/** What `finish` names as results, for the features of images of one size, [images, 3, height, width]. */
export async function runEncoder(
  folder: string,
  model: VisionModel,
  pixels: Float32Array,
  shape: readonly number[],
  finish: (g: Graph, features: Value) => Readonly<Record<string, Value>>,
  images: 'images' | number = 'images',
): Promise<Map<string, Float32Array>> {
  const { checkpoint, weights } = await openWeights(folder);
  try {
    const g = new Graph();
    const features = await model.build(g, weights, g.input('pixels', 'float32', [images, ...shape.slice(1)]));
    const outputs = Object.entries(finish(g, features)).map(([name, value]) => g.output(name, value));
    const session = await Session.open(g.toModel(), { folder, threads: 1 });
    const wanted = Object.fromEntries(outputs.map(({ name }) => [name, null]));
    const results = await session.run({ pixels: float32(pixels, shape) }, wanted);
    await session.close();
    return new Map(Object.entries(results).map(([name, tensor]) => [name, tensor.data as Float32Array]));
  } finally {
    await checkpoint.close();
  }
}

/** The features of images, likewise. */
export async function encode(
  folder: string,
  model: VisionModel,
  pixels: Float32Array,
  shape: readonly number[],
  images?: number,
): Promise<Float32Array> {
  const results = await runEncoder(folder, model, pixels, shape, (_, features) => ({ features }), images);
  return results.get('features') as Float32Array;
}

/** make.py's numbers. */
export function wave(...shape: readonly number[]): Float32Array {
  return Float32Array.from({ length: elements(shape) }, (_, index) => ((index * 7919) % 256) / 127.5 - 1);
}

/** The largest distance between two lists, number by number; NaN, which no bound admits, where one is none or the lengths differ. */
export function furthest(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.NaN;
  return Array.from(a).reduce((worst, value, index) => {
    const distance = Math.abs(value - (b[index] as number));
    return distance <= worst ? worst : distance;
  }, 0);
}
