/**
 * Whole functions: the decoder's own block with its adapters and its loss, with and without recomputation, and expressions made at random.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rotary } from '../../../src/onnx/attention.js';
import type { Graph, Node, Value } from '../../../src/onnx/graph.js';
import * as ops from '../../../src/onnx/ops.js';
import { crossEntropy, softmax } from '../../../src/onnx/reduce.js';
import type { Array64 } from '../../support/interpreter.js';
import {
  type Build,
  type Built,
  bools,
  buildBackward,
  checkGradients,
  ints,
  named,
  type Operand,
  type Operands,
  positive,
  real,
} from './differences.js';
import { expectSame } from './runtime.js';

const [ROWS, TOKENS, HEADS, HEAD, INNER, VOCAB, RANK, IMAGE] = [2, 3, 2, 4, 6, 7, 2, 5];
const HIDDEN = HEADS * HEAD;

/** Weights of a size at which a block neither saturates nor vanishes. */
function weight(seed: number, out: number, inner: number): Operand {
  const { data, ...rest } = real(seed, out, inner);
  return { ...rest, data: Float32Array.from(data, (value) => value / Math.sqrt(inner)) };
}

const blockWeights = (layer: number): Operands => {
  const seed = 100 * (layer + 1);
  const weights = {
    q: weight(seed, HIDDEN, HIDDEN),
    k: weight(seed + 1, HIDDEN, HIDDEN),
    v: weight(seed + 2, HIDDEN, HIDDEN),
    o: weight(seed + 3, HIDDEN, HIDDEN),
    gate: weight(seed + 4, INNER, HIDDEN),
    up: weight(seed + 5, INNER, HIDDEN),
    down: weight(seed + 6, HIDDEN, INNER),
    before: positive(seed + 7, HIDDEN),
    after: positive(seed + 8, HIDDEN),
    a: weight(seed + 9, HIDDEN, RANK),
    bias: real(seed + 10, RANK),
    b: weight(seed + 11, RANK, HIDDEN),
  };
  return Object.fromEntries(Object.entries(weights).map(([name, operand]) => [`${layer}.${name}`, operand]));
};

const common: Operands = {
  ids: named(ints([ROWS, TOKENS], 3, 0, 3, 6, 3, 1), 'rows', 'tokens'),
  positions: named(ints([ROWS, TOKENS], 0, 1, 2, 1, 2, 3), 'rows', 'tokens'),
  images: named(ints([2, 2], 0, 0, 1, 1), 'n', 2),
  targets: named(ints([ROWS * TOKENS], 0, 3, 6, 3, 3, 2), 'rows*tokens'),
  mask: named(bools([TOKENS, TOKENS], 1, 0, 0, 1, 1, 0, 1, 1, 1), 'tokens', 'tokens'),
  // Which rank columns a token sees: two contexts.
  columns: named(
    { dtype: 'float32', shape: [ROWS, TOKENS, RANK], data: [2, 0, 0, 2, 0, 2, 0, 2, 2, 0, 0, 2] },
    'rows',
    'tokens',
    RANK,
  ),
  cos: { dtype: 'float32', shape: [4, HEAD / 2], data: Array.from({ length: 8 }, (_, at) => Math.fround(Math.cos(at))) },
  sin: { dtype: 'float32', shape: [4, HEAD / 2], data: Array.from({ length: 8 }, (_, at) => Math.fround(Math.sin(at))) },
  features: named(real(30, 2, IMAGE), 'n', IMAGE),
  embedding: real(31, VOCAB, HIDDEN),
  projector: weight(32, HIDDEN, IMAGE),
  projectorBias: real(33, HIDDEN),
  norm: positive(34, HIDDEN),
};

