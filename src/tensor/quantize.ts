/**
 * Weights in 8 or 4 bits: a scale, and where asked for a zero point, for every block of a row. w ≈ (q − zero) · scale with q unsigned; without
 * zero points, zero is the middle of q's range. The bytes are those that onnxruntime's MatMulNBits reads
 * (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits), so that a file of them is computed with as it lies.
 */

export interface Scheme {
  readonly bits: 4 | 8;
  /** Numbers that share a scale: a power of two, at least 16. */
  readonly block: number;
  readonly zeroPoints: boolean;
}

/** Sizes of a matrix [rows, columns] in blocks; the last block of a row is filled up. */
export interface BlockSizes {
  readonly blocks: number;
  readonly data: readonly [rows: number, blocks: number, bytes: number];
  readonly scales: readonly [rows: number, blocks: number];
  /** Two nibbles a byte for 4 bits; null without zero points. */
  readonly zeroPoints: readonly [rows: number, bytes: number] | null;
}

export interface Blocks {
  readonly data: Uint8Array;
  readonly scales: Float32Array;
  /** Empty without zero points. */
  readonly zeroPoints: Uint8Array;
}

export function blockSizes(rows: number, columns: number, { bits, block, zeroPoints }: Scheme): BlockSizes {
  const blocks = Math.ceil(columns / block);
  return {
    blocks,
    data: [rows, blocks, (block * bits) / 8],
    scales: [rows, blocks],
    zeroPoints: zeroPoints ? [rows, Math.ceil((blocks * bits) / 8)] : null,
  };
}

/** Room for the blocks of a matrix. */
export function emptyBlocks(rows: number, columns: number, scheme: Scheme): Blocks {
  const { data, scales, zeroPoints } = blockSizes(rows, columns, scheme);
  return {
    data: new Uint8Array(data[0] * data[1] * data[2]),
    scales: new Float32Array(scales[0] * scales[1]),
    zeroPoints: new Uint8Array(zeroPoints ? zeroPoints[0] * zeroPoints[1] : 0),
  };
}

/**
 * Rounds some whole blocks of every row to nearest: values [rows, n], into blocks of a matrix of `columns` columns, from block `first` of each
 * row on. Gives a number that is none (NaN or infinity) back where there is one: nothing can stand for it.
 */
export function quantize(
  values: Float32Array,
  rows: number,
  columns: number,
  scheme: Scheme,
  into: Blocks,
  first = 0,
): number | undefined {
  const { block, bits, zeroPoints: hasZeros } = scheme;
  const width = values.length / rows;
  const sizes = blockSizes(rows, columns, scheme);
  const [, , blobBytes] = sizes.data;
  const zeroBytes = sizes.zeroPoints?.[1] ?? 0;
  const top = 2 ** bits - 1;
  const middle = 2 ** (bits - 1);
  const { data, scales, zeroPoints } = into;
  for (let row = 0; row < rows; row++) {
    const end = (row + 1) * width;
    let index = first;
    for (let from = row * width; from < end; from += block, index++) {
      const to = Math.min(from + block, end);
      let low = 0;
      let high = 0;
      let total = 0;
      for (let at = from; at < to; at++) {
        const value = values[at] as number;
        total += value;
        if (value < low) low = value;
        else if (value > high) high = value;
      }
      if (!Number.isFinite(total)) return values.subarray(from, to).find((value) => !Number.isFinite(value));

      // Rounded as it will be read: with a scale of more digits, the largest number could round past the range.
      const scale = Math.fround(hasZeros ? (high - low) / top : Math.max(high, -low) / (middle - 1));
      const inverse = scale > 0 ? 1 / scale : 0;
      const zero = hasZeros ? Math.min(top, Math.round(-low * inverse)) : middle;
      scales[row * sizes.blocks + index] = scale;
      if (hasZeros) {
        const at = row * zeroBytes + ((index * bits) >> 3);
        zeroPoints[at] = (zeroPoints[at] as number) | (zero << ((index * bits) & 7));
      }
      const blob = (row * sizes.blocks + index) * blobBytes;
      for (let at = 0; at < block; at++) {
        const value = from + at < to ? (values[from + at] as number) : 0;
        // Never negative, so that cutting off is rounding down.
        const q = Math.min(top, (value * inverse + zero + 0.5) | 0);
        if (bits === 8) data[blob + at] = q;
        else data[blob + (at >> 1)] = (data[blob + (at >> 1)] as number) | (q << ((at & 1) * 4));
      }
    }
  }
  return undefined;
}
