/**
 * CLIP's image tower (Radford et al. 2021; transformers' modeling_clip.py). Its features are LLaVA's: what the last block reads, without
 * the class token. The last block was trained for that token's sake alone.
 */
import { z } from 'zod';
import type { FeatureChoice } from './features.js';
import type { VisionModel } from './model.js';
import { readTower } from './tower.js';

/** Older files describe the tower of a whole CLIP twice, and transformers goes by this one where it is there. */
const old = z.looseObject({ vision_config_dict: z.looseObject({}) });

export function readClip(config: unknown, file: string, choice?: FeatureChoice): VisionModel {
  return readTower(
    {
      family: 'clip_vision_model',
      whole: { type: 'clip', field: old.safeParse(config).success ? 'vision_config_dict' : 'vision_config' },
      defaults: { hidden_act: 'quick_gelu', layer_norm_eps: 1e-5, patch_size: 32 },
      classToken: 'embeddings.class_embedding',
      // So it is called in every checkpoint.
      firstNorm: 'pre_layrnorm',
      hasPatchBias: false,
      lastIsNormed: false,
      layer: -2,
    },
    config,
    file,
    choice,
  );
}
