/**
 * Conversions against torch (halves.safetensors, made by test/fixtures/tensor/make.py) and, for float16, over all 65,536 values.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  bfloat16FromFloat32,
  float16FromFloat32,
  float32FromBfloat16,
  float32FromFloat16,
  toFloat32,
} from '../../../src/tensor/convert.js';
import type { DType } from '../../../src/tensor/dtype.js';
import { decodeSafetensors } from '../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../src/tensor/tensor.js';

let torch: Map<string, Tensor>;

beforeAll(async () => {
  const path = fileURLToPath(new URL('../../fixtures/tensor/halves.safetensors', import.meta.url));
  torch = decodeSafetensors(new Uint8Array(await readFile(path)), path).tensors;
});

function made(name: string): Tensor {
  const tensor = torch.get(name);
  if (tensor === undefined) throw new RangeError(`Expected the fixture to have ${name}`);
  return tensor;
}

function values(name: string): Float32Array {
  return toFloat32(made(name));
}

/** NaN payloads may differ between implementations; everything else must agree to the bit, the sign of zero included. */
function expectSameHalves(received: Uint16Array, expected: Tensor, infinity: number): void {
  const bits = new Uint16Array(expected.data.slice().buffer);
  expect(received.length).toBe(bits.length);
  for (const [i, wanted] of bits.entries()) {
    if ((wanted & 0x7fff) > infinity) expect((received[i] ?? 0) & 0x7fff, `element ${i}`).toBeGreaterThan(infinity);
    else expect(received[i], `element ${i}`).toBe(wanted);
  }
}

describe('against torch', () => {
  it('rounds float32 to float16', () => expectSameHalves(float16FromFloat32(values('f32')), made('f16'), 0x7c00));

  it('rounds float32 to bfloat16', () => expectSameHalves(bfloat16FromFloat32(values('f32')), made('bf16'), 0x7f80));

  it.each(['f16', 'bf16'])('widens %s', (name) => expect(values(name)).toEqual(values(`${name}_f32`)));
});

describe('float16', () => {
  it('comes back from float32 for every value there is', () => {
    const all = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);
    const back = float16FromFloat32(float32FromFloat16(all));
    const finite = all.filter((bits) => (bits & 0x7fff) <= 0x7c00);
    expect(finite.length).toBe(65_536 - 2 * 1023);
    expect(finite.every((bits) => back[bits] === bits)).toBe(true);
  });

  it('is the nearest there is', () => {
    fc.assert(
      fc.property(fc.float({ min: -65504, max: 65504, noNaN: true }), (value) => {
        const bits = float16FromFloat32(Float32Array.of(value))[0] ?? Number.NaN;
        const neighbours = [bits, bits - 1, bits + 1].filter((near) => (near & 0x7fff) < 0x7c00 && near >= 0);
        const distances = [...float32FromFloat16(Uint16Array.from(neighbours))].map((near) => Math.abs(near - value));
        expect(distances[0]).toBe(Math.min(...distances));
      }),
    );
  });
});

describe('bfloat16', () => {
  it('stays NaN where only the lower half of the payload is set', () => {
    const nan = new Float32Array(Uint32Array.of(0x7f80_0001).buffer);
    expect(float32FromBfloat16(bfloat16FromFloat32(nan))[0]).toBeNaN();
  });

  it('rounds beyond the largest number to infinity', () => {
    expect(float32FromBfloat16(bfloat16FromFloat32(Float32Array.of(3.4028234e38)))[0]).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('toFloat32', () => {
  it('views aligned float32 and copies unaligned', () => {
    const bytes = new Uint8Array(17);
    const view = toFloat32({ dtype: 'float32', shape: [2], data: bytes.subarray(4, 12) });
    const copy = toFloat32({ dtype: 'float32', shape: [2], data: bytes.subarray(1, 9) });
    bytes.fill(0x40);
    expect([...view]).toEqual([3.0039215087890625, 3.0039215087890625]);
    expect([...copy]).toEqual([0, 0]);
  });

  it('reads unaligned halves, from a Buffer too', () => {
    const bytes = Buffer.from([0xff, 0x00, 0x3c, 0x00, 0xc0]);
    expect([...toFloat32({ dtype: 'float16', shape: [2], data: bytes.subarray(1) })]).toEqual([1, -2]);
    const unaligned = Buffer.from(new Uint8Array([0, 0x80, 0x3f, 0x00, 0xc0]).buffer, 1);
    expect([...toFloat32({ dtype: 'bfloat16', shape: [2], data: unaligned })]).toEqual([1, -2]);
  });

  it.each<DType>(['float64', 'int8', 'int64', 'bool'])('refuses %s', (dtype) => {
    expect(() => toFloat32({ dtype, shape: [0], data: new Uint8Array(0) })).toThrow(RangeError);
  });
});
