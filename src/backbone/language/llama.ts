/** The llama family (transformers' modeling_llama.py), SmolLM and SmolLM2 among it. */
import { z } from 'zod';
import { parseWith } from '../config.js';
import { decoder } from './decoder.js';
import { checkHeads, decoderFields, size } from './fields.js';
import type { LanguageModel } from './model.js';

const schema = z
  .object({
    ...decoderFields,
    model_type: z.literal('llama'),
    max_position_embeddings: size.default(2048),
    attention_bias: z.boolean().default(false),
    mlp_bias: z.boolean().default(false),
  })
  .superRefine(checkHeads);

export function readLlama(config: unknown, subject: string): LanguageModel {
  const c = parseWith(schema, config, subject);
  const biases = { qkv: c.attention_bias, o: c.attention_bias, ffn: c.mlp_bias };
  return decoder(c, { family: 'llama', biases, fused: false, normsHeads: false, scaled: ['k', 'v'], window: null });
}
