/** Real photos against the reference: the means in golden.json were computed by PyTorch and Pillow from the same files. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { readProcessor } from '../../src/backbone/vision/processor.js';
import { decodePixels } from '../../src/images/decode.js';

const data = new URL('../../../shared/data/', import.meta.url);
const here = existsSync(data);
if (!here) console.warn('../shared/data is not here: real photos are not tested');

const GOLDEN = z.array(z.object({ image: z.string(), pixel_mean: z.number() }));

describe.skipIf(!here)('real photos', () => {
  it('have the means that the reference measured', async () => {
    const golden = GOLDEN.parse(JSON.parse(readFileSync(new URL('reference-adapter/golden.json', data), 'utf8')));
    const { recipe, normalisation } = await readProcessor(fileURLToPath(new URL('mobilenet_v2_1.0_224', data)));
    expect(golden).toHaveLength(24);
    for (const { image, pixel_mean: expected } of golden) {
      const bytes = readFileSync(new URL(`flickr8k/dev/${image}`, data));
      const pixels = await decodePixels(bytes, recipe, { maxPixels: 64_000_000, timeoutMs: 20_000 });
      const mean = pixels.data.reduce((sum, value) => sum + value, 0) / pixels.data.length;
      const normalised = (mean * normalisation.rescale - normalisation.mean[0]) / normalisation.std[0];
      expect(Math.abs(normalised - expected), image).toBeLessThan(1e-4);
    }
  });
});
