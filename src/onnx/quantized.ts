/** Products with weights of 8 or 4 bits, which onnxruntime multiplies as they are. Refusals are those of ops.ts. */
import type { Graph, Value } from './graph.js';
import { MICROSOFT, one, refuse } from './ops.js';
import { sameShape } from './shape.js';

/** onnxruntime's own word for products of 8-bit integers: x is rounded to 8 bits too, a scale for each block of each of its rows. */
const INTEGER_PRODUCTS = 4;

export interface QuantizedMatrix {
  readonly bits: number;
  readonly block: number;
  readonly data: Value; // uint8 [out, blocks, block · bits / 8]
  readonly scales: Value; // float32 [out, blocks]
  readonly zeroPoints: Value | null; // uint8 [out, ⌈blocks · bits / 8⌉]
}

/** x [..., in] · Wᵀ with W [out, in] in blocks of its rows → [..., out], float32. */
export function quantizedLinear(g: Graph, x: Value, inFeatures: number, matrix: QuantizedMatrix): Value {
  const { bits, block, data, scales, zeroPoints } = matrix;
  const outFeatures = Number(data.shape[0]);
  const blocks = Math.ceil(inFeatures / block);
  if (
    x.dtype !== 'float32' ||
    x.shape.length < 2 ||
    x.shape.at(-1) !== inFeatures ||
    data.dtype !== 'uint8' ||
    !sameShape(data.shape, [outFeatures, blocks, (block * bits) / 8]) ||
    scales.dtype !== 'float32' ||
    !sameShape(scales.shape, [outFeatures, blocks]) ||
    (zeroPoints && (zeroPoints.dtype !== 'uint8' || !sameShape(zeroPoints.shape, [outFeatures, Math.ceil((blocks * bits) / 8)])))
  ) {
    refuse(
      'MatMulNBits',
      `float32 [..., ${inFeatures}], uint8 [out, ${blocks}, ${(block * bits) / 8}] and float32 [out, ${blocks}]`,
      ...[x, data, scales, zeroPoints].filter((value) => value !== null),
    );
  }
  return one(
    g.node(
      'MatMulNBits',
      zeroPoints ? [x, data, scales, zeroPoints] : [x, data, scales],
      [{ dtype: 'float32', shape: [...x.shape.slice(0, -1), outFeatures] }],
      { K: inFeatures, N: outFeatures, bits, block_size: block, accuracy_level: INTEGER_PRODUCTS },
      MICROSOFT,
    ),
  );
}
