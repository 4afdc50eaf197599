/** Mirror images and parts of images, against loops that fetch one number at a time. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Alteration, alter } from '../../../src/images/alter.js';
import type { Raster } from '../../../src/images/resample.js';

const raster = (height: number, width: number, channels: number): Raster => ({
  data: Uint8Array.from({ length: height * width * channels }, (_, index) => (index * 37 + 11) % 251),
  height,
  width,
  channels,
});

/** The part [top, top + height) × [left, left + width) of an image, mirrored or not. */
function fetched(
  image: Raster,
  [top, left, height, width]: readonly [number, number, number, number],
  mirror: boolean,
): number[] {
  const numbers: number[] = [];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let channel = 0; channel < image.channels; channel++) {
        const column = left + (mirror ? width - 1 - x : x);
        numbers.push(image.data[((top + y) * image.width + column) * image.channels + channel] as number);
      }
  return numbers;
}

const fraction = fc.double({ min: 0, max: 1, noNaN: true });

describe('alter', () => {
  it('gives the image itself where nothing is to change', () => {
    const image = raster(2, 3, 3);
    expect(alter(image, { mirror: false, crop: null })).toBe(image);
  });

  it('mirrors left and right, not up and down, and leaves the original as it was', () => {
    const image: Raster = { data: Uint8Array.of(1, 2, 3, 4, 5, 6), height: 2, width: 3, channels: 1 };
    expect([...alter(image, { mirror: true, crop: null }).data]).toEqual([3, 2, 1, 6, 5, 4]);
    expect([...image.data]).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('takes the part that is meant, of whole pixels', () => {
    const image = raster(10, 20, 3);
    const part = alter(image, { mirror: false, crop: { top: 0.2, left: 0.25, height: 0.5, width: 0.7 } });
    expect(part).toMatchObject({ height: 5, width: 14, channels: 3 });
    expect([...part.data]).toEqual(fetched(image, [2, 5, 5, 14], false));
  });

  it('stays within the image and keeps a pixel at least, whatever the part (property)', () => {
    const size = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(size, size, fc.constantFrom(1, 3, 4), fc.boolean(), fraction, fraction, fraction, fraction, (...drawn) => {
        const [rows, columns, channels, mirror, h, w, y, x] = drawn;
        const image = raster(rows, columns, channels);
        const crop = { height: h, width: w, top: (1 - h) * y, left: (1 - w) * x };
        const altered = alter(image, { mirror, crop });
        const { height, width } = altered;
        expect(height).toBe(Math.max(1, Math.round(rows * h)));
        expect(width).toBe(Math.max(1, Math.round(columns * w)));
        const found = places(rows, height).some((top) =>
          places(columns, width).some(
            (left) =>
              // Within a pixel of where it is asked for.
              Math.abs(top - rows * crop.top) <= 1 &&
              Math.abs(left - columns * crop.left) <= 1 &&
              fetched(image, [top, left, height, width], mirror).join() === altered.data.join(),
          ),
        );
        expect(found).toBe(true);
      }),
    );
  });

  it('twice mirrored is as before', () => {
    const image = raster(3, 4, 4);
    const flip: Alteration = { mirror: true, crop: null };
    expect(alter(alter(image, flip), flip)).toEqual(image);
  });

  it.each([
    [1, 1],
    [1, 5],
    [5, 1],
  ])('of %d by %d pixels', (height, width) => {
    const image = raster(height, width, 3);
    const mirrored = alter(image, { mirror: true, crop: null });
    expect([...mirrored.data]).toEqual(fetched(image, [0, 0, height, width], true));
    const least = alter(image, { mirror: false, crop: { top: 1, left: 1, height: 0, width: 0 } });
    expect(least).toMatchObject({ height: 1, width: 1 });
    expect([...least.data]).toEqual([...image.data].slice(-3));
  });
});

/** Every place that a stretch of some size has within a size. */
const places = (size: number, stretch: number): number[] => Array.from({ length: size - stretch + 1 }, (_, place) => place);
