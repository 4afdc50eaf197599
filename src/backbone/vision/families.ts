/** The vision families by `model_type`. A new family is one file and one line here. */
import { AppError } from '../../errors.js';
import { readModelConfig } from '../config.js';
import { readDeiT } from './deit.js';
import { readDinov2 } from './dinov2.js';
import { readMobileNetV2 } from './mobilenet.js';
import type { VisionModel } from './model.js';
import { readSwinv2 } from './swinv2.js';
import { readViT } from './vit.js';

const FAMILIES: ReadonlyMap<string, (config: unknown, subject: string) => VisionModel> = new Map([
  ['mobilenet_v2', readMobileNetV2],
  ['vit', readViT],
  ['deit', readDeiT],
  ['dinov2', readDinov2],
  ['swinv2', readSwinv2],
]);

/** Describes the vision encoder of a checkpoint folder from its config.json, or from that file alone; no weight is read. */
export async function readVisionModel(location: string): Promise<VisionModel> {
  const { config, file } = await readModelConfig(location);
  const type = String((config as { model_type?: unknown } | null)?.model_type);
  const read = FAMILIES.get(type);
  if (!read)
    throw new AppError(
      'unsupported_model',
      `${location}: Expected a vision model_type of ${[...FAMILIES.keys()].join(', ')} but received ${type}`,
    );
  return read(config, file);
}
