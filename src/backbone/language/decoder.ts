/**
 * The decoder that most families are: RMSNorm, rotary positions, grouped-query attention, SwiGLU. They differ in where biases
 * are, whether heads are normed before they rotate, and how their config.json says so: a family is a schema and these options.
 */
import { gather, linear, mul, reshape, rmsNorm, silu } from '../../onnx/ops.js';
import type { LinearModule } from '../module.js';
import { type DecoderConfig, headsOf } from './fields.js';
import type { LanguageModel } from './model.js';
import { rotaryOf } from './rotary.js';

export interface DecoderOptions {
  readonly family: string;
  readonly biases: { readonly qkv: boolean; readonly o: boolean; readonly ffn: boolean };
  /** Queries and keys are normed head by head before they rotate. */
  readonly normsHeads: boolean;
  /** What IA3 scales of attention: PEFT's choice for the family, so that its adapters fit. */
  readonly scaled: readonly ('q' | 'k' | 'v')[];
  /**
   * How many tokens back attention sees, itself included; null for all. Windows are not implemented, and up to this length there is no
   * difference: longer sequences are refused, rather than a checkpoint that is of use without them.
   */
  readonly window: number | null;
}

type Projection = 'q' | 'k' | 'v' | 'o' | 'gate' | 'up' | 'down';
type Norm = 'inputNorm' | 'qNorm' | 'kNorm' | 'ffnNorm';
type Layer = Readonly<Record<Projection, LinearModule> & Record<Norm, string>>;

const EMBEDDING = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';

export function decoder(c: DecoderConfig, { family, biases, normsHeads, scaled, window }: DecoderOptions): LanguageModel {
  const { hidden_size: d, intermediate_size: inner, vocab_size: vocabSize, rms_norm_eps: epsilon } = c;
  const { heads, kvHeads, headDim } = headsOf(c);

  const attention = (name: string, inFeatures: number, outFeatures: number, bias = biases.qkv): LinearModule => ({
    name,
    inFeatures,
    outFeatures,
    bias,
    site: 'attention',
    layout: 'out_in',
  });
  const input = (part: 'q' | 'k' | 'v', prefix: string, outFeatures: number): LinearModule => ({
    ...attention(`${prefix}.self_attn.${part}_proj`, d, outFeatures),
    ...(scaled.includes(part) && { scalable: 'output' }),
  });
  const ffn = (name: string, inFeatures: number, outFeatures: number): LinearModule => ({
    name,
    inFeatures,
    outFeatures,
    bias: biases.ffn,
    site: 'ffn',
    layout: 'out_in',
  });
  const layers = Array.from({ length: c.num_hidden_layers }, (_, index): Layer => {
    const prefix = `model.layers.${index}`;
    const fusedAs = `${prefix}.mlp.gate_up_proj`;
    return {
      inputNorm: `${prefix}.input_layernorm.weight`,
      q: input('q', prefix, heads * headDim),
      k: input('k', prefix, kvHeads * headDim),
      v: input('v', prefix, kvHeads * headDim),
      qNorm: `${prefix}.self_attn.q_norm.weight`,
      kNorm: `${prefix}.self_attn.k_norm.weight`,
      o: attention(`${prefix}.self_attn.o_proj`, heads * headDim, d, biases.o),
      ffnNorm: `${prefix}.post_attention_layernorm.weight`,
      gate: { ...ffn(`${prefix}.mlp.gate_proj`, d, inner), fusedAs },
      up: { ...ffn(`${prefix}.mlp.up_proj`, d, inner), fusedAs },
      down: { ...ffn(`${prefix}.mlp.down_proj`, inner, d), scalable: 'input' },
    };
  });

  const modules = layers.flatMap(({ q, k, v, o, gate, up, down }) => [q, k, v, o, gate, up, down]);
  const embeddings = (c.tie_word_embeddings ? 1 : 2) * vocabSize * d;
  const norms = (2 * layers.length + 1) * d + (normsHeads ? 2 * layers.length * headDim : 0);

  return {
    family,
    hiddenSize: d,
    layerCount: layers.length,
    heads,
    kvHeads,
    headDim,
    vocabSize,
    maxPositions: Math.min(c.max_position_embeddings, window ?? Number.POSITIVE_INFINITY),
    rotary: rotaryOf(c, headDim, c.max_position_embeddings),
    tiedNames: c.tie_word_embeddings ? [EMBEDDING, HEAD] : null,
    parameterCount: modules.reduce(
      (sum, { inFeatures, outFeatures, bias }) => sum + inFeatures * outFeatures + (bias ? outFeatures : 0),
      embeddings + norms,
    ),
    modules,

    embed: (g, weights, ids) => gather(g, weights.value(g, EMBEDDING, [vocabSize, d]), ids),

    layers(g, weights, hidden, { project, attend, residual }) {
      const normed = (x: typeof hidden, name: string): typeof hidden => {
        if (!normsHeads) return x;
        const apart = reshape(g, x, [...x.shape.slice(0, -1), Number(x.shape.at(-1)) / headDim, headDim]);
        return reshape(g, rmsNorm(g, apart, weights.value(g, name, [headDim]), epsilon), x.shape);
      };
      return layers.reduce((h, layer, index) => {
        const x = rmsNorm(g, h, weights.value(g, layer.inputNorm, [d]), epsilon);
        const [q, k, v] = project([layer.q, layer.k, layer.v], x) as [typeof x, typeof x, typeof x];
        const attended = attend(index, normed(q, layer.qNorm), normed(k, layer.kNorm), v);
        const [branch] = project([layer.o], attended) as [typeof x];
        const middle = residual(h, branch);
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
