/**
 * How far what we compute is from what transformers and PEFT computed: the largest distance between two numbers, of gradients relative to the
 * largest of their tensor. Tests hold these below a bound, and `npm run families` writes them down: both measure the same thing.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readAdapter } from '../../../src/adapter/format.js';
import { resolvePlan } from '../../../src/adapter/plan.js';
import { gradients } from '../../../src/autodiff/gradients.js';
import { type BackboneDescription, describeBackbone, openWeights } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { normalise } from '../../../src/backbone/vision/encoder.js';
import { readVisionModel } from '../../../src/backbone/vision/families.js';
import type { VisionModel } from '../../../src/backbone/vision/model.js';
import { parseProcessor } from '../../../src/backbone/vision/processor.js';
import { Decoder } from '../../../src/engine/decoder.js';
import { decodePixels } from '../../../src/images/decode.js';
import { Graph, type Value } from '../../../src/onnx/graph.js';
import { mul, float32 as numbers } from '../../../src/onnx/ops.js';
import { sum } from '../../../src/onnx/reduce.js';
import { Session, uint8 } from '../../../src/runtime/session.js';
import { toFloat32 } from '../../../src/tensor/convert.js';
import { decodeSafetensors } from '../../../src/tensor/safetensors.js';
import { assemble } from '../../../src/training/batch.js';
import { TrainedModel } from '../../../src/training/model.js';
import { Sequences } from '../../../src/training/sequence.js';
import { changed, encode, furthest, runEncoder, wave } from '../vision.js';
import type { AdaptedCase, FeatureCase, FeatureGradients, LanguageCase, PixelCase } from './cases.js';

/** What make.py's adapters have. */
const RANK = 2;
const ALPHA = 3;
/** Tokens of a row that are not predicted. */
const GIVEN = 2;
const MAX_TOKENS = 16;
/** Of a loss of about three. */
const LOSS_BOUND = 5e-6;

/** The worst of several; NaN, which no bound admits, where one is. */
export const worst = (errors: readonly number[]): number => (errors.some(Number.isNaN) ? Number.NaN : Math.max(...errors));

const describeCase = async (folder: string): Promise<BackboneDescription> => describeBackbone(await readBackbone(folder));

async function withDecoder<T>(backbone: BackboneDescription, rows: number, use: (decoder: Decoder) => Promise<T>): Promise<T> {
  const maxLength = Math.min(backbone.language.maxPositions, MAX_TOKENS);
  const decoder = await Decoder.open(backbone, { threads: 1, rows, maxLength });
  try {
    return await use(decoder);
  } finally {
    await decoder.close();
  }
}

/** Of the logits at every position, all at once. */
export async function logitsError({ folder, ids, logits }: LanguageCase): Promise<number> {
  return withDecoder(await describeCase(folder), ids.length, async (decoder) => {
    const scored = await decoder.score(ids.map((promptIds) => ({ adapter: null, promptIds, imageEmbeddings: null })));
    return furthest(scored, logits);
  });
}

/** Of the logits step by step from the cache. Row r starts with r + 1 tokens, so that every step works on several lengths at once. */
export async function decodeError({ folder, ids, logits }: LanguageCase): Promise<number> {
  const tokens = ids[0]?.length ?? 0;
  const vocabulary = logits.length / (ids.length * tokens);
  const at = (row: number, token: number): Float32Array =>
    logits.subarray((row * tokens + token) * vocabulary, (row * tokens + token + 1) * vocabulary);
  return withDecoder(await describeCase(folder), ids.length, async (decoder) => {
    const errors: number[] = [];
    const compare = (found: readonly Float32Array[], step: number): void => {
      if (found.length !== ids.length) errors.push(Number.NaN);
      for (const [row, each] of found.entries()) errors.push(furthest(each, at(row, row + step)));
    };
    const starts = ids.map((row, index) => ({ adapter: null, promptIds: row.slice(0, index + 1), imageEmbeddings: null }));
    compare(await decoder.prefill(0, starts), 0);
    for (let step = 1; step + ids.length <= tokens; step++)
      compare(
        await decoder.decode(
          ids.map((row, index) => ({ adapter: null, tokenId: row[index + step] as number, length: index + step })),
        ),
        step,
      );
    return worst(errors);
  });
}

export interface AdaptedError {
  /** Of the logits with PEFT's adapter. */
  readonly error: number;
  /** How far the adapter moves them: a test of nothing where it is small. */
  readonly moved: number;
  readonly matched: number;
  readonly targeted: number;
}

export async function adaptedError({ folder, adapter, rows, logits }: AdaptedCase): Promise<AdaptedError> {
  const backbone = await describeCase(folder);
  const loaded = await readAdapter(adapter, backbone.target);
  return withDecoder(backbone, rows.length, async (decoder) => {
    const score = (one: typeof loaded | null): Promise<Float32Array> =>
      decoder.score(rows.map((promptIds) => ({ adapter: one, promptIds, imageEmbeddings: null })));
    const error = furthest(await score(loaded), logits);
    return { error, moved: furthest(await score(null), logits), matched: loaded.matched, targeted: loaded.targeted };
  });
}