/** RMSNorm, rotary attention with a causal mask and a gated low-rank adapter on v, RMSNorm, SwiGLU. */
function block(g: Graph, x: Value, layer: number, values: Record<string, Value>): Value {
  const of = (name: string): Value => values[name] as Value;
  const own = (name: string): Value => of(`${layer}.${name}`);
  const split = (y: Value): Value => ops.transpose(g, ops.reshape(g, y, ['rows', 'tokens', HEADS, HEAD]), [0, 2, 1, 3]);
  const turn = (y: Value): Value => rotary(g, y, of('positions'), of('cos'), of('sin'));
  const n = ops.rmsNorm(g, x, own('before'), 1e-5);
  const h = ops.mul(g, ops.add(g, ops.matmul(g, n, own('a')), own('bias')), of('columns')); // [rows, tokens, rank]
  const v = split(ops.add(g, ops.linear(g, n, own('v')), ops.matmul(g, h, own('b'))));
  const [q, k] = [split(turn(ops.linear(g, n, own('q')))), split(turn(ops.linear(g, n, own('k'))))];
  const scores = ops.matmul(g, q, k, { transB: true, alpha: 1 / Math.sqrt(HEAD) }); // [rows, heads, tokens, tokens]
  const weights = softmax(g, ops.where(g, of('mask'), scores, ops.scalar(g, 'float32', -1e9)));
  const mixed = ops.transpose(g, ops.matmul(g, weights, v), [0, 2, 1, 3]);
  const attended = ops.add(g, x, ops.linear(g, ops.reshape(g, mixed, ['rows', 'tokens', HIDDEN]), own('o')));
  const m = ops.rmsNorm(g, attended, own('after'), 1e-5);
  const inner = ops.mul(g, ops.silu(g, ops.linear(g, m, own('gate'))), ops.linear(g, m, own('up')));
  return ops.add(g, attended, ops.linear(g, inner, own('down')));
}

/** Tokens and image features in, one loss a token out; the embedding is also the last layer, as in the real model. */
const decoder =
  (layers: number): Build =>
  (g, values) => {
    const of = (name: string): Value => values[name] as Value;
    const projected = ops.add(g, ops.linear(g, of('features'), of('projector')), of('projectorBias'));
    let x = ops.scatterND(g, ops.gather(g, of('embedding'), of('ids')), of('images'), projected);
    for (let layer = 0; layer < layers; layer++) x = block(g, x, layer, values);
    const logits = ops.linear(g, ops.rmsNorm(g, x, of('norm'), 1e-5), of('embedding'));
    return crossEntropy(g, ops.reshape(g, logits, ['rows*tokens', VOCAB]), of('targets'));
  };

const withLayers = (layers: number): Operands =>
  Object.assign({}, common, ...Array.from({ length: layers }, (_, layer) => blockWeights(layer))) as Operands;
const trained = (operands: Operands): string[] =>
  Object.keys(operands).filter((name) => operands[name]?.dtype === 'float32' && !['cos', 'sin'].includes(name));

describe('a decoder', () => {
  it('all its parameters', async () => {
    const operands = withLayers(1);
    const { received } = await checkGradients(operands, decoder(1), { wrt: trained(operands), tolerance: 1e-7 });
    expect(received.size).toBe(18);
    for (const [name, { data }] of received)
      expect(
        data.some((value) => Math.abs(value) > 1e-3),
        name,
      ).toBe(true);
  }, 60_000);

  describe('with recomputation', () => {
    const layers = 3;
    const operands = withLayers(layers);
    const wrt = ['projector', '0.a', '1.q', '1.after', '2.bias', 'norm'];
    const scattered = ({ g }: Built): Value => g.nodes.find(({ op }) => op === 'ScatterND')?.outputs[0] as Value;
    /** What passes from block to block: a block ends in the addition after its `down`. */
    const checkpointsOf = (built: Built): Value[] => {
      const ends = Array.from({ length: layers }, (_, layer) => {
        const down = built.g.nodes.find(({ inputs }) => inputs.includes(built.values[`${layer}.down`] as Value))
          ?.outputs[0] as Value;
        return built.g.nodes.find(({ op, inputs }) => op === 'Add' && inputs.includes(down))?.outputs[0] as Value;
      });
      return [scattered(built), ...ends];
    };

    it('has the same gradients', async () => {
      const plain = await checkGradients(operands, decoder(layers), { wrt });
      const again = await checkGradients(operands, decoder(layers), { wrt, checkpointsOf });
      expect(again.g.nodes.length).toBeGreaterThan(plain.g.nodes.length);
      expect([...again.received.keys()]).toEqual(wrt);
      for (const [name, gradient] of again.received) expectSame(gradient, plain.received.get(name) as Array64, 1e-12, name, 0);
    }, 60_000);

    it('keeps the checkpoints and nothing between them', () => {
      const built = buildBackward(operands, decoder(layers), { wrt, checkpointsOf });
      const checkpoints = checkpointsOf(built);
      const forward = built.g.nodes.slice(0, built.forward);
      const place = (value: Value | undefined): number =>
        forward.findIndex(({ outputs }) => outputs.some((each) => each === value));
      const [first, last] = [place(checkpoints[0]), place(checkpoints.at(-1))];
      const between = new Set(forward.slice(first + 1, last).flatMap(({ outputs }) => outputs));
      for (const checkpoint of checkpoints) between.delete(checkpoint);
      expect(between.size).toBeGreaterThan(50);
      const backward = built.g.nodes.slice(built.forward);
      const reads = backward.flatMap(({ op, inputs }) => inputs.flatMap((value) => (value ? [{ op, value }] : [])));
      expect(reads.filter(({ value }) => between.has(value))).toEqual([]);
      // A checkpoint is only read through the reshape that makes its copy wait for the gradient of the next one.
      for (const checkpoint of checkpoints.slice(0, -1))
        expect(reads.filter(({ value }) => value === checkpoint).map(({ op }) => op)).toEqual(['Reshape']);
    });

    it('computes a block again only once the block after it is done with', () => {
      const built = buildBackward(operands, decoder(layers), { wrt: ['projector'], checkpointsOf });
      const backward = built.g.nodes.slice(built.forward);
      const copies = checkpointsOf(built)
        .slice(0, -1)
        .map((checkpoint) => backward.find(({ inputs }) => inputs[0] === checkpoint)?.outputs[0] as Value);
      expect(copies).toHaveLength(layers);
      copies.forEach((copy, block) => {
        const later = (copies[block + 1] ?? built.values['upstream.0']) as Value;
        expect(dependents(built.g.nodes, new Set([later])).has(copy)).toBe(true);
      });
    });
  });
});

