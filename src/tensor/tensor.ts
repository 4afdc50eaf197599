/**
 * A tensor at rest: a type, a shape and its bytes, row-major and little-endian, as safetensors stores it.
 */
import type { DType } from './dtype.js';

export interface Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Exactly product(shape) × DTYPE_BYTES[dtype] bytes. */
  readonly data: Uint8Array;
}

/** Product of the sizes; 1 for a scalar. Throws RangeError where it is not a safe integer. */
export function elements(shape: readonly number[]): number {
  let product = 1;
  for (const size of shape) product *= size;
  if (!Number.isSafeInteger(product))
    throw new RangeError(`Expected a shape of at most 2^53 elements but received [${shape.join(', ')}]`);
  return product;
}
