/**
 * Causal self-attention from plain operators, which have gradients: all tokens of a row at once, no cache. Query heads that share a key head
 * are stacked along the token axis, so that keys and values are never repeated and their gradients add up inside one product.
 */
import type { LanguageModel } from '../backbone/language/model.js';
import { rotary } from '../onnx/attention.js';
import type { Graph, Value } from '../onnx/graph.js';
import { add, float32, matmul, reshape, transpose } from '../onnx/ops.js';
import { softmax } from '../onnx/reduce.js';

export interface AttentionInputs {
  /** int64 [rows, tokens]. */
  readonly positions: Value;
  /** What is added to the scores, 0 or −infinity: [heads a key head · tokens, tokens]. */
  readonly mask: Value;
}

/** Name of the mask's first axis. */
export function stackedTokens({ heads, kvHeads }: LanguageModel): string {
  return heads === kvHeads ? 'tokens' : `${heads / kvHeads}*tokens`;
}

/** `Blocks.attend` for rows of at most `maxLength` tokens. */
export function plainAttention(g: Graph, language: LanguageModel, maxLength: number, { positions, mask }: AttentionInputs) {
  const { heads, kvHeads, headDim, rotary: tables } = language;
  const shared = heads / kvHeads;
  const stacked = stackedTokens(language);
  const angles = Array.from({ length: maxLength }, (_, position) =>
    tables.inverseFrequencies.map((each) => position * each),
  ).flat();
  const cos = float32(g, 'rotary.cos', [maxLength, headDim / 2], angles.map(Math.cos));
  const sin = float32(g, 'rotary.sin', [maxLength, headDim / 2], angles.map(Math.sin));

  const headsOf = (x: Value): Value => transpose(g, reshape(g, x, ['rows', 'tokens', kvHeads, headDim]), [0, 2, 1, 3]);
  return (_layer: number, q: Value, k: Value, v: Value): Value => {
    const turned = rotary(g, q, positions, cos, sin);
    const byHead = transpose(g, reshape(g, turned, ['rows', 'tokens', kvHeads, shared, headDim]), [0, 2, 3, 1, 4]);
    const queries = reshape(g, byHead, ['rows', kvHeads, stacked, headDim]);
    const keys = headsOf(rotary(g, k, positions, cos, sin));
    const scores = matmul(g, queries, keys, { transB: true, alpha: 1 / Math.sqrt(headDim) });
    const attended = matmul(g, softmax(g, add(g, scores, mask)), headsOf(v));
    const apart = transpose(g, reshape(g, attended, ['rows', kvHeads, shared, 'tokens', headDim]), [0, 3, 1, 2, 4]);
    return reshape(g, apart, ['rows', 'tokens', heads * headDim]);
  };
}