/** Everything that is computed from one of the values. */
function dependents(nodes: readonly Node[], from: ReadonlySet<Value>): Set<Value> {
  const found = new Set(from);
  for (const { inputs, outputs } of nodes)
    if (inputs.some((input) => input && found.has(input))) for (const output of outputs) found.add(output);
  return found;
}

/** One step of a random program: an operation on two values that came before (the second one is not always used). */
interface Line {
  readonly op: keyof typeof operations;
  readonly operands: readonly [number, number];
}

const operations = {
  add: ops.add,
  sub: ops.sub,
  mul: ops.mul,
  // Never near a pole.
  div: (g: Graph, x: Value, y: Value) => ops.div(g, x, ops.add(g, ops.mul(g, y, y), ops.scalar(g, 'float32', 1))),
  neg: (g: Graph, x: Value) => ops.neg(g, x),
  sigmoid: (g: Graph, x: Value) => ops.sigmoid(g, x),
  silu: (g: Graph, x: Value) => ops.silu(g, x),
  // Bounded, so that towers of exponentials stay small.
  exp: (g: Graph, x: Value) => ops.exp(g, ops.sigmoid(g, x)),
};
const unary: ReadonlySet<string> = new Set(['neg', 'sigmoid', 'silu', 'exp']);

it('expressions made at random, of values that broadcast and are shared', async () => {
  const operands: Operands = {
    a: real(1, 2, 3),
    b: real(2, 3),
    c: real(3),
    d: real(4, 2, 1),
    e: named(real(5, 4, 1, 1), 'n', 1, 1),
  };
  const names = Object.keys(operands);
  const line: fc.Arbitrary<Line> = fc.record({
    op: fc.constantFrom(...(Object.keys(operations) as (keyof typeof operations)[])),
    // From the newest backwards, so that programs are deep as well as wide.
    operands: fc.tuple(fc.nat(7), fc.nat(7)),
  });
  const reached = (lines: readonly Line[]): Set<number> => {
    const wanted = new Set([names.length + lines.length - 1]);
    for (let at = lines.length - 1; at >= 0; at--)
      if (wanted.has(names.length + at)) for (const operand of sources(lines[at] as Line, at)) wanted.add(operand);
    return wanted;
  };
  const sources = ({ op, operands: [x, y] }: Line, at: number): number[] => {
    const newest = names.length + at - 1;
    return [x, ...(unary.has(op) ? [] : [y])].map((back) => newest - (back % (newest + 1)));
  };
  await fc.assert(
    fc.asyncProperty(fc.array(line, { minLength: 1, maxLength: 10 }), async (lines) => {
      const wanted = reached(lines);
      const wrt = names.filter((_, index) => wanted.has(index));
      const build: Build = (g, values) => {
        const all = names.map((name) => values[name] as Value);
        lines.forEach((each, at) => {
          const [x, y] = sources(each, at).map((source) => all[source] as Value) as [Value, Value];
          all.push(operations[each.op](g, x, y));
        });
        return all.at(-1) as Value;
      };
      const { received } = await checkGradients(operands, build, { wrt });
      expect([...received.keys()]).toEqual(wrt);
    }),
    { numRuns: 60, seed: 20_231_208 },
  );
});
