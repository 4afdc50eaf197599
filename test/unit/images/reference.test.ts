/** Every fixture, against what transformers and Pillow made of it (see test/fixtures/images/make.py): equal to the bit. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { decodePixels } from '../../../src/images/decode.js';

const folder = new URL('../../fixtures/images/', import.meta.url);

const size = { height: z.int(), width: z.int() };
const cases = z
  .object({
    cases: z.array(
      z.object({
        file: z.string(),
        recipe: z.object({
          resize: z
            .union([
              z.object({ kind: z.literal('exact'), ...size }),
              z.object({ kind: z.literal('shortest_edge'), edge: z.int() }),
            ])
            .nullable(),
          resample: z.enum(['nearest', 'bilinear', 'bicubic', 'lanczos']),
          crop: z.object(size).nullable(),
          ...size,
        }),
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('cases.json', folder), 'utf8'))).cases;

const expected = readFileSync(new URL('expected.bin', folder));
/** Each case's expected pixels. */
let end = 0;
const wants = cases.map(({ recipe }) => {
  const start = end;
  end += recipe.height * recipe.width * 3;
  return expected.subarray(start, end);
});

describe('decodePixels, against transformers', () => {
  it('has all expected pixels', () => {
    expect(end).toBe(expected.length);
    expect(cases.length).toBeGreaterThan(100);
  });

  for (const [index, { file, recipe }] of cases.entries()) {
    const { resize, crop } = recipe;
    const how = resize
      ? `${JSON.stringify(resize)}, ${recipe.resample}, ${crop ? `crop ${crop.height} × ${crop.width}` : 'no crop'}`
      : 'as it is';
    it(`${file}: ${how}`, async () => {
      const pixels = await decodePixels(readFileSync(new URL(file, folder)), recipe, { maxPixels: 1e6, timeoutMs: 10_000 });
      const want = wants[index] ?? Buffer.alloc(0);
      expect(Buffer.compare(pixels.data, want), difference(pixels.data, want)).toBe(0);
      expect([pixels.height, pixels.width]).toEqual([recipe.height, recipe.width]);
    });
  }
});

function difference(received: Uint8Array, want: Uint8Array): string {
  const errors = Array.from(received, (value, i) => Math.abs(value - (want[i] ?? 0)));
  return `${errors.filter((error) => error > 0).length} of ${errors.length} values differ, by up to ${Math.max(...errors)}`;
}
