/** ViT (Dosovitskiy et al. 2021; transformers' modeling_vit.py): a class token before the patches, an MLP in every block. */
import { z } from 'zod';
import { parseWith } from '../config.js';
import type { VisionModel } from './model.js';
import { checkSizes, dense, edges, type Names, PATCHES, sharedFields, size, transformer } from './transformer.js';

const fields = {
  ...sharedFields,
  intermediate_size: size.default(3072),
  layer_norm_eps: z.number().positive().default(1e-12),
  patch_size: edges.prefault(16),
};

export function readViT(config: unknown, subject: string): VisionModel {
  return readPlain('vit', ['cls_token'], config, subject);
}

/** A family of ViT's settings, layers and names, whatever tokens stand before the patches. */
export function readPlain(family: string, tokens: readonly string[], config: unknown, subject: string): VisionModel {
  const schema = z.object({ model_type: z.literal(family), ...fields }).superRefine(checkSizes);
  const c = parseWith(schema, config, subject);
  return transformer({
    family,
    config: c,
    subject,
    names: plainNames(family, tokens),
    hasPatchBias: true,
    anySize: false,
    block: {
      norms: ['layernorm_before', 'layernorm_after'],
      scales: null,
      mlp: (tensors, x) =>
        dense(
          tensors,
          'output.dense',
          c.hidden_act(tensors.g, dense(tensors, 'intermediate.dense', x, c.intermediate_size)),
          c.hidden_size,
        ),
    },
  });
}

/** The names of a family that calls things as ViT does. */
export function plainNames(family: string, tokens: readonly string[]): Names {
  return {
    prefix: `${family}.`,
    patches: PATCHES,
    tokens: tokens.map((name) => `embeddings.${name}`),
    positions: 'embeddings.position_embeddings',
    areTables: false,
    layers: 'encoder.layer',
    attention: ['attention.attention.query', 'attention.attention.key', 'attention.attention.value', 'attention.output.dense'],
    firstNorm: null,
    lastNorm: 'layernorm',
  };
}
