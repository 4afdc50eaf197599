/**
 * A checkpoint's tensors as graph values. Large weights enter by reference (the runtime maps the file); half-precision ones are widened by the
 * graph, which makes a copy of each, but not of a table that is only looked up. Small ones that a build changes (a folded BatchNorm) are read.
 * Faults are collected: `check()` names every tensor that is missing or misshapen. A shape comes from config.json, so nothing of its size is
 * allocated before a tensor of that size has been found.
 */
import path from 'node:path';
import type { Graph, Value } from '../onnx/graph.js';
import { cast, gather } from '../onnx/ops.js';
import type { Checkpoint, StoredTensor } from '../tensor/checkpoint.js';
import { toFloat32 } from '../tensor/convert.js';
import { Faults } from '../tensor/faults.js';
import type { WeightSource } from './language/model.js';

const COMPUTE = 'float32';

export class Weights implements WeightSource {
  readonly #checkpoint: Checkpoint;
  readonly #faults = new Set<string>();
  /** By the name in the file. */
  readonly #used = new Map<string, StoredTensor>();
  /** What the graph's references are relative to: a session needs it. */
  readonly root: string;

  /** `root`: a folder that the checkpoint's files lie in, however deep. */
  constructor(checkpoint: Checkpoint, root = checkpoint.root) {
    this.root = root;
    this.#checkpoint = checkpoint;
  }

  /** The tensors that were asked for and are as they should be, a tied one once. */
  get used(): readonly StoredTensor[] {
    return [...this.#used.values()];
  }

  /** Names of those that nobody asked for. */
  get unused(): readonly string[] {
    return this.#checkpoint.names().filter((name) => !this.#used.has(name));
  }

  has(name: string): boolean {
    return this.#checkpoint.has(name);
  }

  /** The tensor as a float32 value of the graph, straight from the file; half-precision weights are widened by the graph. */
  value(g: Graph, name: string, shape: readonly number[]): Value {
    return cast(g, this.#stored(g, name, shape), COMPUTE);
  }

  /** Rows of a table: those of half precision are widened after they were looked up, so that there is no wide table. */
  rows(g: Graph, name: string, shape: readonly [number, number], ids: Value): Value {
    return cast(g, gather(g, this.#stored(g, name, shape), ids), COMPUTE);
  }

  /** Notes a fault where there is no such tensor: a build that reads many asks for all of them first. */
  expect(name: string, shape: readonly number[]): void {
    this.#entry(name, shape);
  }

  /** The tensor's numbers, for a build that computes with them. Throws like `check()`. */
  async read(name: string, shape: readonly number[]): Promise<Float32Array> {
    this.expect(name, shape);
    this.check();
    return toFloat32(await this.#checkpoint.read(name));
  }

  /** Throws one `invalid_file` for all faults met so far. */
  check(): void {
    const faults = new Faults();
    for (const fault of this.#faults) faults.add(fault);
    faults.check('invalid_file', this.#checkpoint.file);
  }

  /** The tensor in the file's own precision. */
  #stored(g: Graph, name: string, shape: readonly number[]): Value {
    const entry = this.#entry(name, shape);
    // A value that no graph has: the build goes on to meet the other faults, and `check()` refuses it.
    if (!entry) return { name, dtype: COMPUTE, shape };
    const location = path.relative(this.root, entry.path);
    return g.weight(entry.name, entry.dtype, shape, { location, offset: entry.offset, bytes: entry.bytes });
  }

  #entry(name: string, shape: readonly number[]) {
    const entry = this.#checkpoint.entry(name);
    if (!entry) {
      this.#faults.add(`Expected a tensor ${name} of [${shape.join(', ')}] but the checkpoint has none`);
      return undefined;
    }
    if (!['float32', 'float16', 'bfloat16'].includes(entry.dtype)) {
      this.#faults.add(`Expected ${name} to be float32, float16 or bfloat16 but received ${entry.dtype}`);
      return undefined;
    }
    if (entry.shape.length !== shape.length || entry.shape.some((size, axis) => size !== shape[axis])) {
      this.#faults.add(`Expected ${name} to be [${shape.join(', ')}] but received [${entry.shape.join(', ')}]`);
      return undefined;
    }
    this.#used.set(entry.name, entry);
    return entry;
  }
}
