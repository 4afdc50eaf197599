/**
 * Half-width floats to float32 and back. Checkpoints come in float16 or bfloat16; arithmetic here is float32.
 * Reading is a table look-up (every float16 there is fits in 256 KB), a hundred times faster than computing each value;
 * writing rounds to nearest, ties to even, as IEEE 754 and every training framework do.
 * Typed arrays have the machine's byte order, and every platform that onnxruntime ships for is little-endian, as safetensors is.
 */
import type { Tensor } from './tensor.js';

/**
 * The tensor's values in float32, row-major. float32 bytes on a 4-byte boundary are viewed, not copied: treat the result as read-only.
 * Throws RangeError for a dtype other than float32, float16 and bfloat16.
 */
export function toFloat32({ dtype, data }: Tensor): Float32Array {
  switch (dtype) {
    case 'float32': {
      const { buffer, byteOffset, byteLength } = aligned(data, 4);
      return new Float32Array(buffer, byteOffset, byteLength / 4);
    }
    case 'float16':
      return float32FromFloat16(halves(data));
    case 'bfloat16':
      return float32FromBfloat16(halves(data));
    default:
      throw new RangeError(`Expected a tensor of float32, float16 or bfloat16 but received ${dtype}`);
  }
}

export function float32FromFloat16(bits: Uint16Array): Float32Array {
  float16Table ??= makeFloat16Table();
  const table = float16Table;
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = table[bits[i] ?? 0] ?? 0;
  return values;
}

export function float32FromBfloat16(bits: Uint16Array): Float32Array {
  const wide = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) wide[i] = (bits[i] ?? 0) << 16;
  return new Float32Array(wide.buffer);
}

/** What a trained tensor can be written as. */
export const WRITTEN_DTYPES = ['float32', 'float16', 'bfloat16'] as const;
export type WrittenDType = (typeof WRITTEN_DTYPES)[number];

/** float32 values as a tensor of a dtype, rounded to nearest; float32 itself is viewed, not copied. */
export function fromFloat32(values: Float32Array, shape: readonly number[], dtype: WrittenDType): Tensor {
  const stored = dtype === 'float32' ? values : dtype === 'float16' ? float16FromFloat32(values) : bfloat16FromFloat32(values);
  return { dtype, shape, data: new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength) };
}

/** float16 bits, rounded to nearest even; what is too large becomes infinity, NaN stays NaN. */
export function float16FromFloat32(values: Float32Array): Uint16Array {
  const bits = bitsOf(values);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const wide = bits[i] ?? 0;
    halves[i] = ((wide >>> 16) & 0x8000) | float16Magnitude(wide & 0x7fff_ffff, values[i] ?? 0);
  }
  return halves;
}

/** bfloat16 bits, rounded to nearest even; NaN stays NaN. */
export function bfloat16FromFloat32(values: Float32Array): Uint16Array {
  const bits = bitsOf(values);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const wide = bits[i] ?? 0;
    // The quiet bit keeps a NaN whose payload lies in the lower half from turning into infinity.
    const isNan = (wide & 0x7fff_ffff) > FLOAT32_INFINITY;
    halves[i] = isNan ? (wide >>> 16) | 0x0040 : (wide + 0x7fff + ((wide >>> 16) & 1)) >>> 16;
  }
  return halves;
}

const FLOAT32_INFINITY = 0x7f80_0000;
/** 65520: halfway between the largest float16 and the next power of two; from here on the nearest is infinity. */
const FLOAT16_OVERFLOW = 0x477f_f000;
/** 2^-14: float16 is subnormal below. */
const FLOAT16_NORMAL = 0x3880_0000;

/** Float16 bits without sign of a float32, given as bits without sign and as the value. */
function float16Magnitude(bits: number, value: number): number {
  if (bits > FLOAT32_INFINITY) return 0x7e00 | ((bits >>> 13) & 0x3ff);
  if (bits >= FLOAT16_OVERFLOW) return 0x7c00;
  if (bits >= FLOAT16_NORMAL) {
    // Exponent bias 127 to 15, then round the 13 bits that go; a carry moves on into the exponent, as it should.
    const rebiased = bits - 0x3800_0000;
    return (rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13;
  }
  const steps = Math.abs(value) * 2 ** 24; // exact: subnormals are multiples of 2^-24
  const floor = Math.floor(steps);
  const rest = steps - floor;
  return floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0);
}

let float16Table: Float32Array | undefined;

function makeFloat16Table(): Float32Array {
  const table = new Float32Array(65_536);
  for (let bits = 0; bits < table.length; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >>> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0x1f) table[bits] = fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    else if (exponent === 0) table[bits] = sign * fraction * 2 ** -24;
    else table[bits] = sign * (1024 + fraction) * 2 ** (exponent - 25);
  }
  return table;
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

function halves(data: Uint8Array): Uint16Array {
  const { buffer, byteOffset, byteLength } = aligned(data, 2);
  return new Uint16Array(buffer, byteOffset, byteLength / 2);
}

/** The same bytes where a wider typed array can view them: a copy where the offset is not a multiple of `bytes`. */
function aligned(data: Uint8Array, bytes: number): Uint8Array {
  // Uint8Array's own slice, because Buffer overrides it with one that does not copy.
  return data.byteOffset % bytes === 0 ? data : Uint8Array.prototype.slice.call(data);
}
