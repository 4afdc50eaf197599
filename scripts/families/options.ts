/**
 * What each family takes and refuses, found out by asking: a fixture's config.json is changed in one place and read by the family's own code,
 * which refuses it, or describes another model, or takes no notice.
 */

import { LANGUAGE_TYPES, readLanguageModel } from '../../src/backbone/language/families.js';
import type { LanguageModel } from '../../src/backbone/language/model.js';
import { ROTARY_TYPES } from '../../src/backbone/language/rotary.js';
import { kindOf } from '../../src/backbone/module.js';
import { readVisionModel } from '../../src/backbone/vision/families.js';
import type { FeatureChoice } from '../../src/backbone/vision/features.js';
import type { VisionModel } from '../../src/backbone/vision/model.js';
import { AppError } from '../../src/errors.js';
import { featureCases, languageCases, targetsOfPeft } from '../../test/support/families/cases.js';
import { changed } from '../../test/support/vision.js';

export interface LanguageOptions {
  readonly family: string;
  readonly rotary: readonly string[];
  /** Attention may have a window: rows are as long as it is. */
  readonly hasWindow: boolean;
  /** Whether input and output embeddings are one table: a choice of config.json, or always the same. */
  readonly tied: 'either' | 'always' | 'never';
  /** Projections with biases, and under which setting. */
  readonly biases: readonly string[];
  readonly activations: readonly string[];
  readonly refused: readonly string[];
  /** PEFT's own target_modules where nobody names them; empty where it has none. */
  readonly targets: { readonly lora: readonly string[]; readonly ia3: readonly string[] };
}

export interface VisionOptions {
  readonly family: string;
  /** In whose config.json it is found: alone, or in a whole model. */
  readonly types: readonly string[];
  readonly activations: readonly string[];
  /** Another size than config.json's: positions are interpolated, or do not matter. */
  readonly takesAnySize: boolean;
  readonly choosesFeatures: boolean;
  readonly refused: readonly string[];
}

const OTHER_ROTARY_TYPES = ['yarn', 'dynamic', 'longrope'];
const SCALING = { factor: 4, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 32 };
const WINDOW = { sliding_window: 5, use_sliding_window: true, max_window_layers: 0, layer_types: null };
const ACTIVATIONS = ['silu', 'gelu', 'gelu_new', 'gelu_fast', 'gelu_pytorch_tanh', 'quick_gelu', 'relu', 'relu6'];
const ACTIVATION_KEYS = ['hidden_act', 'activation_function'];

/** What is read; null where it is refused. */
async function attempt<T>(read: () => Promise<T>): Promise<T | null> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof AppError) return null;
    throw error;
  }
}

export async function languageOptions(): Promise<LanguageOptions[]> {
  const cases = languageCases();
  return Promise.all(
    LANGUAGE_TYPES.map(async (family) => {
      const folder = cases.find(({ type }) => type === family)?.folder;
      if (folder === undefined) throw new RangeError(`Expected a fixture of ${family} but received none`);
      return optionsOf(family, (changes) => attempt(() => changed(folder, changes, readLanguageModel)));
    }),
  );
}

type Ask<T> = (changes: object) => Promise<T | null>;

async function optionsOf(family: string, ask: Ask<LanguageModel>): Promise<LanguageOptions> {
  const kinds = [...ROTARY_TYPES, ...OTHER_ROTARY_TYPES];
  const own = JSON.stringify(await ask({}));
  const scaled = await Promise.all(
    kinds.map((rope_type) => ask({ rope_parameters: null, rope_scaling: { rope_type, ...SCALING } })),
  );
  const hasRotary = scaled.some((model) => model === null || JSON.stringify(model) !== own);
  const rotary = hasRotary ? kinds.filter((_, index) => scaled[index] !== null) : [];
  const refusedTypes = kinds.filter((_, index) => scaled[index] === null);
  const partial = await ask({ partial_rotary_factor: 0.5 });
  const { ends, fixed } = await activationsOf(ask);
  const windowed = await ask(WINDOW);
  const [tied, untied] = [await ask({ tie_word_embeddings: true }), await ask({ tie_word_embeddings: false })];
  const isTied = [tied, untied].map((model) => model?.tiedNames !== null);
  const { lora, ia3 } = targetsOfPeft();
  return {
    family,
    rotary,
    hasWindow: windowed?.maxPositions === WINDOW.sliding_window,
    tied: isTied[0] === isTied[1] ? (isTied[0] ? 'always' : 'never') : 'either',
    biases: await biasesOf(ask),
    activations: ends,
    refused: [
      ...(refusedTypes.length > 0 ? [`rotary positions of type ${refusedTypes.join(', ')}`] : []),
      ...(partial === null ? ['a part of each head that rotates'] : []),
      ...(fixed ? ['other activations'] : []),
    ],
    targets: { lora: [lora[family] ?? []].flat(), ia3: [ia3[family] ?? []].flat() },
  };
}

