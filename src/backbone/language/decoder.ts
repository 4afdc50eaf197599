/**
 * The decoder that most families are: RMSNorm, rotary positions, grouped-query attention, SwiGLU. They differ in where biases are, whether
 * projections are fused, whether heads are normed before they rotate, and how their config.json says so: a family is a schema and these options.
 */
import { mul, reshape, rmsNorm, silu, split } from '../../onnx/ops.js';
import type { LinearModule } from '../module.js';
import { type DecoderConfig, headsOf } from './fields.js';
import { type LanguageModel, type Matrix, product, rowsOf } from './model.js';
import { rotaryOf } from './rotary.js';

export interface DecoderOptions {
  readonly family: string;
  readonly biases: { readonly qkv: boolean; readonly o: boolean; readonly ffn: boolean };
  /** Projections of one input are one projection, cut apart after it. */
  readonly fused: boolean;
  /** Queries and keys are normed head by head before they rotate. */
  readonly normsHeads: boolean;
  /** What IA3 scales of attention: PEFT's choice for the family, so that its adapters fit. */
  readonly scaled: readonly Input[];
  /**
   * How many tokens back attention sees, itself included; null for all. Windows are not implemented, and up to this length there is no
   * difference: longer sequences are refused, rather than a checkpoint that is of use without them.
   */
  readonly window: number | null;
}

type Input = 'q' | 'k' | 'v' | 'qkv';
type Norm = 'inputNorm' | 'qNorm' | 'kNorm' | 'ffnNorm';
type Layer = Readonly<
  Record<'o' | 'down', LinearModule> & Record<'qkv' | 'gateUp', readonly LinearModule[]> & Record<Norm, string>
>;

const EMBEDDING = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';

export function decoder(c: DecoderConfig, { family, biases, fused, normsHeads, scaled, window }: DecoderOptions): LanguageModel {
  const { hidden_size: d, intermediate_size: inner, vocab_size: vocabSize, rms_norm_eps: epsilon } = c;
  const { heads, kvHeads, headDim } = headsOf(c);
  const widths = [heads * headDim, kvHeads * headDim, kvHeads * headDim] as const;

  const attention = (name: string, inFeatures: number, outFeatures: number, bias = biases.qkv): LinearModule => ({
    name,
    inFeatures,
    outFeatures,
    bias,
    site: 'attention',
    layout: 'out_in',
  });
  const input = (part: Input, prefix: string, outFeatures: number): LinearModule => ({
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
      qkv: fused
        ? [input('qkv', prefix, (heads + 2 * kvHeads) * headDim)]
        : [input('q', prefix, widths[0]), input('k', prefix, widths[1]), input('v', prefix, widths[2])],
      qNorm: `${prefix}.self_attn.q_norm.weight`,
      kNorm: `${prefix}.self_attn.k_norm.weight`,
      o: attention(`${prefix}.self_attn.o_proj`, heads * headDim, d, biases.o),
      ffnNorm: `${prefix}.post_attention_layernorm.weight`,
      gateUp: fused
        ? [ffn(fusedAs, d, 2 * inner)]
        : [
            { ...ffn(`${prefix}.mlp.gate_proj`, d, inner), fusedAs },
            { ...ffn(`${prefix}.mlp.up_proj`, d, inner), fusedAs },
          ],
      down: { ...ffn(`${prefix}.mlp.down_proj`, inner, d), scalable: 'input' },
    };
  });

  const head: Matrix = { name: HEAD, inFeatures: d, outFeatures: vocabSize, layout: 'out_in' };
  const modules = layers.flatMap(({ qkv, o, gateUp, down }) => [...qkv, o, ...gateUp, down]);
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
    prefix: 'model.',
    tiedNames: c.tie_word_embeddings ? [EMBEDDING, HEAD] : null,
    parameterCount: modules.reduce(
      (sum, { inFeatures, outFeatures, bias }) => sum + inFeatures * outFeatures + (bias ? outFeatures : 0),
      embeddings + norms,
    ),
    modules,

    embed: (g, weights, ids) => rowsOf(g, weights, EMBEDDING, [vocabSize, d], ids),

    layers(g, weights, hidden, { project, attend, residual }) {
      const apart = (outputs: (typeof hidden)[], sizes: readonly number[]): (typeof hidden)[] =>
        fused ? outputs.flatMap((whole) => split(g, whole, sizes)) : outputs;
      const normed = (x: typeof hidden, name: string): typeof hidden => {
        if (!normsHeads) return x;
        const byHead = reshape(g, x, [...x.shape.slice(0, -1), Number(x.shape.at(-1)) / headDim, headDim]);
        return reshape(g, rmsNorm(g, byHead, weights.value(g, name, [headDim]), epsilon), x.shape);
      };
      return layers.reduce((h, layer, index) => {
        const x = rmsNorm(g, h, weights.value(g, layer.inputNorm, [d]), epsilon);
        const [q, k, v] = apart(project(layer.qkv, x), widths) as [typeof x, typeof x, typeof x];
        const attended = attend(index, normed(q, layer.qNorm), normed(k, layer.kNorm), v);
        const [branch] = project([layer.o], attended) as [typeof x];
        const middle = residual(h, branch);
        const y = rmsNorm(g, middle, weights.value(g, layer.ffnNorm, [d]), epsilon);
        const [gate, up] = apart(project(layer.gateUp, y), [inner, inner]) as [typeof x, typeof x];
        const [down] = project([layer.down], mul(g, silu(g, gate), up)) as [typeof x];
        return residual(middle, down);
      }, hidden);
    },

    logits: (g, weights, hidden) =>
      product(g, weights, head, rmsNorm(g, hidden, weights.value(g, 'model.norm.weight', [d]), epsilon)),
  };
}
