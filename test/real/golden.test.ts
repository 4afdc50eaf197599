/** The engine against numbers that PyTorch gave (../shared/reference/context_peft.py): logits of every method, and real captions. */
import { readFile } from 'node:fs/promises';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedAdapter } from '../../src/adapter/adapter.js';
import { readAdapter } from '../../src/adapter/format.js';
import { type BackboneDescription, describeBackbone } from '../../src/backbone/backbone.js';
import { readBackbone } from '../../src/backbone/manifest.js';
import { Batch, type Member } from '../../src/engine/batch.js';
import { Decoder } from '../../src/engine/decoder.js';
import { Projection } from '../../src/engine/projection.js';
import { strategyFor } from '../../src/engine/strategy.js';
import { VisionEncoder } from '../../src/engine/vision.js';
import { toFloat32 } from '../../src/tensor/convert.js';
import { decodeSafetensors } from '../../src/tensor/safetensors.js';
import type { Tensor } from '../../src/tensor/tensor.js';
import { GREEDY } from '../support/sampling.js';
import { hasShared, realBackbone, shared, withShared } from '../support/shared.js';

interface Golden {
  readonly image: string;
  readonly pixel_mean: number;
  readonly feature_mean: number;
  readonly greedy_ids: readonly number[];
  readonly smallest_top2_margin: number;
  readonly first_logits_of_ids_0_to_31: readonly number[];
}

const mean = (values: ArrayLike<number>): number => Array.from(values).reduce((total, value) => total + value, 0) / values.length;

const read = async (path: string): Promise<(name: string) => Float32Array> => {
  const { tensors } = decodeSafetensors(await readFile(shared(path)), path);
  return (name) => toFloat32(tensors.get(name) as Tensor);
};

describe.skipIf(!hasShared)(`golden outputs${withShared}`, () => {
  let backbone: BackboneDescription;
  let decoder: Decoder;

  beforeAll(async () => {
    backbone = await describeBackbone(await readBackbone(realBackbone));
    decoder = await Decoder.open(backbone, { threads: 2, rows: 8, maxLength: 128 });
  });

  afterAll(() => decoder.close());

  describe('random adapters on random features', () => {
    const FEATURE_DIM = 24;
    const SHAPE = { rows: 3, images: 5, ids: 7, tokens: 12, vocabulary: 256 };

    it.each(['base', 'lora', 'lora-agnostic', 'bitfit', 'ia3'])('%s: logits agree to 1e-4', async (name) => {
      // The features of these cases are not those of the vision encoder: its size is theirs here.
      const adapter = await readAdapter(shared(`golden/${name}`), { ...backbone.target, imageDim: FEATURE_DIM });
      const input = await read('golden/input.safetensors');
      const expected = (await read(`golden/${name}/expected.safetensors`))('logits');
      const projection = await Projection.open(FEATURE_DIM, backbone.language.hiddenSize, 1);
      const rows = await Promise.all(
        Array.from({ length: SHAPE.rows }, async (_, row) => ({
          adapter,
          promptIds: [...input('ids').subarray(row * SHAPE.ids, (row + 1) * SHAPE.ids)],
          imageEmbeddings: await projection.project(
            adapter.projector as NonNullable<LoadedAdapter['projector']>,
            input('features').slice(row * SHAPE.images * FEATURE_DIM, (row + 1) * SHAPE.images * FEATURE_DIM),
          ),
        })),
      );
      const logits = await decoder.score(rows);
      const { vocabSize } = backbone.language;
      let worst = 0;
      for (let position = 0; position < SHAPE.rows * SHAPE.tokens; position++) {
        for (let id = 0; id < SHAPE.vocabulary; id++) {
          worst = Math.max(
            worst,
            Math.abs((logits[position * vocabSize + id] as number) - (expected[position * SHAPE.vocabulary + id] as number)),
          );
        }
      }
      expect(worst).toBeLessThan(1e-4);
      await projection.close();
    });
  });

  it('captions 24 real photos as the reference does, in a mixed batch', async () => {
    const golden = JSON.parse(await readFile(shared('reference-adapter/golden.json'), 'utf8')) as Golden[];
    const adapter = await readAdapter(shared('reference-adapter'), backbone.target);
    expect(`matched ${adapter.matched} of ${adapter.targeted} modules`).toBe('matched 28 of 28 modules');
    const part = backbone.vision as NonNullable<typeof backbone.vision>;
    const vision = await VisionEncoder.open(part, 2, 64 * 1024 * 1024);
    const projection = await Projection.open(part.model.imageDim, backbone.language.hiddenSize, 2);
    const sampling = GREEDY;

    const waiting: (Member & { golden: Golden })[] = [];
    for (const expected of golden) {
      // These photos have the encoder's size: what the image process does to others is tested there.
      const data = await sharp(shared(`flickr8k/dev/${expected.image}`))
        .removeAlpha()
        .raw()
        .toBuffer();
      expect(mean(data.map((value) => value)) / 127.5 - 1).toBeCloseTo(expected.pixel_mean, 4);
      const features = await vision.encode({ data, height: 224, width: 224, digest: expected.image });
      expect(mean(features)).toBeCloseTo(expected.feature_mean, 4);
      const imageEmbeddings = await projection.project(adapter.projector as NonNullable<LoadedAdapter['projector']>, features);
      const [logits] = await decoder.prefill(0, [{ adapter, promptIds: [1], imageEmbeddings }]);
      expected.first_logits_of_ids_0_to_31.forEach((logit, id) => {
        expect(Math.abs((logits?.[id] ?? Number.NaN) - logit)).toBeLessThan(1e-3);
      });
      const strategy = strategyFor(sampling, { size: backbone.language.vocabSize, eosIds: [2] }, [1]);
      waiting.push({ golden: expected, adapter, promptIds: [1], imageEmbeddings, imageTokens: 49, strategy });
    }

    const batch = new Batch<(typeof waiting)[number]>(decoder);
    let exact = 0;
    let close = 0;
    while (waiting.length > 0 || batch.size > 0) {
      const { finished, failed } = await batch.step(waiting.splice(0, Math.min(2, batch.freeRows)));
      expect(failed).toEqual([]);
      for (const { golden: expected, strategy } of finished) {
        if (strategy.choices()[0]?.tokenIds.join() === expected.greedy_ids.join()) exact++;
        else if (expected.smallest_top2_margin < 1e-3) close++;
      }
    }
    expect(exact + close).toBe(golden.length);
    expect(close).toBeLessThanOrEqual(2);
    await Promise.all([vision.close(), projection.close()]);
  });
});
