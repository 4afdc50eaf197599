/** Activations that are computed again are the same to the bit, dropout included: that is why a run may resume with or without `--recompute`. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type AdapterPlan, resolvePlan } from '../../../src/adapter/plan.js';
import { type BackboneDescription, describeBackbone, openWeights } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { assemble, type BatchShape, dropoutFeeds, featureFeed } from '../../../src/training/batch.js';
import { TrainedModel } from '../../../src/training/model.js';
import { Sequences } from '../../../src/training/sequence.js';
import { Gaussian, makeTinyBackbone, TINY } from '../../support/tiny.js';

const SEQUENCES = new Sequences(
  [
    [1, 5, 6, 7, 8, 9, 10, 2],
    [1, 9, 8, 2],
  ],
  [0, 1],
  1,
);
const IMAGE = { tokens: TINY.imageTokens, dim: TINY.imageDim };
const RATES = { features: 0.25, hidden: 0.1 };

let folder: string;
let backbone: BackboneDescription;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-recompute-'));
  backbone = await describeBackbone(await readBackbone(await makeTinyBackbone(folder)));
});
afterAll(() => rm(folder, { recursive: true }));

async function differentiated(plan: AdapterPlan | null, recompute: boolean): Promise<{ loss: number; gradients: Float32Array }> {
  const { language, languageFolder } = backbone;
  const { checkpoint, weights } = await openWeights(languageFolder, language);
  const image = { ...IMAGE, dtype: 'float16' as const };
  const model = new TrainedModel(
    {
      language,
      image,
      plan,
      begin: 'checkpoint',
      dropout: RATES.features,
      residualDropout: RATES.hidden,
      recompute,
      maxTokens: 32,
    },
    weights,
    { folder: languageFolder, threads: 2 },
  );
  await model.parameters.start(0, (name, shape) => weights.read(name, shape));
  await checkpoint.close();
  // Not where an adapter begins: there half of its gradients are zero.
  const random = new Gaussian(1);
  if (plan) model.parameters.values.set(model.parameters.values.map((value) => value + 0.1 * random.next()));
  const shape: BatchShape = { language, image: IMAGE, contexts: plan?.contexts ?? [] };
  const batch = assemble(shape, SEQUENCES, [0, 1]);
  // Bits of float16 numbers from 1 to 2.
  const features = Uint16Array.from({ length: 2 * IMAGE.tokens * IMAGE.dim }, () => 0x3c00 + Math.floor(random.uniform() * 1024));
  const extra = { ...featureFeed(features, IMAGE), ...dropoutFeeds(model.program, batch, shape, RATES, 0, 1) };
  const loss = await model.differentiate(batch, extra, batch.predicted);
  const gradients = model.gradients.slice();
  await model.close();
  return { loss, gradients };
}

it.each(['lora', 'bitfit', 'ia3', 'full'] as const)('%s', async (method) => {
  const plan = method === 'full' ? null : resolvePlan({ method, rank: method === 'lora' ? 2 : undefined }, backbone.target);
  const kept = await differentiated(plan, false);
  expect(kept.loss).toBeGreaterThan(0);
  expect(kept.gradients.filter((value) => value !== 0).length).toBeGreaterThan(kept.gradients.length / 3);
  expect(await differentiated(plan, true)).toEqual(kept);
});
