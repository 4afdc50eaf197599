/** The encoder learns, the same way each time, and what is written is what was trained: a folder that serving reads. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { QUESTION_NAMES, QUESTIONS } from '../../../../../scripts/scenes/encoder/cells.js';
import { prepareEncoder, writeEncoder } from '../../../../../scripts/scenes/encoder/checkpoint.js';
import { buildPrograms, decays, names } from '../../../../../scripts/scenes/encoder/network.js';
import { Pictures } from '../../../../../scripts/scenes/encoder/pictures.js';
import { type EncoderScore, trainEncoder } from '../../../../../scripts/scenes/encoder/train.js';
import { openWeights, type VisionPart } from '../../../../../src/backbone/backbone.js';
import { buildEncoder, FEATURES, PIXELS } from '../../../../../src/backbone/vision/encoder.js';
import { readVisionModel } from '../../../../../src/backbone/vision/families.js';
import type { VisionModel } from '../../../../../src/backbone/vision/model.js';
import { readProcessor } from '../../../../../src/backbone/vision/processor.js';
import { float32, Session, uint8 } from '../../../../../src/runtime/session.js';
import type { Parameters } from '../../../../../src/training/parameters.js';

const EDGE = 64;
const GRID = 4;
const draw = (seed: number, count: number): Promise<Pictures> =>
  Pictures.draw({ seed, count, edge: EDGE, grid: GRID }, () => undefined);

let folder: string;
let model: VisionModel;
let pictures: Pictures;
let heldOut: Pictures;
const normalisation = { rescale: 1 / 255, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] } as const;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-encoder-'));
  await prepareEncoder(folder);
  // The same folder with a smaller network in it.
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as object;
  const small = { image_size: EDGE, patch_size: EDGE / GRID, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2 };
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, ...small, intermediate_size: 32 }));
  model = await readVisionModel(folder);
  [pictures, heldOut] = await Promise.all([draw(1, 32), draw(2, 8)]);
});
afterAll(() => rm(folder, { recursive: true }));

async function train(seed: number): Promise<{ parameters: Parameters; losses: number[]; scores: EncoderScore[] }> {
  const losses: number[] = [];
  const scores: EncoderScore[] = [];
  const parameters = await trainEncoder(
    { model, normalisation, edge: EDGE, pictures, heldOut, seed, batch: 8, epochs: 12, rate: 0.01, threads: 1 },
    { onStep: (_step, _steps, loss) => losses.push(loss), onScore: (_step, score) => scores.push(score) },
  );
  return { parameters, losses, scores };
}

describe('trainEncoder', () => {
  it('learns, and learns the same from the same seed', async () => {
    const [one, again, other] = [await train(3), await train(3), await train(4)];
    expect(one.losses).toHaveLength((12 * 32) / 8);
    expect(one.losses.at(-1)).toBeLessThan(0.75 * (one.losses[0] ?? 0));
    expect(again.parameters.values).toEqual(one.parameters.values);
    expect(again.scores).toEqual(one.scores);
    expect(other.parameters.values).not.toEqual(one.parameters.values);
  });

  it('writes what it trained: the served encoder gives the features that the answers were read from', async () => {
    const { parameters } = await train(3);
    await writeEncoder(folder, parameters);
    const { pixels, answers } = heldOut.batch([0], () => false);
    expect(answers.kind).toHaveLength(GRID ** 2);
    const program = await buildPrograms({ model, normalisation, edge: EDGE });
    const reading = await Session.open(program.reading, { folder: null, threads: 1 });
    const feeds = Object.fromEntries(program.parameters.map(({ name, shape }) => [name, float32(parameters.view(name), shape)]));
    const read = await reading.run(
      { ...feeds, [names.pixels]: uint8(pixels, [1, EDGE, EDGE, 3]) },
      Object.fromEntries(QUESTION_NAMES.map((name) => [names.answers(name), null])),
    );
    await reading.close();

    const { recipe } = await readProcessor(folder);
    const part: VisionPart = {
      folder,
      model,
      recipe: { ...recipe, height: EDGE, width: EDGE },
      normalisation,
      imageTokens: GRID ** 2,
    };
    const { checkpoint, weights } = await openWeights(folder);
    const encoder = await Session.open((await buildEncoder(part, weights)).toModel(), { folder, threads: 1 });
    const features = (await encoder.run({ [PIXELS]: uint8(pixels, [1, EDGE, EDGE, 3]) }, { [FEATURES]: null }))[FEATURES];
    await encoder.close();
    await checkpoint.close();

    const [head, bias] = [parameters.view('head.weight'), parameters.view('head.bias')];
    const rows = features?.data as Float32Array;
    for (let cell = 0; cell < GRID ** 2; cell++)
      for (let kind = 0; kind < QUESTIONS.kind; kind++) {
        let logit = bias[kind] ?? 0;
        for (let at = 0; at < 16; at++) logit += (rows[cell * 16 + at] ?? 0) * (head[kind * 16 + at] ?? 0);
        // Half precision on disk.
        expect(read[names.answers('kind')]?.data[cell * QUESTIONS.kind + kind]).toBeCloseTo(logit, 1);
      }
  });
});

describe('Pictures', () => {
  it('turns pixels and answers over together', () => {
    const [plain, flipped] = [pictures.batch([5], () => false), pictures.batch([5], () => true)];
    const row = (pixels: Uint8Array, y: number, x: number): number[] => [
      ...pixels.subarray((y * EDGE + x) * 3, (y * EDGE + x + 1) * 3),
    ];
    for (const [y, x] of [
      [0, 0],
      [10, 40],
      [63, 20],
    ] as const)
      expect(row(flipped.pixels, y, x)).toEqual(row(plain.pixels, y, EDGE - 1 - x));
    const turned = Array.from(
      flipped.answers.kind,
      (_, cell) => flipped.answers.kind[cell - (cell % GRID) + GRID - 1 - (cell % GRID)],
    );
    expect(turned).toEqual([...plain.answers.kind]);
  });
});

it('lets matrices decay, and neither scales nor places', () => {
  const shape = (name: string, ...sizes: number[]) => ({ name, shape: sizes, start: { kind: 'constant', value: 0 } as const });
  const ones = [
    shape('encoder.layer.0.output.dense.weight', 4, 8),
    shape('embeddings.patch_embeddings.projection.weight', 4, 3, 2, 2),
  ];
  const others = [
    shape('encoder.layer.0.output.dense.bias', 4),
    shape('embeddings.cls_token', 1, 1, 4),
    shape('embeddings.position_embeddings', 1, 5, 4),
    shape('attention.self.logit_scale', 2, 1, 1),
    shape('attention.self.continuous_position_bias_mlp.0.weight', 512, 2),
  ];
  expect(ones.map(decays)).toEqual([true, true]);
  expect(others.map(decays)).toEqual(others.map(() => false));
});
