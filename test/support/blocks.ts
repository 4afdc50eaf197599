/** What weights in blocks stand for, number by number as MatMulNBits defines it: (q − zero) · scale. */
import type { Blocks, Scheme } from '../../src/tensor/quantize.js';

/** The matrix [rows, columns] in float32, which holds each of the products. */
export function dequantize(blocks: Blocks, rows: number, columns: number, { bits, block, zeroPoints }: Scheme): Float32Array {
  const count = Math.ceil(columns / block);
  // `bits` of a row of bytes, the lowest first.
  const field = (bytes: Uint8Array, row: number, rowBytes: number, index: number): number =>
    bits === 8
      ? (bytes[row * rowBytes + index] as number)
      : ((bytes[row * rowBytes + Math.floor(index / 2)] as number) >> (index % 2 === 0 ? 0 : 4)) & 15;
  return Float32Array.from({ length: rows * columns }, (_, at) => {
    const row = Math.floor(at / columns);
    const column = at % columns;
    const index = Math.floor(column / block);
    const q = field(blocks.data, row, (count * block * bits) / 8, column);
    const zero = zeroPoints ? field(blocks.zeroPoints, row, Math.ceil((count * bits) / 8), index) : 2 ** (bits - 1);
    return (q - zero) * (blocks.scales[row * count + index] as number);
  });
}
