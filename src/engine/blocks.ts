/**
 * A checkpoint's matrices in 8 or 4 bits, as the tensors of a file. They are made a piece at a time: however large the checkpoint, a few megabytes
 * of it are in memory (and of a matrix of GPT-2's layout, which has to be turned, all that is made of it).
 */
import type { Matrix } from '../backbone/language/model.js';
import { parts, sizesOf } from '../backbone/quantized.js';
import { AppError } from '../errors.js';
import type { Checkpoint } from '../tensor/checkpoint.js';
import { toFloat32 } from '../tensor/convert.js';
import { type Blocks, emptyBlocks, quantize, type Scheme } from '../tensor/quantize.js';
import { elements, type Tensor } from '../tensor/tensor.js';

/** Numbers of a checkpoint that are in memory at once, about. */
const PIECE = 2 ** 20;
/** Bytes that float32 numbers lie on multiples of. */
const ALIGNMENT = 4;

/** In the file's order; the scales of a matrix are known when its blocks have been written. */
export function tensorsOf(matrices: readonly Matrix[], scheme: Scheme): (readonly [string, Omit<Tensor, 'data'>])[] {
  return matrices.flatMap((matrix) => {
    const { data, scales, zeroPoints } = sizesOf(matrix, scheme);
    const tensors: [string, Omit<Tensor, 'data'>][] = [[parts.data(matrix.name), { dtype: 'uint8', shape: data }]];
    if (zeroPoints) tensors.push([parts.zeroPoints(matrix.name), { dtype: 'uint8', shape: [aligned(elements(zeroPoints))] }]);
    return [...tensors, [parts.scales(matrix.name), { dtype: 'float32', shape: scales }] as const];
  });
}

/**
 * The bytes of those tensors, of matrices that the checkpoint has in these sizes. Throws AppError `invalid_file` where a number of one is
 * none.
 */
export async function* blocksOf(checkpoint: Checkpoint, matrices: readonly Matrix[], scheme: Scheme): AsyncGenerator<Uint8Array> {
  for (const matrix of matrices) {
    const made: Omit<Blocks, 'data'>[] = [];
    const all = matrix.layout === 'out_in' ? upright(checkpoint, matrix, scheme) : turned(checkpoint, matrix, scheme);
    for await (const { data, scales, zeroPoints } of all) {
      yield data;
      made.push({ scales, zeroPoints });
    }
    for (const { zeroPoints } of made) yield zeroPoints;
    const { zeroPoints } = sizesOf(matrix, scheme);
    if (zeroPoints) yield new Uint8Array(aligned(elements(zeroPoints)) - elements(zeroPoints));
    for (const { scales } of made) yield new Uint8Array(scales.buffer, scales.byteOffset, scales.byteLength);
  }
}

/** A matrix [out, in], some rows at a time. */
async function* upright(checkpoint: Checkpoint, matrix: Matrix, scheme: Scheme): AsyncGenerator<Blocks> {
  const { name, inFeatures, outFeatures } = matrix;
  const step = Math.max(1, Math.floor(PIECE / inFeatures));
  for (let first = 0; first < outFeatures; first += step) {
    const count = Math.min(step, outFeatures - first);
    const values = toFloat32(await checkpoint.readRows(name, first, count));
    const blocks = emptyBlocks(count, inFeatures, scheme);
    check(checkpoint, name, quantize(values, count, inFeatures, scheme, blocks));
    yield blocks;
  }
}

/** A matrix [in, out] at once: every row that is read adds to all rows of what is written. */
async function* turned(checkpoint: Checkpoint, matrix: Matrix, scheme: Scheme): AsyncGenerator<Blocks> {
  const { name, inFeatures, outFeatures } = matrix;
  const { block } = scheme;
  const step = block * Math.max(1, Math.floor(PIECE / (outFeatures * block)));
  const blocks = emptyBlocks(outFeatures, inFeatures, scheme);
  for (let first = 0; first < inFeatures; first += step) {
    const count = Math.min(step, inFeatures - first);
    const values = transposed(toFloat32(await checkpoint.readRows(name, first, count)), count, outFeatures);
    check(checkpoint, name, quantize(values, outFeatures, inFeatures, scheme, blocks, first / block));
  }
  yield blocks;
}

function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) result[column * rows + row] = values[row * columns + column] as number;
  return result;
}

function check({ folder }: Checkpoint, name: string, wrong: number | undefined): void {
  if (wrong !== undefined)
    throw AppError.ofFaults('invalid_file', folder, [`Expected ${name} to hold finite numbers but received ${wrong}`]);
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
