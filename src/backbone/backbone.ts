/**
 * A backbone, opened: what its two checkpoints are (from config.json) and where their weights lie.
 * Opening reads headers only. `describe` gives the part that adapters attach to, which needs no weights at all.
 */
import { Checkpoint } from '../tensor/checkpoint.js';
import { readLanguageModel } from './language/families.js';
import type { LanguageModel } from './language/model.js';
import type { BackboneManifest } from './manifest.js';
import type { AdapterTarget } from './module.js';
import { readVisionModel } from './vision/families.js';
import type { FeatureChoice } from './vision/features.js';
import type { VisionModel } from './vision/model.js';
import { type Processor, readProcessor } from './vision/processor.js';
import type { Normalisation, PixelRecipe } from './vision/recipe.js';
import { Weights } from './weights.js';

export interface VisionPart {
  readonly folder: string;
  readonly model: VisionModel;
  /** What was asked of its features; absent where its family decides. */
  readonly choice?: FeatureChoice;
  readonly recipe: PixelRecipe;
  readonly normalisation: Normalisation;
  /** Tokens that one image becomes at the recipe's size. */
  readonly imageTokens: number;
}

export interface BackboneDescription {
  readonly name: string;
  readonly language: LanguageModel;
  readonly languageFolder: string;
  readonly vision: VisionPart | null;
  readonly target: AdapterTarget;
}

/** Reads both config.json files and the processor's; no weight. Throws `invalid_file` or `unsupported_model`. */
export async function describeBackbone(manifest: BackboneManifest): Promise<BackboneDescription> {
  const { name, languageFolder, visionFolder, visionFeatures } = manifest;
  const language = await readLanguageModel(languageFolder);
  const vision = visionFolder === null ? null : await describeVision(visionFolder, visionFeatures);
  return {
    name,
    language,
    languageFolder,
    vision,
    target: {
      modules: language.modules,
      hiddenSize: language.hiddenSize,
      imageDim: vision?.model.imageDim ?? null,
      contexts: vision ? ['image', 'text'] : ['text'],
      languageFolder,
      visionFolder,
      ...(vision?.model.features === undefined ? {} : { visionFeatures: vision.model.features }),
    },
  };
}

async function describeVision(folder: string, choice?: FeatureChoice): Promise<VisionPart> {
  const [model, processor] = await Promise.all([readVisionModel(folder, choice), readProcessor(folder)]);
  return visionPart(folder, model, processor, choice);
}

/** An encoder and its processor together. Throws `unsupported_model` where the one cannot see what the other makes. */
export function visionPart(
  folder: string,
  model: VisionModel,
  { recipe, normalisation }: Processor,
  choice?: FeatureChoice,
): VisionPart {
  const imageTokens = model.imageTokens(recipe.height, recipe.width);
  return { folder, model, ...(choice && { choice }), recipe, normalisation, imageTokens };
}

/** Opens a checkpoint folder for a graph to refer to; the caller closes the checkpoint once the graph is built. */
export async function openWeights(
  folder: string,
  language?: LanguageModel,
): Promise<{ checkpoint: Checkpoint; weights: Weights }> {
  const checkpoint = await (language ? openLanguage(folder, language) : Checkpoint.open(folder));
  return { checkpoint, weights: new Weights(checkpoint) };
}

/** Opens a language model's checkpoint, in which each tensor is found under its family's names, whichever it is stored under. */
export async function openLanguage(folder: string, { tiedNames, prefix }: LanguageModel): Promise<Checkpoint> {
  const checkpoint = await Checkpoint.open(folder);
  if (tiedNames) checkpoint.alias(...tiedNames);
  for (const name of checkpoint.names()) if (!name.startsWith(prefix)) checkpoint.alias(`${prefix}${name}`, name);
  return checkpoint;
}
