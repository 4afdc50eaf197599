/** The llama family: RMSNorm, rotary positions, grouped-query attention, SwiGLU (transformers' modeling_llama.py). */
import { z } from 'zod';
import { gather, linear, mul, rmsNorm, silu } from '../../onnx/ops.js';
import { parseWith } from '../config.js';
import type { LinearModule } from '../module.js';
import type { LanguageModel } from './model.js';

/** Bounds that no real model comes near, so that a config.json cannot ask for more than arithmetic and memory hold. */
const size = z
  .int()
  .positive()
  .max(2 ** 24);
const layerCount = z.int().positive().max(4096);

const fields = z.object({
  model_type: z.literal('llama'),
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: layerCount,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  vocab_size: size,
  max_position_embeddings: size.default(2048),
  rms_norm_eps: z.number().positive().default(1e-6),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: z.null({ error: 'Expected no rope_scaling: scaled rotary positions are not implemented yet' }).optional(),
  /** transformers 5 moved the rotary settings here. */
  rope_parameters: z
    .object({ rope_theta: z.number().positive().optional(), rope_type: z.literal('default').default('default') })
    .nullish(),
  hidden_act: z.literal('silu').default('silu'),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(false),
});

const schema = fields
  .transform((c) => ({
    ...c,
    kvHeads: c.num_key_value_heads ?? c.num_attention_heads,
    headDim: c.head_dim ?? c.hidden_size / c.num_attention_heads,
  }))
  .superRefine(({ hidden_size: d, num_attention_heads: heads, kvHeads, headDim }, context) => {
    const refuse = (field: keyof z.input<typeof fields>, message: string) =>
      context.addIssue({ code: 'custom', path: [field], message });
    if (!Number.isInteger(headDim)) refuse('num_attention_heads', `Expected a divisor of hidden_size ${d} but received ${heads}`);
    else if (headDim % 2 !== 0) refuse('head_dim', `Expected an even number, pairs of it rotate, but received ${headDim}`);
    if (heads % kvHeads !== 0)
      refuse('num_key_value_heads', `Expected a divisor of num_attention_heads ${heads} but received ${kvHeads}`);
  });

type Projection = 'q' | 'k' | 'v' | 'o' | 'gate' | 'up' | 'down';
type Layer = Readonly<Record<Projection, LinearModule>> & { readonly inputNorm: string; readonly ffnNorm: string };

const EMBEDDING = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';

export function readLlama(config: unknown, subject: string): LanguageModel {
  const c = parseWith(schema, config, subject);
  const { hidden_size: d, num_attention_heads: heads, kvHeads, headDim, vocab_size: vocabSize, rms_norm_eps: epsilon } = c;
  const theta = c.rope_theta ?? c.rope_parameters?.rope_theta ?? 10_000;

  const attention = (name: string, inFeatures: number, outFeatures: number): LinearModule => ({
    name,
    inFeatures,
    outFeatures,
    bias: c.attention_bias,
    site: 'attention',
    layout: 'out_in',
  });
  const ffn = (name: string, inFeatures: number, outFeatures: number): LinearModule => ({
    name,
    inFeatures,
    outFeatures,
    bias: c.mlp_bias,
    site: 'ffn',
    layout: 'out_in',
  });
  const layers = Array.from({ length: c.num_hidden_layers }, (_, index): Layer => {
    const prefix = `model.layers.${index}`;
    const fusedAs = `${prefix}.mlp.gate_up_proj`;
    return {
      inputNorm: `${prefix}.input_layernorm.weight`,
      q: attention(`${prefix}.self_attn.q_proj`, d, heads * headDim),
      k: { ...attention(`${prefix}.self_attn.k_proj`, d, kvHeads * headDim), scalable: 'output' },
      v: { ...attention(`${prefix}.self_attn.v_proj`, d, kvHeads * headDim), scalable: 'output' },
      o: attention(`${prefix}.self_attn.o_proj`, heads * headDim, d),
      ffnNorm: `${prefix}.post_attention_layernorm.weight`,
      gate: { ...ffn(`${prefix}.mlp.gate_proj`, d, c.intermediate_size), fusedAs },
      up: { ...ffn(`${prefix}.mlp.up_proj`, d, c.intermediate_size), fusedAs },
      down: { ...ffn(`${prefix}.mlp.down_proj`, c.intermediate_size, d), scalable: 'input' },
    };
  });

  const modules = layers.flatMap(({ q, k, v, o, gate, up, down }) => [q, k, v, o, gate, up, down]);
  const embeddings = (c.tie_word_embeddings ? 1 : 2) * vocabSize * d;
  const norms = (2 * layers.length + 1) * d;

  return {
    family: 'llama',
    hiddenSize: d,
    layerCount: layers.length,
    heads,
    kvHeads,
    headDim,
    vocabSize,
    maxPositions: c.max_position_embeddings,
    rotary: { inverseFrequencies: Array.from({ length: headDim / 2 }, (_, pair) => theta ** ((-2 * pair) / headDim)) },
    tiedNames: c.tie_word_embeddings ? [EMBEDDING, HEAD] : null,
    parameterCount: modules.reduce(
      (sum, { inFeatures, outFeatures, bias }) => sum + inFeatures * outFeatures + (bias ? outFeatures : 0),
      embeddings + norms,
    ),
    modules,

    embed: (g, weights, ids) => gather(g, weights.value(g, EMBEDDING, [vocabSize, d]), ids),

    layers(g, weights, hidden, { project, attend, residual }) {
      return layers.reduce((h, layer, index) => {
        const x = rmsNorm(g, h, weights.value(g, layer.inputNorm, [d]), epsilon);
        const [q, k, v] = project([layer.q, layer.k, layer.v], x) as [typeof x, typeof x, typeof x];
        const [attended] = project([layer.o], attend(index, q, k, v)) as [typeof x];
        const middle = residual(h, attended);
        const y = rmsNorm(g, middle, weights.value(g, layer.ffnNorm, [d]), epsilon);
        const [gate, up] = project([layer.gate, layer.up], y) as [typeof x, typeof x];
        const [down] = project([layer.down], mul(g, silu(g, gate), up)) as [typeof x];
        return residual(middle, down);
      }, hidden);
    },

    logits: (g, weights, hidden) =>
      linear(g, rmsNorm(g, hidden, weights.value(g, 'model.norm.weight', [d]), epsilon), weights.value(g, HEAD, [vocabSize, d])),
  };
}
