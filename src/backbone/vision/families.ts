/** The vision families by `model_type`. A new family is one file and one line here. */
import { AppError } from '../../errors.js';
import { readModelConfig } from '../config.js';
import { readClip } from './clip.js';
import { readDeiT } from './deit.js';
import { readDinov2 } from './dinov2.js';
import { choiceFaults, type FeatureChoice } from './features.js';
import { readMobileNetV2 } from './mobilenet.js';
import type { VisionModel } from './model.js';
import { readSiglip } from './siglip.js';
import { readSwinv2 } from './swinv2.js';
import { readViT } from './vit.js';

type Reader = (config: unknown, file: string, choice?: FeatureChoice) => VisionModel;

/** Of one kind of features. */
const only =
  (read: Reader): Reader =>
  (config, file, choice) => {
    const model = read(config, file);
    if (!choice) return model;
    throw AppError.ofFaults('invalid_file', choice.file, choiceFaults(choice, `${model.family} has one kind of features`));
  };

const FAMILIES: ReadonlyMap<string, Reader> = new Map([
  ['mobilenet_v2', only(readMobileNetV2)],
  ['vit', only(readViT)],
  ['deit', only(readDeiT)],
  ['dinov2', only(readDinov2)],
  ['swinv2', only(readSwinv2)],
  ['clip_vision_model', readClip],
  ['clip', readClip],
  ['siglip_vision_model', readSiglip],
  ['siglip', readSiglip],
]);

/** Their names, those of whole models that hold a tower among them. */
export const VISION_TYPES: readonly string[] = [...FAMILIES.keys()];

/**
 * Describes the vision encoder of a checkpoint folder from its config.json, or from that file alone, and which of its features were
 * chosen; no weight is read. Throws `invalid_file` or `unsupported_model`.
 */
export async function readVisionModel(location: string, choice?: FeatureChoice): Promise<VisionModel> {
  const { config, file, read } = await readModelConfig(location, 'vision', FAMILIES);
  return read(config, file, choice);
}