/** Of the gradient of each of PEFT's tensors; NaN where the loss is another, one of their gradients is zero, or we have other tensors. */
export async function gradientError(
  { folder, adapter, method, rows, loss, gradients: theirs }: AdaptedCase,
  recompute = false,
): Promise<number> {
  const { language, languageFolder, target } = await describeCase(folder);
  const plan = resolvePlan({ method, contexts: ['all'], ...(method === 'lora' && { rank: RANK, alpha: ALPHA }) }, target);
  const fixed = { image: null, begin: 'checkpoint', dropout: 0, residualDropout: 0, maxTokens: MAX_TOKENS } as const;
  const { checkpoint, weights } = await openWeights(languageFolder, language);
  const model = new TrainedModel({ language, plan, recompute, ...fixed }, weights, { folder: languageFolder, threads: 1 });
  await checkpoint.close();
  try {
    const file = join(adapter, 'adapter_model.safetensors');
    const values = decodeSafetensors(await readFile(file), file).tensors;
    if (values.size !== theirs.size || model.parameters.shapes.length !== values.size) return Number.NaN;
    // `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight` is `all/model.layers.0.mlp.up_proj.lora_A`.
    const parameterOf = (key: string): string => `all/${key.replace(/^base_model\.model\./, '').replace(/\.weight$/, '')}`;
    for (const [key, tensor] of values) model.parameters.view(parameterOf(key)).set(toFloat32(tensor));
    const sequences = new Sequences(rows, [...rows.keys()], GIVEN);
    const batch = assemble({ language, image: null, contexts: [] }, sequences, [...rows.keys()]);
    const distance = Math.abs((await model.differentiate(batch, {}, batch.predicted)) - loss);
    if (!(distance < LOSS_BOUND)) return Number.NaN;
    return worst(
      [...theirs].map(([key, gradient]) => relative(model.parameters.view(parameterOf(key), model.gradients), gradient)),
    );
  } finally {
    await model.close();
  }
}

/** NaN where theirs is zero: nothing would be tested. */
function relative(ours: Float32Array, theirs: Float32Array): number {
  const largest = theirs.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return largest > 0 ? furthest(ours, theirs) / largest : Number.NaN;
}

/** The model of a fixture's run: its config.json with the run's changes, and the features that it chooses. */
export async function modelOf({ folder, run }: Pick<FeatureCase, 'folder' | 'run'>): Promise<VisionModel> {
  const { act = null, layer = null, select = null } = run;
  const changes = { ...run.changes, ...(act !== null && { hidden_act: act }) };
  const choice = { file: 'backbone.json', ...(layer !== null && { layer }), ...(select !== null && { select }) };
  return changed(folder, changes, (file) => readVisionModel(file, layer === null && select === null ? undefined : choice));
}

/** Of the features of one image. */
export async function featuresError(one: FeatureCase): Promise<number> {
  const model = await modelOf(one);
  const [height, width] = one.run.size ?? model.imageSize;
  return furthest(await encode(one.folder, model, wave(1, 3, height, width), [1, 3, height, width], 1), one.features);
}

/** Of the gradients of every tensor that the fixture has. */
export async function featureGradientError(
  { folder, size, gradients: theirs }: FeatureGradients,
  images: 1 | 'images' = 1,
): Promise<number> {
  const model = await readVisionModel(folder);
  const names = [...theirs.keys()];
  const results = await runEncoder(
    folder,
    model,
    wave(1, 3, ...size),
    [1, 3, ...size],
    (g, features) => {
      const [, ...sizes] = features.shape.map(Number);
      const weighted = mul(g, features, numbers(g, null, [1, ...sizes], wave(1, ...sizes)));
      const found = gradients(
        g,
        sum(g, weighted, [0, 1, 2]),
        names.map((name) => g.initializers.get(`${model.family}.${name}`)?.value as Value),
      );
      return Object.fromEntries(names.map((name, index) => [name, found[index] as Value]));
    },
    images,
  );
  return worst(names.map((name) => relative(results.get(name) as Float32Array, theirs.get(name) as Float32Array)));
}

/** Of what an encoder is given of an image file, and the shape of it. */
export async function pixelError({
  name,
  picture,
  config,
  pixels,
}: PixelCase): Promise<{ error: number; shape: readonly number[] }> {
  const { recipe, normalisation } = parseProcessor(config, name);
  const { data } = await decodePixels(await readFile(picture), recipe, { maxPixels: 1e6, timeoutMs: 60_000 });
  const { height, width } = recipe;
  const g = new Graph();
  const input = g.input('pixels', 'uint8', [1, height, width, 3]);
  g.output('normal', normalise(g, input, normalisation));
  const session = await Session.open(g.toModel(), { folder: null, threads: 1 });
  try {
    const { normal } = await session.run({ pixels: uint8(data, [1, height, width, 3]) }, { normal: null });
    return { error: furthest(normal?.data as Float32Array, pixels), shape: [3, height, width] };
  } finally {
    await session.close();
  }
}