/** Activations that are taken, and whether any is refused; none of a family that has no choice. */
async function activationsOf<T>(ask: Ask<T>): Promise<{ ends: readonly string[]; fixed: boolean }> {
  for (const key of ACTIVATION_KEYS) {
    const answers = await Promise.all(ACTIVATIONS.map((name) => ask({ [key]: name })));
    const taken = ACTIVATIONS.filter((_, index) => answers[index] !== null);
    if (taken.length < ACTIVATIONS.length) return { ends: taken, fixed: true };
  }
  return { ends: [], fixed: false };
}

async function biasesOf(ask: Ask<LanguageModel>): Promise<string[]> {
  const biased = async (changes: object): Promise<string[]> => {
    const { modules = [] } = (await ask({ attention_bias: false, mlp_bias: false, ...changes })) ?? {};
    return [...new Set(modules.filter(({ bias }) => bias).map(kindOf))];
  };
  const always = await biased({});
  const added = await Promise.all(
    ['attention_bias', 'mlp_bias'].map(async (key) => {
      const more = (await biased({ [key]: true })).filter((kind) => !always.includes(kind));
      return more.length > 0 ? [`${key}: ${more.join(', ')}`] : [];
    }),
  );
  return [...(always.length > 0 ? [`always: ${always.join(', ')}`] : []), ...added.flat()];
}

/** What vision families are asked for, by what it is. */
const UNUSUAL: Readonly<Record<string, object>> = {
  'images of one channel': { num_channels: 1 },
  'absolute positions': { use_absolute_embeddings: true },
  'maps of positions that are not square': { image_size: [28, 14], patch_size: [14, 7] },
};

const CHOICE: FeatureChoice = { file: 'backbone.json', layer: -1 };

export async function visionOptions(): Promise<VisionOptions[]> {
  const cases = featureCases();
  const families = await Promise.all(
    cases.map(async ({ folder, type }) => ({ folder, type, ...(await readVisionModel(folder)) })),
  );
  const names = [...new Set(families.map(({ family }) => family))];
  return Promise.all(
    names.map(async (family) => {
      const own = families.filter((one) => one.family === family);
      const alone = own.find(({ type }) => type === family) ?? own[0];
      if (!alone) throw new RangeError(`Expected a fixture of ${family} but received none`);
      const ask: Ask<VisionModel> = (changes) => attempt(() => changed(alone.folder, changes, (file) => readVisionModel(file)));
      const { ends } = await activationsOf(ask);
      const [height, width] = alone.imageSize;
      const takesAnySize =
        (await attempt(() => Promise.resolve(alone).then((model) => model.imageTokens(2 * height, 2 * width)))) !== null;
      const choosesFeatures = (await attempt(() => readVisionModel(alone.folder, CHOICE))) !== null;
      const refused = await Promise.all(
        Object.entries(UNUSUAL).map(async ([what, changes]) => ((await ask(changes)) === null ? [what] : [])),
      );
      return {
        family,
        types: [...new Set(own.map(({ type }) => type))].sort((a, b) => Number(b === family) - Number(a === family)),
        activations: ends,
        takesAnySize,
        choosesFeatures,
        refused: [
          ...(ends.length > 0 ? ['other activations'] : []),
          ...(takesAnySize ? [] : ['images of another size']),
          ...refused.flat(),
        ],
      };
    }),
  );
}
