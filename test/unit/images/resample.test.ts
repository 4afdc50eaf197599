/** What holds for every size; that the values are Pillow's is shown by reference.test.ts. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Resample } from '../../../src/backbone/vision/recipe.js';
import { shape } from '../../../src/images/geometry.js';
import { type Raster, resample } from '../../../src/images/resample.js';

const kinds: Resample[] = ['nearest', 'bilinear', 'bicubic', 'lanczos'];
const edge = fc.integer({ min: 1, max: 40 });

const raster = fc
  .record({ height: edge, width: edge, channels: fc.constantFrom(3, 4) })
  .chain(({ height, width, channels }) =>
    fc
      .uint8Array({ minLength: height * width * channels, maxLength: height * width * channels })
      .map((data): Raster => ({ data, height, width, channels })),
  );

const whole = (length: number) => ({ start: 0, length });

describe('resample', () => {
  it('leaves one colour as it is', () => {
    fc.assert(
      fc.property(
        edge,
        edge,
        edge,
        edge,
        fc.constantFrom(...kinds),
        fc.nat(255),
        (inHeight, inWidth, height, width, kind, value) => {
          const image = {
            data: new Uint8Array(inHeight * inWidth * 3).fill(value),
            height: inHeight,
            width: inWidth,
            channels: 3,
          };
          const { data } = resample(image, height, width, kind, whole(height), whole(width));
          expect(data).toEqual(new Uint8Array(height * width * 3).fill(value));
        },
      ),
    );
  });

  it('gives for a part exactly what the whole has there', () => {
    const part = fc.tuple(edge, fc.nat(), fc.nat()).map(([size, a, b]) => {
      const start = a % size;
      return { size, start, length: 1 + (b % (size - start)) };
    });
    fc.assert(
      fc.property(raster, part, part, fc.constantFrom(...kinds), (image, rows, columns, kind) => {
        const full = resample(image, rows.size, columns.size, kind, whole(rows.size), whole(columns.size));
        const expected: number[] = [];
        for (let y = rows.start; y < rows.start + rows.length; y++) {
          const row = (y * columns.size + columns.start) * 3;
          expected.push(...full.data.subarray(row, row + columns.length * 3));
        }
        const { data } = resample(image, rows.size, columns.size, kind, rows, columns);
        expect([...data]).toEqual(expected);
      }),
    );
  });

  it('gives the image itself at its own size, without its fourth channel', () => {
    fc.assert(
      fc.property(raster, fc.constantFrom(...kinds), (image, kind) => {
        const { data } = resample(image, image.height, image.width, kind, whole(image.height), whole(image.width));
        expect([...data]).toEqual([...image.data].filter((_, i) => i % image.channels < 3));
      }),
    );
  });
});

describe('shape', () => {
  it('computes no more than the crop of a thin image', () => {
    // Resized whole, this would be 224 × 14 million pixels.
    const image = { data: new Uint8Array(65_535 * 3).fill(9), height: 1, width: 65_535, channels: 3 };
    const size = { height: 224, width: 224 };
    const pixels = shape(image, { resize: { kind: 'shortest_edge', edge: 224 }, resample: 'bicubic', crop: size, ...size });
    expect(Buffer.alloc(224 * 224 * 3, 9).equals(pixels)).toBe(true);
  });

  it('refuses a recipe that does not lead to its own size', () => {
    const image = { data: new Uint8Array(12), height: 2, width: 2, channels: 3 };
    const recipe = { resize: null, resample: 'bilinear', crop: null, height: 2, width: 3 } as const;
    expect(() => shape(image, recipe)).toThrow(
      new RangeError('Expected a recipe that leads to 2 × 3 pixels but it leads to 2 × 2'),
    );
  });
});
