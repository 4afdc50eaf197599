/** What the config.json of every decoder family has in common, and the bounds of it. A family adds its own fields and defaults. */
import { z } from 'zod';
import { rotaryFields } from './rotary.js';

/** Bounds that no real model comes near, so that a config.json cannot ask for more than arithmetic and memory hold. */
export const size = z
  .int()
  .positive()
  .max(2 ** 24);
export const layerCount = z.int().positive().max(4096);

export const decoderFields = {
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: layerCount,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  vocab_size: size,
  max_position_embeddings: size,
  rms_norm_eps: z.number().positive().default(1e-6),
  hidden_act: z.literal('silu').default('silu'),
  tie_word_embeddings: z.boolean().default(false),
  ...rotaryFields,
};

/** The Qwens' fields of a window: from layer `max_window_layers` on, or by layer. */
export const windowFields = {
  use_sliding_window: z.boolean().default(false),
  sliding_window: size.nullable().default(4096),
  max_window_layers: z.int().nonnegative().default(28),
  layer_types: z.array(z.enum(['full_attention', 'sliding_attention'])).nullish(),
};

const decoderSchema = z.object(decoderFields);
const windowSchema = z.object(windowFields);
export type DecoderConfig = z.output<typeof decoderSchema>;

export function headsOf(c: DecoderConfig): { readonly heads: number; readonly kvHeads: number; readonly headDim: number } {
  return {
    heads: c.num_attention_heads,
    kvHeads: c.num_key_value_heads ?? c.num_attention_heads,
    headDim: c.head_dim ?? c.hidden_size / c.num_attention_heads,
  };
}

/** Refuses heads that do not fit together; for `superRefine`. */
export function checkHeads(c: DecoderConfig, context: z.core.$RefinementCtx): void {
  const { heads, kvHeads, headDim } = headsOf(c);
  const refuse = (field: keyof DecoderConfig, message: string) =>
    context.addIssue({ code: 'custom', input: c[field], path: [field], message });
  if (!Number.isInteger(headDim))
    refuse('num_attention_heads', `Expected a divisor of hidden_size ${c.hidden_size} but received ${heads}`);
  else if (headDim % 2 !== 0) refuse('head_dim', `Expected an even number, pairs of it rotate, but received ${headDim}`);
  if (heads % kvHeads !== 0)
    refuse('num_key_value_heads', `Expected a divisor of num_attention_heads ${heads} but received ${kvHeads}`);
}

/** The narrowest window that a layer has; null where every layer sees everything. */
export function windowOf(c: z.output<typeof windowSchema>, layers: number): number | null {
  const slides = c.layer_types ? c.layer_types.includes('sliding_attention') : c.max_window_layers < layers;
  return c.use_sliding_window && slides ? c.sliding_window : null;
}
