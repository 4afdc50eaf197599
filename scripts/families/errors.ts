/** The largest error of each family in each respect, over all of its fixtures. */
import { readVisionModel } from '../../src/backbone/vision/families.js';
import {
  adaptedCases,
  featureCases,
  featureGradients,
  languageCases,
  pixelCases,
  processorsOf,
} from '../../test/support/families/cases.js';
import {
  adaptedError,
  decodeError,
  featureGradientError,
  featuresError,
  gradientError,
  logitsError,
  pixelError,
  worst,
} from '../../test/support/families/measure.js';

/** By family and column; what has no number has no entry. */
export type Errors = ReadonlyMap<string, number>;

export const keyOf = (family: string, column: string): string => `${family} ${column}`;

export async function measureAll(onProgress: (what: string) => void): Promise<Errors> {
  const found = new Map<string, number[]>();
  const add = async (family: string, column: string, measure: () => Promise<number>): Promise<void> => {
    onProgress(`${family} ${column}`);
    const key = keyOf(family, column);
    found.set(key, [...(found.get(key) ?? []), await measure()]);
  };
  for (const one of languageCases()) {
    await add(one.type, 'logits', () => logitsError(one));
    await add(one.type, 'decode', () => decodeError(one));
  }
  for (const one of adaptedCases()) {
    await add(one.type, one.method, async () => (await adaptedError(one)).error);
    await add(one.type, 'gradients', () => gradientError(one));
  }
  for (const one of featureCases()) await add((await readVisionModel(one.folder)).family, 'features', () => featuresError(one));
  for (const one of featureGradients()) await add(one.type, 'gradients', () => featureGradientError(one));
  const pixels = pixelCases();
  for (const [family, processors] of Object.entries(processorsOf()))
    for (const one of pixels.filter(({ name }) => processors.includes(name.split(' ')[0] ?? '')))
      await add(family, 'pixels', async () => (await pixelError(one)).error);
  return new Map([...found].map(([key, errors]) => [key, worst(errors)]));
}
