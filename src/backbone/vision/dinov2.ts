/**
 * DINOv2 (Oquab et al. 2023; transformers' modeling_dinov2.py): ViT with a learned scale after each half of a block, a gated MLP in its
 * largest model, and positions that are interpolated: it was trained at 518 pixels and is mostly used at 224.
 */
import { z } from 'zod';
import { mul, silu, split } from '../../onnx/ops.js';
import { parseWith } from '../config.js';
import type { VisionModel } from './model.js';
import { checkSizes, dense, sharedFields, square, transformer } from './transformer.js';
import { plainNames } from './vit.js';

const schema = z
  .object({
    model_type: z.literal('dinov2'),
    ...sharedFields,
    mlp_ratio: z.number().positive().max(1024).default(4),
    layer_norm_eps: z.number().positive().default(1e-6),
    image_size: square.prefault(224),
    patch_size: square.prefault(14),
    use_swiglu_ffn: z.boolean().default(false),
  })
  .superRefine(checkSizes);

export function readDinov2(config: unknown, subject: string): VisionModel {
  const c = parseWith(schema, config, subject);
  const { hidden_size: d } = c;
  const width = Math.floor(d * c.mlp_ratio);
  // Two thirds, for there are three matrices, up to a multiple of 8.
  const gatedWidth = Math.ceil(Math.floor((width * 2) / 3) / 8) * 8;
  return transformer({
    family: 'dinov2',
    config: c,
    subject,
    names: plainNames('dinov2', ['cls_token']),
    hasPatchBias: true,
    anySize: true,
    block: {
      norms: ['norm1', 'norm2'],
      scales: ['layer_scale1.lambda1', 'layer_scale2.lambda1'],
      mlp(tensors, x) {
        const { g } = tensors;
        if (!c.use_swiglu_ffn) return dense(tensors, 'mlp.fc2', c.hidden_act(g, dense(tensors, 'mlp.fc1', x, width)), d);
        const both = dense(tensors, 'mlp.weights_in', x, 2 * gatedWidth);
        const [gate, up] = split(g, both, [gatedWidth, gatedWidth]) as [typeof x, typeof x];
        return dense(tensors, 'mlp.weights_out', mul(g, silu(g, gate), up), d);
      },
    },
  });
}
