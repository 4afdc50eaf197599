/** From an image file to what an encoder reads, against the image processors of transformers (fixtures/backbone/processors), every family's. */
import { expect, it } from 'vitest';
import { readVisionModel } from '../../../../src/backbone/vision/families.js';
import { featureCases, pixelCases, processorsOf } from '../../../support/families/cases.js';
import { pixelError } from '../../../support/families/measure.js';

/** A hundredth of what one level of a pixel is: the pixels are equal, and only their arithmetic is in another order. */
const TOLERANCE = 0.01 / 255;

const cases = pixelCases();

it('has what transformers makes of every case, eight pictures a processor, and processors of every family', async () => {
  expect(cases).toHaveLength(8 * 8);
  const processors = processorsOf();
  expect(new Set(Object.values(processors).flat())).toEqual(new Set(cases.map(({ name }) => name.split(' ')[0])));
  const families = await Promise.all(featureCases().map(({ folder }) => readVisionModel(folder)));
  expect([...new Set(families.map(({ family }) => family))].sort()).toEqual(Object.keys(processors).sort());
});

it.each(cases)('$name', async (one) => {
  const { error, shape } = await pixelError(one);
  expect(shape).toEqual(one.shape);
  expect(error).toBeLessThan(TOLERANCE);
});
