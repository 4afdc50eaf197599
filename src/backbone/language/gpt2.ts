/**
 * The gpt2 family (transformers' modeling_gpt2.py): weights lie [in, out], and queries, keys and values are one projection. Checkpoints may
 * hold masks of attention (`h.0.attn.bias`), which are no weights. `reorder_and_upcast_attn` is about half precision: all is float32 here.
 */
import { z } from 'zod';
import { activation } from '../activation.js';
import { parseWith } from '../config.js';
import { layerCount, size } from './fields.js';
import type { LanguageModel } from './model.js';
import { transformer } from './transformer.js';

const schema = z
  .object({
    model_type: z.literal('gpt2'),
    vocab_size: size.default(50_257),
    n_positions: size.default(1024),
    n_embd: size.default(768),
    n_layer: layerCount.default(12),
    n_head: size.default(12),
    n_inner: size.nullish(),
    activation_function: activation.prefault('gelu_new'),
    layer_norm_epsilon: z.number().positive().default(1e-5),
    scale_attn_weights: z.boolean().default(true),
    scale_attn_by_inverse_layer_idx: z.boolean().default(false),
    add_cross_attention: z
      .literal(false, { error: 'Expected attention within the text alone: cross-attention is not implemented' })
      .default(false),
    tie_word_embeddings: z.boolean().default(true),
  })
  .superRefine(({ n_embd: d, n_head: heads }, context) => {
    const message = `Expected a divisor of n_embd ${d} but received ${heads}`;
    if (d % heads !== 0) context.addIssue({ code: 'custom', input: heads, path: ['n_head'], message });
  });

export function readGpt2(config: unknown, subject: string): LanguageModel {
  const c = parseWith(schema, config, subject);
  const { n_embd: d, n_head: heads } = c;
  return transformer({
    family: 'gpt2',
    sizes: {
      hidden: d,
      inner: c.n_inner ?? 4 * d,
      layers: c.n_layer,
      heads,
      vocabulary: c.vocab_size,
      positions: c.n_positions,
      embedding: d,
    },
    names: {
      prefix: 'transformer.',
      embedding: 'transformer.wte',
      positions: 'transformer.wpe',
      projections: null,
      layers: 'transformer.h',
      norms: ['ln_1', 'ln_2'],
      lastNorm: 'transformer.ln_f',
      inputs: ['attn.c_attn'],
      output: 'attn.c_proj',
      mlp: ['mlp.c_fc', 'mlp.c_proj'],
    },
    layout: 'in_out',
    hasBias: true,
    scaled: ['attn.c_attn'],
    activation: c.activation_function,
    norm: { epsilon: c.layer_norm_epsilon, isAffine: true, isFirst: true },
    firstPosition: 0,
    scoreFactor: (layer) =>
      (c.scale_attn_weights ? 1 : Math.sqrt(d / heads)) / (c.scale_attn_by_inverse_layer_idx ? layer + 1 : 1),
    isTied: c.tie_word_embeddings,
  });
}
