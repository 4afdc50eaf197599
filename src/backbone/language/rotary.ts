/**
 * The rotary settings of config.json, in either spelling (`rope_scaling` beside `rope_theta`, or transformers 5's `rope_parameters`), and the
 * frequencies that they mean (transformers' modeling_rope_utils.py). Scaling changes the frequencies alone, so that nothing behind them knows
 * of it; a type that also depends on a sequence's length, or changes the size of sines and cosines, is refused.
 */
import { z } from 'zod';
import { quote } from '../../tensor/json.js';
import type { Rotary } from './model.js';

const DEFAULT_THETA = 10_000;
export const ROTARY_TYPES = ['default', 'linear', 'llama3'] as const;

const base = {
  rope_theta: z.number().positive().nullish(),
  partial_rotary_factor: z
    .literal(1, {
      error: ({ input }) =>
        `Expected every dimension to rotate, because a part of them is not implemented, but received ${quote(input)}`,
    })
    .nullish(),
};

const settings = z.preprocess(
  // `type` is the oldest spelling; where both are there, the newer counts.
  (value) => {
    if (typeof value !== 'object' || value === null) return value;
    const { type, rope_type = type ?? 'default' } = value as { readonly type?: unknown; readonly rope_type?: unknown };
    // Settings by kind of layer have theirs one level down: no type, rather than the default.
    const isNested = Object.values(value).some((each) => typeof each === 'object' && each !== null && !Array.isArray(each));
    return { ...value, rope_type: isNested ? value : rope_type };
  },
  z.discriminatedUnion(
    'rope_type',
    [
      z.object({ ...base, rope_type: z.literal('default') }),
      z.object({ ...base, rope_type: z.literal('linear'), factor: z.number().positive() }),
      z
        .object({
          ...base,
          rope_type: z.literal('llama3'),
          factor: z.number().positive(),
          low_freq_factor: z.number().positive(),
          high_freq_factor: z.number().positive(),
          original_max_position_embeddings: z.int().positive().nullish(),
        })
        .superRefine(({ low_freq_factor: low, high_freq_factor: high }, context) => {
          const message = `Expected more than low_freq_factor ${low} but received ${high}`;
          if (low >= high) context.addIssue({ code: 'custom', path: ['high_freq_factor'], message });
        }),
    ],
    {
      error: ({ code, input }) =>
        code === 'invalid_union'
          ? `Expected rotary positions of type ${ROTARY_TYPES.join(', ')} but received ${quote((input as { rope_type: unknown }).rope_type)}`
          : undefined,
    },
  ),
);

/** What a family's schema has of them. */
export const rotaryFields = {
  ...base,
  rope_scaling: settings.nullish(),
  rope_parameters: settings.nullish(),
};

export interface RotaryConfig {
  readonly rope_theta?: number | null | undefined;
  readonly rope_scaling?: z.output<typeof settings> | null | undefined;
  readonly rope_parameters?: z.output<typeof settings> | null | undefined;
}

export function rotaryOf(config: RotaryConfig, headDim: number, maxPositions: number): Rotary {
  // As transformers: the older key counts where a file has both.
  const scaling = config.rope_scaling ?? config.rope_parameters ?? { rope_type: 'default' as const };
  const theta = scaling.rope_theta ?? config.rope_theta ?? DEFAULT_THETA;
  const plain = Array.from({ length: headDim / 2 }, (_, pair) => theta ** ((-2 * pair) / headDim));
  if (scaling.rope_type === 'default') return { inverseFrequencies: plain };
  const { factor } = scaling;
  if (scaling.rope_type === 'linear') return { inverseFrequencies: plain.map((each) => each / factor) };

  const { low_freq_factor: low, high_freq_factor: high } = scaling;
  const trained = scaling.original_max_position_embeddings ?? maxPositions;
  return {
    inverseFrequencies: plain.map((each) => {
      // How often the pair turns within the length that was trained first: often stays, seldom is slowed, in between is mixed.
      const turns = (trained * each) / (2 * Math.PI);
      const kept = Math.min(1, Math.max(0, (turns - low) / (high - low)));
      return (1 - kept) * (each / factor) + kept * each;
    }),
  };
}
