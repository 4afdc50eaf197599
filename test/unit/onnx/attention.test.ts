/** Rotary positions and attention over a cache, as onnxruntime computes them, against the formulas. */
import { describe, it } from 'vitest';
import { groupQueryAttention, rotary } from '../../../src/onnx/attention.js';
import * as ops from '../../../src/onnx/ops.js';
import { int32 } from '../../../src/runtime/session.js';
import { expectClose, f32, i64, integers, Numbers, run, sum } from './numbers.js';

describe('attention', () => {
  const [rows, tokens, heads, kvHeads, headDim, positions] = [2, 3, 4, 2, 8, 9];
  const angle = (position: number, pair: number): number => position * 100 ** ((-2 * pair) / headDim);
  const tables = [Math.cos, Math.sin].map((of) =>
    Numbers.of([positions, headDim / 2], (position, pair) => of(angle(position, pair))),
  );
  const [cos, sin] = tables as [Numbers, Numbers];

  it('rotary turns component i of every head with component i + headDim / 2, by the position', async () => {
    const x = Numbers.random([rows, tokens, heads * headDim]);
    const at = [5, 0, 8, 2, 2, 1];
    const [y] = await run(
      { x: f32('rows', 'tokens', heads * headDim), at: i64('rows', 'tokens') },
      (g, { x, at }) => rotary(g, x, at, ops.float32(g, 'cos', cos.shape, cos.data), ops.float32(g, 'sin', sin.shape, sin.data)),
      { x: x.feed, at: integers([rows, tokens], at) },
      { rows, tokens },
    );
    const half = headDim / 2;
    const expected = Numbers.of(x.shape, (row, token, component) => {
      const theta = angle(at[row * tokens + token] as number, component % half);
      const partner = component % headDim < half ? -x.at(row, token, component + half) : x.at(row, token, component - half);
      return x.at(row, token, component) * Math.cos(theta) + partner * Math.sin(theta);
    });
    expectClose(y, expected);
  });

  it.each([
    { name: 'from nothing, rows of different lengths', starts: [0, 0], ends: [3, 2], count: 3 },
    { name: 'one token after pasts of different lengths', starts: [4, 1], ends: [5, 2], count: 1 },
  ])('groupQueryAttention is causal softmax(q · k / √d) · v: $name', async ({ starts, ends, count }) => {
    const capacity = 7;
    const width = kvHeads * headDim;
    const shape = [rows, kvHeads, capacity, headDim];
    const q = Numbers.random([rows, count, heads * headDim], 1);
    const k = Numbers.random([rows, count, width], 2);
    const v = Numbers.random([rows, count, width], 3);
    // What lies in the cache beyond a row's start is not to be read.
    const cache = (seed: number): Numbers => {
      const x = Numbers.random(shape, seed);
      return Numbers.of(shape, (row, head, at, component) =>
        at < (starts[row] as number) ? x.at(row, head, at, component) : 99,
      );
    };
    const [pastK, pastV] = [cache(4), cache(5)];
    const [y] = await run(
      {
        q: f32('rows', 'tokens', heads * headDim),
        k: f32('rows', 'tokens', width),
        v: f32('rows', 'tokens', width),
        pastK: f32('rows', kvHeads, 'capacity', headDim),
        pastV: f32('rows', kvHeads, 'capacity', headDim),
        lengths: { dtype: 'int32', shape: ['rows'] },
        total: { dtype: 'int32', shape: [1] },
      },
      (g, values) => groupQueryAttention(g, values, heads, kvHeads),
      {
        q: q.feed,
        k: k.feed,
        v: v.feed,
        pastK: pastK.feed,
        pastV: pastV.feed,
        lengths: int32(
          Int32Array.from(ends, (end) => end - 1),
          [rows],
        ),
        total: int32(Int32Array.of(Math.max(...ends)), [1]),
      },
      { rows, tokens: count },
    );
    const stored = (past: Numbers, fresh: Numbers, row: number, head: number, at: number, component: number): number => {
      const start = starts[row] as number;
      return at < start ? past.at(row, head, at, component) : fresh.at(row, at - start, head * headDim + component);
    };
    const expected = Numbers.of([rows, count, heads * headDim], (row, token, at) => {
      const [start, end] = [starts[row] as number, ends[row] as number];
      // Padding: nobody reads it.
      if (start + token >= end) return (y as Numbers).at(row, token, at);
      const [head, component] = [Math.floor(at / headDim), at % headDim];
      const group = Math.floor(head / (heads / kvHeads));
      const key = (past: number, i: number): number => stored(pastK, k, row, group, past, i);
      const scores = Array.from({ length: start + token + 1 }, (_, past) =>
        Math.exp(sum(headDim, (i) => q.at(row, token, head * headDim + i) * key(past, i)) / Math.sqrt(headDim)),
      );
      const weighted = sum(scores.length, (past) => (scores[past] as number) * stored(pastV, v, row, group, past, component));
      return weighted / sum(scores.length, (past) => scores[past] as number);
    });
    expectClose(y, expected);
  });
});
