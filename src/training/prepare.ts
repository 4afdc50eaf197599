/**
 * From options to something that can be trained: data read, split and tokenised, images encoded, model built. Everything that can be wrong with
 * what a user gave is found here, before the first step.
 */
import { encoderFingerprint, fingerprint } from '../adapter/fingerprint.js';
import { readAdapter } from '../adapter/format.js';
import { type AdapterPlan, resolvePlan, SITES } from '../adapter/plan.js';
import { type BackboneDescription, describeBackbone, openWeights, type VisionPart } from '../backbone/backbone.js';
import type { WeightSource } from '../backbone/language/model.js';
import { readBackbone } from '../backbone/manifest.js';
import { Tokenizer } from '../backbone/tokenizer.js';
import { AppError } from '../errors.js';
import { HEAD_DIM_STEP } from '../onnx/attention.js';
import { type Beginning, beginWith } from './begin.js';
import type { BadRow, Example } from './data/example.js';
import { readDataset } from './data/read.js';
import { refuseBadRows } from './data/report.js';
import { split } from './data/split.js';
import { type AugmentOptions, featureFolder, viewsOf } from './features.js';
import { TrainedModel } from './model.js';
import type { TrainOptions } from './options.js';
import { digestPortions, type Portion, readPortion } from './portion.js';
import type { Recipe } from './program.js';
import { type SequenceOptions, tokenize } from './sequence.js';
import { FeatureStore } from './store.js';

/** Rows longer than this are rare, and a batch of them is large. */
const DEFAULT_MAX_TOKENS = 512;
/** Spread of random weights where a model begins from nothing; what llama began with. */
const DEVIATION = 0.02;

export interface Prepared {
  readonly backbone: BackboneDescription;
  /** null: all weights are trained. */
  readonly plan: AdapterPlan | null;
  readonly model: TrainedModel;
  readonly train: Portion;
  readonly validation: Portion | null;
  /** null for text alone. */
  readonly store: FeatureStore | null;
  readonly bad: readonly BadRow[];
  /** null: it begins at random, or with the checkpoint. */
  readonly beginning: Beginning | null;
  /** Names the data: equal digests, equal sequences and images. */
  readonly dataDigest: string;
  /** Names the weights that are built upon, which may change while their folder's name does not. */
  readonly backboneDigest: string;
  close(): Promise<void>;
}

export interface PrepareListener {
  readonly onImages?: (done: number, total: number) => void;
}

