/**
 * The phi3 family (transformers' modeling_phi3.py), Phi 4 among it: a llama with fused projections. Its long sequences have rotary positions
 * of type longrope, which are refused.
 */
import { z } from 'zod';
import { parseWith } from '../config.js';
import { decoder } from './decoder.js';
import { checkHeads, decoderFields, size } from './fields.js';
import type { LanguageModel } from './model.js';

const schema = z
  .object({
    ...decoderFields,
    model_type: z.literal('phi3'),
    max_position_embeddings: size.default(4096),
    rms_norm_eps: z.number().positive().default(1e-5),
    sliding_window: size.nullish(),
  })
  .superRefine(checkHeads);

export function readPhi3(config: unknown, subject: string): LanguageModel {
  const c = parseWith(schema, config, subject);
  const biases = { qkv: false, o: false, ffn: false };
  // PEFT has no choice for this family; where it has one for other fused projections, it is the whole.
  const options = { biases, fused: true, normsHeads: false, scaled: ['qkv'] } as const;
  return decoder(c, { family: 'phi3', ...options, window: c.sliding_window ?? null });
}
