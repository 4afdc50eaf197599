/** The mistral family (transformers' modeling_mistral.py): a llama without biases whose attention may have a window. */
import { z } from 'zod';
import { parseWith } from '../config.js';
import { decoder } from './decoder.js';
import { checkHeads, decoderFields, size } from './fields.js';
import type { LanguageModel } from './model.js';

const schema = z
  .object({
    ...decoderFields,
    model_type: z.literal('mistral'),
    num_key_value_heads: size.nullable().default(8),
    max_position_embeddings: size.default(131_072),
    /** A file that does not speak of it has one. */
    sliding_window: size.nullable().default(4096),
  })
  .superRefine(checkHeads);

export function readMistral(config: unknown, subject: string): LanguageModel {
  const c = parseWith(schema, config, subject);
  const biases = { qkv: false, o: false, ffn: false };
  return decoder(c, { family: 'mistral', biases, fused: false, normsHeads: false, scaled: ['k', 'v'], window: c.sliding_window });
}
