/** The qwen3 family (transformers' modeling_qwen3.py): queries and keys are normed head by head, and heads have a size of their own. */
import { z } from 'zod';
import { parseWith } from '../config.js';
import { decoder } from './decoder.js';
import { checkHeads, decoderFields, size, windowFields, windowOf } from './fields.js';
import type { LanguageModel } from './model.js';

const schema = z
  .object({
    ...decoderFields,
    ...windowFields,
    model_type: z.literal('qwen3'),
    num_key_value_heads: size.nullable().default(32),
    head_dim: size.default(128),
    max_position_embeddings: size.default(32_768),
    attention_bias: z.boolean().default(false),
  })
  .superRefine(checkHeads);

export function readQwen3(config: unknown, subject: string): LanguageModel {
  const c = parseWith(schema, config, subject);
  const biases = { qkv: c.attention_bias, o: c.attention_bias, ffn: false };
  const window = windowOf(c, c.num_hidden_layers);
  return decoder(c, { family: 'qwen3', biases, fused: false, normsHeads: true, scaled: ['q', 'v'], window });
}
