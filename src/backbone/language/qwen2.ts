/** The qwen2 family (transformers' modeling_qwen2.py), Qwen 2.5 among it: a llama with biases on queries, keys and values. */
import { z } from 'zod';
import { parseWith } from '../config.js';
import { decoder } from './decoder.js';
import { checkHeads, decoderFields, size, windowFields, windowOf } from './fields.js';
import type { LanguageModel } from './model.js';

const schema = z
  .object({
    ...decoderFields,
    ...windowFields,
    model_type: z.literal('qwen2'),
    num_key_value_heads: size.nullable().default(32),
    max_position_embeddings: size.default(32_768),
  })
  .superRefine(checkHeads);

export function readQwen2(config: unknown, subject: string): LanguageModel {
  const c = parseWith(schema, config, subject);
  const biases = { qkv: true, o: false, ffn: false };
  const window = windowOf(c, c.num_hidden_layers);
  return decoder(c, { family: 'qwen2', biases, fused: false, normsHeads: false, scaled: ['q', 'v'], window });
}
