/**
 * A checkpoint's tensors as graph values. Large weights enter by reference (the runtime maps the file); small ones that a build
 * changes (a folded BatchNorm) are read. Faults are collected: `check()` after a build names every tensor that is missing or misshapen.
 */
import path from 'node:path';
import { AppError } from '../errors.js';
import type { Graph, Value } from '../onnx/graph.js';
import { cast } from '../onnx/ops.js';
import type { Checkpoint } from '../tensor/checkpoint.js';
import { toFloat32 } from '../tensor/convert.js';
import { elements } from '../tensor/tensor.js';

const COMPUTE = 'float32';

export class Weights {
  readonly #folder: string;
  readonly #checkpoint: Checkpoint;
  readonly #faults = new Set<string>();
  /** Bytes of the weights that the graph refers to. */
  bytes = 0;

  constructor(folder: string, checkpoint: Checkpoint) {
    this.#folder = folder;
    this.#checkpoint = checkpoint;
  }

  has(name: string): boolean {
    return this.#checkpoint.has(name);
  }

  /** The tensor as a float32 value of the graph, straight from the file; half-precision weights are widened by the graph. */
  value(g: Graph, name: string, shape: readonly number[]): Value {
    const entry = this.#entry(name, shape);
    if (!entry) return g.constant(null, COMPUTE, shape, new Uint8Array(elements(shape) * 4));
    if (!g.initializers.has(entry.name)) this.bytes += entry.bytes;
    const location = path.relative(this.#folder, entry.path);
    return cast(g, g.weight(entry.name, entry.dtype, shape, { location, offset: entry.offset, bytes: entry.bytes }), COMPUTE);
  }

  /** The tensor's numbers, for a build that computes with them. */
  async read(name: string, shape: readonly number[]): Promise<Float32Array> {
    return this.#entry(name, shape) ? toFloat32(await this.#checkpoint.read(name)) : new Float32Array(elements(shape));
  }

  /** Throws one `invalid_file` for all faults that the build met. */
  check(): void {
    if (this.#faults.size > 0) throw AppError.ofFaults('invalid_file', this.#folder, [...this.#faults]);
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
    return entry;
  }
}