/** Reads, checks and builds. Throws AppError for all that is wrong with options, data and backbone. */
export async function prepare(options: TrainOptions, signal: AbortSignal, listener: PrepareListener): Promise<Prepared> {
  checkOptions(options);
  const backbone = await describeBackbone(await readBackbone(options.backbone));
  checkServable(backbone);
  const tokenizer = await Tokenizer.open(backbone.languageFolder);
  const { train, validation, bad } = await readExamples(options);
  const all = [...train, ...validation];
  const part = seesImages(all, backbone, options) ? backbone.vision : null;
  const recipe = recipeOf(options, backbone, part);
  const { image, maxTokens } = recipe;
  const rows: SequenceOptions = { prompt: options.prompt, imageTokens: image?.tokens ?? 0, maxTokens, captions: 'all' };
  // A prompt that does not fit is told before hours of images, not after them.
  tokenize([], tokenizer, rows);

  const model = await buildModel(backbone, recipe, options);
  let beginning: Beginning | null = null;
  let store: FeatureStore | null = null;
  const close = async (): Promise<void> => {
    await model.close();
    await store?.close();
  };
  try {
    if (options.from !== null && recipe.plan !== null)
      beginning = beginWith(await readAdapter(options.from, backbone.target), recipe.plan, model.parameters);
    if (part && image) store = await FeatureStore.open(await featureFolder(options.cache, part), image.tokens * image.dim);
    let done = 0;
    const portionOf = async (
      examples: readonly Example[],
      captions: 'all' | 'first',
      augment: AugmentOptions,
    ): Promise<{ portion: Portion; bad: BadRow[] }> => {
      const found = await readPortion(examples, {
        tokenizer,
        rows: { ...rows, captions },
        images: part && store && { part, store, views: viewsOf(augment) },
        threads: options.threads,
        maxPixels: options.maxImagePixels,
        signal,
        onImages: (count) => listener.onImages?.(done + count, all.length),
      });
      done += examples.length;
      bad.push(...found.bad);
      return found;
    };
    const { portion: trained } = await portionOf(train, 'all', options);
    const plainly = { ...options, flip: false, crop: false };
    const { portion: held, bad: badHeld } = await portionOf(validation, options.evalCaptions, plainly);
    if (options.strict) refuseBadRows(bad);
    if (trained.sequences.count === 0) throw nothingLeft('Expected a caption to train on', bad);
    if (validation.length > 0 && held.sequences.count === 0) throw nothingLeft('Expected a held-out caption', badHeld);
    return {
      backbone,
      plan: recipe.plan,
      model,
      train: trained,
      validation: held.sequences.count > 0 ? held : null,
      store,
      bad,
      beginning,
      dataDigest: digestPortions([trained, held]),
      backboneDigest: await fingerprints(backbone, part !== null),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function recipeOf(options: TrainOptions, backbone: BackboneDescription, part: VisionPart | null): Recipe {
  const { language } = backbone;
  const maxTokens = options.maxTokens ?? Math.min(language.maxPositions, DEFAULT_MAX_TOKENS);
  if (maxTokens > language.maxPositions)
    throw new AppError(
      'invalid_config',
      `Expected --max-tokens of at most ${language.maxPositions}, which the backbone was made for, but received ${maxTokens}`,
    );
  return {
    language,
    image: part && { tokens: part.imageTokens, dim: part.model.imageDim, dtype: 'float16' },
    plan: options.method === 'full' ? null : planOf(options, options.method, backbone, part !== null),
    begin: options.init === 'random' ? { deviation: DEVIATION } : 'checkpoint',
    dropout: options.dropout,
    residualDropout: options.residualDropout,
    recompute: options.recompute,
    maxTokens,
  };
}

function nothingLeft(expected: string, bad: readonly BadRow[]): AppError {
  const faults = bad.map(({ origin, reason }) => `${origin} ${reason}`);
  return AppError.ofFaults('invalid_data', `${expected} but no row can be used`, faults);
}

/** What contradicts itself before anything is read. */
function checkOptions(options: TrainOptions): void {
  const { init, method, contexts, sites, targetModules, from, flip, crop, data, patience } = options;
  const { holdout, validation, resume, restart } = options;
  const faults: string[] = [];
  if (resume && restart) faults.push('Expected --resume or --restart but received both');
  if (method === 'full' && (contexts !== null || targetModules !== null || !SITES.every((site) => sites.includes(site))))
    faults.push('Expected no --contexts, --sites or --target-modules with --method full, which trains every weight');
  if (method === 'full' && from !== null)
    faults.push('Expected no --from with --method full, which begins with the weights of the backbone');
  if (init === 'random' && method !== 'full')
    faults.push(
      `Expected --init checkpoint with --method ${method}, since an adapter needs a backbone that can do something, but received random`,
    );
  if (patience !== null && holdout === 0 && validation === null)
    faults.push('Expected held-out data with --patience, which waits for it to get better, but received --holdout 0');
  if (data.endsWith('.txt') && (flip || crop)) faults.push('Expected images with --flip and --crop but received plain text');
  if (faults.length > 0) throw AppError.ofFaults('invalid_config', 'The options are wrong', faults);
}

/** Plain operators train heads of any size, but the engine's attention serves only some: that must not be news after the last step. */
function checkServable({ languageFolder, language: { headDim } }: BackboneDescription): void {
  if (headDim % HEAD_DIM_STEP !== 0)
    throw new AppError(
      'unsupported_model',
      `${languageFolder}: Expected attention heads of a multiple of ${HEAD_DIM_STEP} dimensions, which can be served, but received ${headDim}`,
    );
}

async function readExamples(
  options: TrainOptions,
): Promise<{ train: readonly Example[]; validation: readonly Example[]; bad: BadRow[] }> {
  const { images, normalize, holdout, seed } = options;
  const read = (location: string) => readDataset(location, { images: images ?? undefined, normalize });
  const data = await read(options.data);
  if (options.validation !== null) {
    const held = await read(options.validation);
    return { train: data.examples, validation: held.examples, bad: [...data.bad, ...held.bad] };
  }
  if (holdout === 0) return { train: data.examples, validation: [], bad: [...data.bad] };
  return { ...split(data.examples, { holdout, seed, folder: data.folder }), bad: [...data.bad] };
}

function seesImages(examples: readonly Example[], { vision, name }: BackboneDescription, { data }: TrainOptions): boolean {
  const withImage = examples.filter(({ image }) => image !== null).length;
  if (withImage === 0) return false;
  const without = examples.find(({ image }) => image === null);
  if (without)
    throw new AppError(
      'invalid_data',
      `${data}: Expected an image in every row or in none but ${without.origin} has none and ${withImage} rows have one`,
    );
  if (!vision)
    throw new AppError(
      'invalid_config',
      `Expected a backbone with a vision encoder, since the data has images, but ${name} takes text only`,
    );
  return true;
}

function planOf(
  options: TrainOptions,
  method: AdapterPlan['method'],
  backbone: BackboneDescription,
  withImages: boolean,
): AdapterPlan {
  const { contexts, sites, targetModules, rank, alpha } = options;
  const plan = resolvePlan(
    {
      method,
      contexts: contexts ?? undefined,
      sites,
      targetModules: targetModules ?? undefined,
      rank: rank.common,
      rankByContext: rank.own,
      alpha: alpha.common,
      alphaByContext: alpha.own,
    },
    { modules: backbone.language.modules, contexts: withImages ? backbone.target.contexts : ['text'] },
  );
  if (method === 'none' && !withImages)
    throw new AppError(
      'invalid_config',
      'Expected images with --method none, which trains the projector alone, but the data has text only',
    );
  return plan;
}

async function buildModel(backbone: BackboneDescription, recipe: Recipe, { threads, seed }: TrainOptions): Promise<TrainedModel> {
  if (recipe.begin !== 'checkpoint') {
    const model = new TrainedModel(recipe, NO_WEIGHTS, { folder: backbone.languageFolder, threads });
    await model.parameters.start(seed, noWeight);
    return model;
  }
  const { checkpoint, weights } = await openWeights(backbone.languageFolder, backbone.language);
  try {
    const model = new TrainedModel(recipe, weights, { folder: weights.root, threads });
    weights.check();
    await model.parameters.start(seed, (name, shape) => weights.read(name, shape));
    return model;
  } finally {
    await checkpoint.close();
  }
}

/** No more than publishing would compute: a fingerprint is kept for as long as the files stay as they are. */
async function fingerprints({ languageFolder, vision }: BackboneDescription, withImages: boolean): Promise<string> {
  const language = await fingerprint(languageFolder);
  return vision && withImages ? `${language} ${await encoderFingerprint(vision.folder, vision.model.features)}` : language;
}

/** Where a model begins from random numbers there is no checkpoint to ask. */
const noWeight = (name: string): never => {
  throw new TypeError(`Expected no weight to be read but ${name} was`);
};
const NO_WEIGHTS: WeightSource = { value: (_, name) => noWeight(name) };
