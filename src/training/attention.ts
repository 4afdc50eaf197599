/**
 * Causal self-attention from plain operators, which have gradients: all tokens of a row at once, no cache. Query heads that share a key head
 * are stacked along the token axis, so that keys and values are never repeated and their gradients add up inside one product.
 */
import type { LanguageModel } from '../backbone/language/model.js';
import type { Graph, Value } from '../onnx/graph.js';
import { add, matmul, reshape, transpose } from '../onnx/ops.js';
import { softmax } from '../onnx/reduce.js';

/** Name of the mask's first axis. */
export function stackedTokens({ heads, kvHeads }: LanguageModel): string {
  return heads === kvHeads ? 'tokens' : `${heads / kvHeads}*tokens`;
}

/** `Blocks.attend`. The mask is added to the scores, 0 or −infinity: [heads a key head · tokens, tokens]. */
export function plainAttention(g: Graph, language: LanguageModel, rotate: (x: Value) => Value, mask: Value) {
  const { heads, kvHeads, headDim } = language;
  const shared = heads / kvHeads;
  const stacked = stackedTokens(language);

  const headsOf = (x: Value): Value => transpose(g, reshape(g, x, ['rows', 'tokens', kvHeads, headDim]), [0, 2, 1, 3]);
  return (_layer: number, q: Value, k: Value, v: Value): Value => {
    const byHead = transpose(g, reshape(g, rotate(q), ['rows', 'tokens', kvHeads, shared, headDim]), [0, 2, 3, 1, 4]);
    const queries = reshape(g, byHead, ['rows', kvHeads, stacked, headDim]);
    const keys = headsOf(rotate(k));
    const scores = matmul(g, queries, keys, { transB: true, alpha: 1 / Math.sqrt(headDim) });
    const attended = matmul(g, softmax(g, add(g, scores, mask)), headsOf(v));
    const apart = transpose(g, reshape(g, attended, ['rows', kvHeads, shared, 'tokens', headDim]), [0, 3, 1, 2, 4]);
    return reshape(g, apart, ['rows', 'tokens', heads * headDim]);
  };
}
