/** DeiT (Touvron et al. 2021; transformers' modeling_deit.py): ViT with a second token, which learned from a teacher. */
import type { VisionModel } from './model.js';
import { readPlain } from './vit.js';

export function readDeiT(config: unknown, subject: string): VisionModel {
  return readPlain('deit', ['cls_token', 'distillation_token'], config, subject);
}
