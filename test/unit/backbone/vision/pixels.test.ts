/** From an image file to what an encoder reads, against CLIP's and SigLIP's image processors in transformers (fixtures/backbone/processors). */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { normalise } from '../../../../src/backbone/vision/encoder.js';
import { parseProcessor } from '../../../../src/backbone/vision/processor.js';
import { decodePixels } from '../../../../src/images/decode.js';
import { Graph } from '../../../../src/onnx/graph.js';
import { Session, uint8 } from '../../../../src/runtime/session.js';
import { toFloat32 } from '../../../../src/tensor/convert.js';
import { decodeSafetensors } from '../../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../../src/tensor/tensor.js';
import { furthest } from '../../../support/vision.js';

const FIXTURES = fileURLToPath(new URL('../../../fixtures/', import.meta.url));
/** A hundredth of what one level of a pixel is: the pixels are equal, and only their arithmetic is in another order. */
const TOLERANCE = 0.01 / 255;

const { pictures, processors } = JSON.parse(await readFile(`${FIXTURES}backbone/processors/cases.json`, 'utf8')) as {
  readonly pictures: readonly string[];
  readonly processors: Readonly<Record<string, object>>;
};
const cases = Object.entries(processors).flatMap(([processor, config]) =>
  pictures.map((picture) => ({ name: `${processor} ${picture}`, picture, config })),
);
const expected = decodeSafetensors(await readFile(`${FIXTURES}backbone/processors/expected.safetensors`), 'expected').tensors;

it('has what transformers makes of every case', () => {
  expect([...expected.keys()].sort()).toEqual(cases.map(({ name }) => name).sort());
  expect(cases).toHaveLength(32);
});

it.each(cases)('$name', async ({ name, picture, config }) => {
  const { recipe, normalisation } = parseProcessor(config, name);
  const limits = { maxPixels: 1e6, timeoutMs: 60_000 };
  const { data } = await decodePixels(await readFile(`${FIXTURES}images/${picture}`), recipe, limits);
  const { height, width } = recipe;
  const g = new Graph();
  const pixels = g.input('pixels', 'uint8', [1, height, width, 3]);
  g.output('normal', normalise(g, pixels, normalisation));
  const session = await Session.open(g.toModel(), { folder: FIXTURES, threads: 1 });
  const { normal } = await session.run({ pixels: uint8(data, [1, height, width, 3]) }, { normal: null });
  await session.close();
  expect([3, height, width]).toEqual(expected.get(name)?.shape);
  expect(furthest(normal?.data as Float32Array, toFloat32(expected.get(name) as Tensor))).toBeLessThan(TOLERANCE);
});
