/**
 * What only attention needs: rotary positions, and onnxruntime's fused attention over a key/value cache. Refusals are those of ops.ts.
 */
import type { Graph, Value } from './graph.js';
import { MICROSOFT, one, refuse } from './ops.js';
import { type Dim, sameShape } from './shape.js';

/** Rotates every head of x [rows, tokens, heads · headDim] by its position: positions int64 [rows, tokens], cos and sin [n, headDim / 2]. */
export function rotary(g: Graph, x: Value, positions: Value, cos: Value, sin: Value): Value {
  const headDim = 2 * Number(cos.shape[1]);
  if (
    x.shape.length !== 3 ||
    cos.shape.length !== 2 ||
    Number(x.shape[2]) % headDim !== 0 ||
    !sameShape(cos.shape, sin.shape) ||
    !sameShape(positions.shape, x.shape.slice(0, 2)) ||
    positions.dtype !== 'int64' ||
    [x, cos, sin].some(({ dtype }) => dtype !== 'float32')
  ) {
    refuse(
      'RotaryEmbedding',
      'x [rows, tokens, heads · d], int64 positions [rows, tokens] and float32 tables [n, d / 2]',
      x,
      positions,
      cos,
      sin,
    );
  }
  return one(g.node('RotaryEmbedding', [x, positions, cos, sin], [x], {}, MICROSOFT));
}

/** onnxruntime's attention works on whole vectors of this many numbers. */
export const HEAD_DIM_STEP = 8;

export interface GroupQueryAttentionInputs {
  readonly q: Value; // [rows, tokens, heads · headDim]
  readonly k: Value; // [rows, tokens, kvHeads · headDim]
  readonly v: Value; // [rows, tokens, kvHeads · headDim]
  readonly pastK: Value; // [rows, kvHeads, capacity, headDim]
  readonly pastV: Value;
  /** int32 [rows]: length of each row after this run, minus one. */
  readonly lengths: Value;
  /** int32 [1]: the longest row after this run. */
  readonly total: Value;
}

/** Causal attention of the last tokens of each row over its past and themselves (onnxruntime's GroupQueryAttention) → like q. */
export function groupQueryAttention(g: Graph, inputs: GroupQueryAttentionInputs, heads: number, kvHeads: number): Value {
  const { q, k, v, pastK, pastV, lengths, total } = inputs;
  const [rows, tokens] = q.shape as [Dim, Dim];
  const [, , capacity, headDim] = pastK.shape as [Dim, Dim, Dim, Dim];
  if (
    !sameShape(q.shape, [rows, tokens, heads * Number(headDim)]) ||
    !sameShape(k.shape, [rows, tokens, kvHeads * Number(headDim)]) ||
    !sameShape(v.shape, k.shape) ||
    !sameShape(pastK.shape, [rows, kvHeads, capacity, headDim]) ||
    !sameShape(pastV.shape, pastK.shape) ||
    !sameShape(lengths.shape, [rows]) ||
    !sameShape(total.shape, [1]) ||
    [q, k, v, pastK, pastV].some(({ dtype }) => dtype !== 'float32') ||
    [lengths, total].some(({ dtype }) => dtype !== 'int32') ||
    heads % kvHeads !== 0
  ) {
    refuse(
      'GroupQueryAttention',
      `q [rows, tokens, ${heads} · d], k and v [rows, tokens, ${kvHeads} · d], keys and values before them [rows, ${kvHeads}, n, d], ` +
        'int32 lengths [rows] and total [1]',
      q,
      k,
      v,
      pastK,
      pastV,
      lengths,
      total,
    );
  }
  if (Number(headDim) % HEAD_DIM_STEP !== 0)
    refuse('GroupQueryAttention', `heads of a multiple of ${HEAD_DIM_STEP} dimensions`, pastK);
  // The operator's second and third output are the cache with the new tokens in it; nobody reads them.
  return g.node(
    'GroupQueryAttention',
    [q, k, v, pastK, pastV, lengths, total],
    [q, pastK, pastV],
    { num_heads: heads, kv_num_heads: kvHeads },
    MICROSOFT,
  )[0] as Value;
}
