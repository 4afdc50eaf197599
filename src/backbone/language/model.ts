/**
 * What a language family gives: a description from config.json alone, and a graph in three pieces (embed, layers, logits).
 *
 * The family writes down the network once; who runs it decides how. Every projection and every attention goes through `Blocks`, which the
 * caller passes in: serving adds the adapter bank and a key/value cache, training adds trainable parameters and plain attention, a plain run
 * adds nothing. A family therefore knows neither adapters nor caches, and a new one is one file.
 */
import { rotary } from '../../onnx/attention.js';
import type { Graph, Value } from '../../onnx/graph.js';
import { add, float32, gather, linear, matmul } from '../../onnx/ops.js';
import type { LinearModule } from '../module.js';

/**
 * Where a family's weights come from: a checkpoint (`Weights`), or what a trainer makes of it. Names and shapes are the checkpoint's.
 * A source may know better than by `value` what is only looked up, or only multiplied by: families ask through `rowsOf` and `product`.
 */
export interface WeightSource {
  value(g: Graph, name: string, shape: readonly number[]): Value;
  /** Rows of a table [n, d], in float32: ids int64 [...] → [..., d]. */
  rows?(g: Graph, name: string, shape: readonly [number, number], ids: Value): Value;
  /** x [..., in] · W → [..., out]. */
  product?(g: Graph, matrix: Matrix, x: Value): Value;
}

/** A matrix of the checkpoint: `name` is the tensor's. */
export interface Matrix extends Pick<LinearModule, 'inFeatures' | 'outFeatures' | 'layout'> {
  readonly name: string;
}

/** Rows of an embedding table. */
export function rowsOf(g: Graph, weights: WeightSource, name: string, shape: readonly [number, number], ids: Value): Value {
  return weights.rows?.(g, name, shape, ids) ?? gather(g, weights.value(g, name, shape), ids);
}

/** x · W. */
export function product(g: Graph, weights: WeightSource, matrix: Matrix, x: Value): Value {
  return weights.product?.(g, matrix, x) ?? plainProduct(g, weights, matrix, x);
}

/** The same with the matrix as the checkpoint has it. */
export function plainProduct(g: Graph, weights: WeightSource, matrix: Matrix, x: Value): Value {
  const { name, inFeatures, outFeatures } = matrix;
  return matrix.layout === 'out_in'
    ? linear(g, x, weights.value(g, name, [outFeatures, inFeatures]))
    : matmul(g, x, weights.value(g, name, [inFeatures, outFeatures]));
}

export interface Blocks {
  /** Applies projections that read the same input, x [rows, tokens, in] → one [rows, tokens, out] each, bias included. */
  readonly project: (modules: readonly LinearModule[], x: Value) => Value[];
  /** Causal self-attention of one layer, rotary positions included: q [rows, tokens, heads · headDim], k and v [rows, tokens, kvHeads · headDim] → like q. */
  readonly attend: (layer: number, q: Value, k: Value, v: Value) => Value;
  /** Adds a branch's result to the residual stream, [rows, tokens, hiddenSize] both: `plainResidual`, or with dropout, or noted. */
  readonly residual: (hidden: Value, branch: Value) => Value;
  /** Place of every token in its row, int64 [rows, tokens]: what families look up that add learned positions to their hidden states. */
  readonly positions: Value;
}

/** hidden + branch. */
export const plainResidual =
  (g: Graph): Blocks['residual'] =>
  (hidden, branch) =>
    add(g, hidden, branch);

export interface Rotary {
  /** Angle of pair i at position 1, [headDim / 2]. */
  readonly inverseFrequencies: readonly number[];
}

export interface LanguageModel {
  readonly family: string;
  readonly hiddenSize: number;
  readonly layerCount: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  /** The longest sequence the checkpoint was made for. */
  readonly maxPositions: number;
  /** All weights, a tied one once: what full fine-tuning trains. */
  readonly parameterCount: number;
  /** null: positions are learned, and added where the layers begin. */
  readonly rotary: Rotary | null;
  /** What all names begin with but that of the head; a checkpoint that was saved without a head lacks it. */
  readonly prefix: string;
  /** Input and output embedding are one tensor, under either name. */
  readonly tiedNames: readonly [string, string] | null;
  /** Every projection, layer by layer. */
  readonly modules: readonly LinearModule[];

  /** ids int64 [rows, tokens] → [rows, tokens, hiddenSize]. */
  embed(g: Graph, weights: WeightSource, ids: Value): Value;
  /** All decoder layers, and before them learned positions: [rows, tokens, hiddenSize] → the same, before the final norm. */
  layers(g: Graph, weights: WeightSource, hidden: Value, blocks: Blocks): Value;
  /** Final norm and output embedding, [n, hiddenSize] → [n, vocabSize]. */
  logits(g: Graph, weights: WeightSource, hidden: Value): Value;
}

/** The checkpoint's own projection, W x + b: what every `Blocks.project` starts from. */
export function frozenProjection(g: Graph, weights: WeightSource, module: LinearModule, x: Value): Value {
  const y = product(g, weights, { ...module, name: `${module.name}.weight` }, x);
  return module.bias ? add(g, y, weights.value(g, `${module.name}.bias`, [module.outFeatures])) : y;
}

/**
 * What every `Blocks.attend` does first with queries and keys, [rows, tokens, heads · headDim]: turns them by their positions, int64
 * [rows, tokens], all below `maxLength`. Where positions are learned it leaves them alone.
 */
export function rotation(
  g: Graph,
  { rotary: angles, headDim }: Pick<LanguageModel, 'rotary' | 'headDim'>,
  maxLength: number,
  positions: Value,
): (x: Value) => Value {
  if (angles === null) return (x) => x;
  const turns = Array.from({ length: maxLength }, (_, position) =>
    angles.inverseFrequencies.map((each) => position * each),
  ).flat();
  const cos = float32(g, 'rotary.cos', [maxLength, headDim / 2], turns.map(Math.cos));
  const sin = float32(g, 'rotary.sin', [maxLength, headDim / 2], turns.map(Math.sin));
  return (x) => rotary(g, x, positions, cos, sin);
}
