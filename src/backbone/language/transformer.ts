/**
 * The decoder as it was before llama (Radford et al. 2019): learned positions, LayerNorm, a key head for every query head, and an MLP of
 * two projections. Its families differ in names, in how weights lie, and in where they normalise: a family is a schema and these options.
 */
import type { Graph, Value } from '../../onnx/graph.js';
import { layerNorm } from '../../onnx/norm.js';
import { add, float32, int64, mul, scalar, split } from '../../onnx/ops.js';
import type { Activation } from '../activation.js';
import type { LinearModule } from '../module.js';
import { type LanguageModel, type Matrix, product, rowsOf, type WeightSource } from './model.js';

export interface TransformerOptions {
  readonly family: string;
  readonly sizes: {
    readonly hidden: number;
    readonly inner: number;
    readonly layers: number;
    readonly heads: number;
    readonly vocabulary: number;
    readonly positions: number;
    /** Of a word's vector; where it is not `hidden`, projections lead in and out. */
    readonly embedding: number;
  };
  /** Full names of what is there once; those of a layer begin after its number. */
  readonly names: {
    readonly prefix: string;
    readonly embedding: string;
    readonly positions: string;
    /** Into the layers and out of them. */
    readonly projections: readonly [string, string] | null;
    /** Before the number of a layer. */
    readonly layers: string;
    /** Of attention and of the MLP. */
    readonly norms: readonly [string, string];
    /** After all layers; null where there is none. */
    readonly lastNorm: string | null;
    /** Queries, keys and values, or one projection for all three. */
    readonly inputs: readonly string[];
    readonly output: string;
    readonly mlp: readonly [string, string];
  };
  readonly layout: LinearModule['layout'];
  readonly hasBias: boolean;
  /** Those of `inputs` that IA3 scales: PEFT's choice for the family, so that its adapters fit. */
  readonly scaled: readonly string[];
  readonly activation: Activation;
  readonly norm: {
    readonly epsilon: number;
    /** Whether norms have weights and biases. */
    readonly isAffine: boolean;
    /** Before attention and MLP, or after each has joined the residual stream. */
    readonly isFirst: boolean;
  };
  /** Row of the table of positions that the first token takes. */
  readonly firstPosition: number;
  /** What a layer's scores are multiplied by, beyond 1 / √headDim. */
  readonly scoreFactor: (layer: number) => number;
  readonly isTied: boolean;
}

interface Layer {
  readonly norms: readonly [string, string];
  readonly inputs: readonly LinearModule[];
  readonly output: LinearModule;
  readonly up: LinearModule;
  readonly down: LinearModule;
}

const HEAD = 'lm_head.weight';

/** Of those that lie alike in every family. */
function matrix(name: string, inFeatures: number, outFeatures: number): Matrix {
  return { name, inFeatures, outFeatures, layout: 'out_in' };
}

/** The model of a family. */
export function transformer(it: TransformerOptions): LanguageModel {
  const { family, names, layout, hasBias, scaled, activation, firstPosition, scoreFactor, isTied } = it;
  const { hidden: d, inner, heads, vocabulary, embedding, positions: maxPositions } = it.sizes;
  const rows = firstPosition + maxPositions;

  const layers = Array.from({ length: it.sizes.layers }, (_, index): Layer => {
    const module = (name: string, site: LinearModule['site'], inFeatures: number, outFeatures: number): LinearModule => ({
      name: `${names.layers}.${index}.${name}`,
      inFeatures,
      outFeatures,
      bias: hasBias,
      site,
      layout,
    });
    return {
      norms: [`${names.layers}.${index}.${names.norms[0]}`, `${names.layers}.${index}.${names.norms[1]}`],
      inputs: names.inputs.map(
        (name): LinearModule => ({
          ...module(name, 'attention', d, (3 * d) / names.inputs.length),
          ...(scaled.includes(name) && { scalable: 'output' }),
        }),
      ),
      output: module(names.output, 'attention', d, d),
      up: module(names.mlp[0], 'ffn', d, inner),
      down: { ...module(names.mlp[1], 'ffn', inner, d), scalable: 'input' },
    };
  });
  const modules = layers.flatMap(({ inputs, output, up, down }) => [...inputs, output, up, down]);

  /** Norms by name, in one graph. */
  function normsOf(g: Graph, weights: WeightSource): (name: string, x: Value) => Value {
    const { epsilon, isAffine } = it.norm;
    const fixed = isAffine ? null : [1, 0].map((value) => float32(g, null, [d], new Float32Array(d).fill(value)));
    return (name, x) => {
      const [weight, bias] = fixed ?? ['weight', 'bias'].map((part) => weights.value(g, `${name}.${part}`, [d]));
      return layerNorm(g, x, weight as Value, bias as Value, epsilon);
    };
  }

  return {
    family,
    hiddenSize: d,
    layerCount: layers.length,
    heads,
    kvHeads: heads,
    headDim: d / heads,
    vocabSize: vocabulary,
    maxPositions,
    rotary: null,
    prefix: names.prefix,
    tiedNames: isTied ? [`${names.embedding}.weight`, HEAD] : null,
    parameterCount:
      modules.reduce((sum, module) => sum + module.inFeatures * module.outFeatures + (hasBias ? module.outFeatures : 0), 0) +
      (isTied ? 1 : 2) * vocabulary * embedding +
      (names.projections ? 2 * embedding * d : 0) +
      rows * d +
      (it.norm.isAffine ? 2 * d * (2 * layers.length + (names.lastNorm === null ? 0 : 1)) : 0),
    modules,

    embed(g, weights, ids) {
      const words = rowsOf(g, weights, `${names.embedding}.weight`, [vocabulary, embedding], ids);
      return names.projections ? product(g, weights, matrix(`${names.projections[0]}.weight`, embedding, d), words) : words;
    },

    layers(g, weights, hidden, { project, attend, residual, positions }) {
      const norm = normsOf(g, weights);
      const before = (name: string, x: Value): Value => (it.norm.isFirst ? norm(name, x) : x);
      const after = (name: string, x: Value): Value => (it.norm.isFirst ? x : norm(name, x));
      const place = firstPosition === 0 ? positions : add(g, positions, int64(g, [firstPosition]));
      const placed = add(g, hidden, rowsOf(g, weights, `${names.positions}.weight`, [rows, d], place));
      return layers.reduce((h, layer, index) => {
        const parts = project(layer.inputs, before(layer.norms[0], h));
        const [q, k, v] = parts.length === 3 ? parts : split(g, parts[0] as Value, [d, d, d]);
        const factor = scoreFactor(index);
        const query = factor === 1 ? (q as Value) : mul(g, q as Value, scalar(g, 'float32', factor));
        const [branch] = project([layer.output], attend(index, query, k as Value, v as Value));
        const middle = after(layer.norms[0], residual(h, branch as Value));
        const [up] = project([layer.up], before(layer.norms[1], middle));
        const [down] = project([layer.down], activation(g, up as Value));
        return after(layer.norms[1], residual(middle, down as Value));
      }, placed);
    },

    logits(g, weights, hidden) {
      const normed = names.lastNorm === null ? hidden : normsOf(g, weights)(names.lastNorm, hidden);
      const words = names.projections
        ? product(g, weights, matrix(`${names.projections[1]}.weight`, d, embedding), normed)
        : normed;
      return product(g, weights, matrix(HEAD, embedding, vocabulary), words);
    },
  };
}
