/**
 * SigLIP's image tower (Zhai et al. 2023; transformers' modeling_siglip.py), and that of SigLIP 2 at fixed sizes, which says that it is
 * SigLIP: every token is a patch, and the features are what all of them are after the last norm. The head that pools them is not read.
 */
import { type FeatureChoice, LAST } from './features.js';
import type { VisionModel } from './model.js';
import { readTower } from './tower.js';

export function readSiglip(config: unknown, file: string, choice?: FeatureChoice): VisionModel {
  return readTower(
    {
      family: 'siglip_vision_model',
      whole: { type: 'siglip', field: 'vision_config' },
      defaults: { hidden_act: 'gelu_pytorch_tanh', layer_norm_eps: 1e-6, patch_size: 16 },
      classToken: null,
      firstNorm: null,
      hasPatchBias: true,
      lastIsNormed: true,
      layer: LAST,
    },
    config,
    file,
    choice,
  );
}
