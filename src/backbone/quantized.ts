/**
 * A checkpoint whose matrices are multiplied by in 8 or 4 bits, from a file beside it that holds them in blocks. What is not multiplied by (a
 * table that is looked up, norms, biases) stays the checkpoint's own: it costs no memory there, and nothing is rounded that need not be.
 */
import path from 'node:path';
import type { Graph, Value } from '../onnx/graph.js';
import { quantizedLinear } from '../onnx/quantized.js';
import type { Checkpoint } from '../tensor/checkpoint.js';
import { type BlockSizes, blockSizes, type Scheme } from '../tensor/quantize.js';
import type { TensorEntry } from '../tensor/safetensors.js';
import { elements } from '../tensor/tensor.js';
import { type Matrix, plainProduct } from './language/model.js';
import { Weights } from './weights.js';

/** The tensors of a matrix in the file, by its name. */
export const parts = {
  data: (matrix: string) => `${matrix}.blocks`,
  zeroPoints: (matrix: string) => `${matrix}.zero_points`,
  scales: (matrix: string) => `${matrix}.scales`,
} as const;

/** A file of matrices in blocks. */
export interface BlockFile {
  /** Links followed. */
  readonly path: string;
  readonly scheme: Scheme;
  readonly entries: ReadonlyMap<string, TensorEntry>;
}

/** The sizes of a matrix in blocks: rows are what it gives, whatever the checkpoint's layout. */
export function sizesOf({ inFeatures, outFeatures }: Matrix, scheme: Scheme): BlockSizes {
  return blockSizes(outFeatures, inFeatures, scheme);
}

/** Notes which matrices a graph multiplies by, and computes with the checkpoint's own: what a file of blocks needs to hold. */
export class MatrixList extends Weights {
  readonly #found = new Map<string, Matrix>();

  /** In an order that depends on the names alone. */
  get matrices(): Matrix[] {
    return [...this.#found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  product(g: Graph, matrix: Matrix, x: Value): Value {
    this.#found.set(matrix.name, matrix);
    return plainProduct(g, this, matrix, x);
  }
}

export class QuantizedWeights extends Weights {
  readonly #file: BlockFile;

  /** `root`: a folder that both the checkpoint and the file lie in. */
  constructor(checkpoint: Checkpoint, root: string, file: BlockFile) {
    super(checkpoint, root);
    this.#file = file;
  }

  product(g: Graph, matrix: Matrix, x: Value): Value {
    const { scheme } = this.#file;
    const { name, inFeatures } = matrix;
    const sizes = sizesOf(matrix, scheme);
    return quantizedLinear(g, x, inFeatures, {
      bits: scheme.bits,
      block: scheme.block,
      data: this.#part(g, parts.data(name), 'uint8', sizes.data),
      scales: this.#part(g, parts.scales(name), 'float32', sizes.scales),
      zeroPoints: sizes.zeroPoints && this.#part(g, parts.zeroPoints(name), 'uint8', sizes.zeroPoints),
    });
  }

  #part(g: Graph, name: string, dtype: 'uint8' | 'float32', shape: readonly number[]): Value {
    const entry = this.#file.entries.get(name);
    if (!entry) throw new TypeError(`Expected ${this.#file.path} to hold ${name}`);
    const bytes = elements(shape) * (dtype === 'float32' ? 4 : 1);
    // The file has zero points at full length, so that what follows them lies on a multiple of four bytes.
    if (bytes > entry.bytes) throw new TypeError(`Expected ${name} to have ${bytes} bytes but it has ${entry.bytes}`);
    const location = path.relative(this.root, this.#file.path);
    return g.weight(name, dtype, shape, { location, offset: entry.offset, bytes });
  }
}
