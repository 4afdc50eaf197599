/**
 * The opt family (transformers' modeling_opt.py). Positions begin at the third row of their table. One size of it, 350m, normalises after
 * attention and MLP, has no last norm, and words of half the size.
 */
import { z } from 'zod';
import { activation } from '../activation.js';
import { parseWith } from '../config.js';
import { layerCount, size } from './fields.js';
import type { LanguageModel } from './model.js';
import { transformer } from './transformer.js';

const FIRST_POSITION = 2;
/** There is no setting: PyTorch's own. */
const EPSILON = 1e-5;

const schema = z
  .object({
    model_type: z.literal('opt'),
    vocab_size: size.default(50_272),
    hidden_size: size.default(768),
    num_hidden_layers: layerCount.default(12),
    ffn_dim: size.default(3072),
    num_attention_heads: size.default(12),
    max_position_embeddings: size.default(2048),
    do_layer_norm_before: z.boolean().default(true),
    /** Of models that were tuned while the last norm was forgotten. */
    _remove_final_layer_norm: z.boolean().default(false),
    word_embed_proj_dim: size.nullish(),
    activation_function: activation.prefault('relu'),
    enable_bias: z.boolean().default(true),
    layer_norm_elementwise_affine: z.boolean().default(true),
    tie_word_embeddings: z.boolean().default(true),
  })
  .superRefine(({ hidden_size: d, num_attention_heads: heads }, context) => {
    const message = `Expected a divisor of hidden_size ${d} but received ${heads}`;
    if (d % heads !== 0) context.addIssue({ code: 'custom', input: heads, path: ['num_attention_heads'], message });
  });

export function readOpt(config: unknown, subject: string): LanguageModel {
  const c = parseWith(schema, config, subject);
  const { hidden_size: d, do_layer_norm_before: isFirst, _remove_final_layer_norm: lacksLast } = c;
  const embedding = c.word_embed_proj_dim ?? d;
  return transformer({
    family: 'opt',
    sizes: {
      hidden: d,
      inner: c.ffn_dim,
      layers: c.num_hidden_layers,
      heads: c.num_attention_heads,
      vocabulary: c.vocab_size,
      positions: c.max_position_embeddings,
      embedding,
    },
    names: {
      prefix: 'model.',
      embedding: 'model.decoder.embed_tokens',
      positions: 'model.decoder.embed_positions',
      projections: embedding === d ? null : ['model.decoder.project_in', 'model.decoder.project_out'],
      layers: 'model.decoder.layers',
      norms: ['self_attn_layer_norm', 'final_layer_norm'],
      lastNorm: isFirst && !lacksLast ? 'model.decoder.final_layer_norm' : null,
      inputs: ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'],
      output: 'self_attn.out_proj',
      mlp: ['fc1', 'fc2'],
    },
    layout: 'out_in',
    hasBias: c.enable_bias,
    scaled: ['self_attn.q_proj', 'self_attn.k_proj'],
    activation: c.activation_function,
    norm: { epsilon: EPSILON, isAffine: c.layer_norm_elementwise_affine, isFirst },
    firstPosition: FIRST_POSITION,
    scoreFactor: () => 1,
    isTied: c.tie_word_embeddings,
  });
}
