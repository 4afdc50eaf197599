/** The walk backwards: what adds up, what is left out, what is refused, and what is computed again. */
import { describe, expect, it } from 'vitest';
import { gradients } from '../../../src/autodiff/gradients.js';
import { rotary } from '../../../src/onnx/attention.js';
import { Graph, type Node, type Value } from '../../../src/onnx/graph.js';
import * as ops from '../../../src/onnx/ops.js';
import { mean, sum } from '../../../src/onnx/reduce.js';
import { type Array64, interpret } from '../../support/interpreter.js';
import { bools, checkGradients, type Differentiated, ints, real } from './differences.js';
import { expectSame } from './runtime.js';

const total = (g: Graph, x: Value): Value =>
  sum(
    g,
    x,
    x.shape.map((_, axis) => axis),
  );

/** Nodes that differentiation appended. */
const appended = ({ g, forward }: Pick<Differentiated, 'g' | 'forward'>): readonly Node[] => g.nodes.slice(forward);

describe('what is used several times', () => {
  it('by several nodes, and twice by one', async () => {
    await checkGradients({ x: real(1, 2, 3), y: real(2, 3) }, (g, { x, y }) => {
      const product = ops.mul(g, x as Value, x as Value);
      const shifted = ops.add(g, product, y as Value);
      return ops.add(g, ops.mul(g, shifted, product), ops.sub(g, x as Value, ops.exp(g, y as Value)));
    });
  });

  it('as several results, of which one is made from the other', async () => {
    await checkGradients({ x: real(1, 2, 3) }, (g, { x }) => {
      const first = ops.exp(g, x as Value);
      return [first, ops.sigmoid(g, first), x as Value];
    });
  });

  it('many times, in a chain', async () => {
    await checkGradients({ x: real(1, 3) }, (g, { x }) => {
      let y = x as Value;
      for (let depth = 0; depth < 6; depth++) y = ops.sigmoid(g, ops.add(g, y, ops.mul(g, y, x as Value)));
      return y;
    });
  });
});

describe('what is wanted', () => {
  it('may be computed, and lie between others that are wanted', () => {
    const g = new Graph();
    const x = g.input('x', 'float32', [3]);
    const y = ops.exp(g, x);
    const z = ops.mul(g, y, x);
    const wrt = [z, x, y, x];
    const [dz, dx, dy, again] = gradients(g, total(g, z), wrt) as [Value, Value, Value, Value];
    const feed = { shape: [3], data: [0.5, -1, 2] };
    const values = interpret(g, { x: feed });
    const expectValues = (value: Value, of: (x: number) => number): void =>
      expectSame(values.get(value.name) as Array64, { shape: [3], data: Float64Array.from(feed.data, of) }, 1e-12, value.name);
    expectValues(dz, () => 1);
    expectValues(dy, (at) => at);
    expectValues(dx, (at) => Math.exp(at) * (at + 1));
    expect(again).toBe(dx);
  });

  it('may be the scalar itself, or nothing', () => {
    const g = new Graph();
    const x = g.input('x', 'float32', []);
    const count = g.nodes.length;
    const [one] = gradients(g, x, [x]) as [Value];
    expect(interpret(g, { x: { shape: [], data: [3] } }).get(one.name)?.data).toEqual(Float64Array.of(1));
    expect(gradients(g, ops.exp(g, x), [])).toEqual([]);
    expect(g.nodes).toHaveLength(count + 1);
  });

  it('may be a constant that the graph holds', () => {
    const g = new Graph();
    const x = g.input('x', 'float32', [2]);
    const w = ops.float32(g, 'w', [2], [3, 4]);
    const [dw] = gradients(g, total(g, ops.mul(g, x, w)), [w]) as [Value];
    expect(interpret(g, { x: { shape: [2], data: [5, 6] } }).get(dw.name)?.data).toEqual(Float64Array.of(5, 6));
  });

  it('is differentiated past indices, conditions and sizes, which have no gradient', async () => {
    const graph = await checkGradients(
      { x: real(1, 2, 3), at: ints([2], 1, 1), condition: bools([3], 1, 0, 1) },
      (g, { x, at, condition }) =>
        ops.where(g, condition as Value, ops.gather(g, x as Value, at as Value), ops.scalar(g, 'float32', 2)),
    );
    expect(graph.received.size).toBe(1);
    await checkGradients({ x: real(1, 2, 3) }, (g, { x }) => ops.add(g, ops.zerosLike(g, x as Value), x as Value));
  });

  it('is constant between the jumps of a cast to integers', async () => {
    await checkGradients({ x: { dtype: 'float32', shape: [3], data: [-1.5, 0.25, 7.75] } }, (g, { x }) => {
      const whole = ops.cast(g, ops.cast(g, x as Value, 'int64'), 'float32');
      return ops.mul(g, ops.scalar(g, 'float32', 10), ops.add(g, whole, x as Value));
    });
  });
});

describe('what is refused', () => {
  const make = (): { g: Graph; x: Value; y: Value; at: Value } => {
    const g = new Graph();
    return { g, x: g.input('x', 'float32', [3]), y: g.input('y', 'float32', [3]), at: g.input('at', 'int64', [2]) };
  };

  it('anything but a float scalar', () => {
    const { g, x } = make();
    const y = ops.exp(g, x);
    expect(() => gradients(g, y, [x])).toThrow(new TypeError(`Expected a scalar to differentiate but received ${y.name} [3]`));
    const flat = ops.reshape(g, total(g, x), [1]);
    expect(() => gradients(g, flat, [x])).toThrow(TypeError);
    expect(() => gradients(g, g.input('n', 'int64', []), [x])).toThrow(TypeError);
  });

  it('a value that does not lead there: unrelated, later, or only through indices', () => {
    const { g, x, y, at } = make();
    const loss = total(g, ops.gather(g, x, at));
    const later = ops.exp(g, loss);
    for (const value of [y, later, at])
      expect(() => gradients(g, loss, [x, value])).toThrow(
        new TypeError(`Expected ${value.name} to lead to ${loss.name} but it does not`),
      );
  });

  it('an operator without a rule, by name, but only where it is in the way', () => {
    const { g, x, y } = make();
    const square = ops.reshape(g, ops.mul(g, x, x), [1, 3]);
    const averaged = mean(g, ops.add(g, square, y), [0, 1]);
    expect(() => gradients(g, averaged, [x])).toThrow(
      new TypeError(`Expected operators that can be differentiated but ${averaged.name} is a ReduceMean`),
    );
    const scaled = ops.mul(g, mean(g, x, [0]), total(g, y));
    expect(gradients(g, scaled, [y])).toHaveLength(1);
  });

  it('an input that its operator has a gradient for, but the rule does not: the tables of rotary positions', () => {
    const g = new Graph();
    const [x, cos, sin] = [
      g.input('x', 'float32', [1, 2, 4]),
      g.input('cos', 'float32', [5, 2]),
      g.input('sin', 'float32', [5, 2]),
    ];
    const turned = rotary(g, x, g.input('positions', 'int64', [1, 2]), cos, sin);
    // cos leads there twice: to leave one of the ways out would be wrong in silence.
    const loss = ops.mul(g, total(g, turned), total(g, cos));
    expect(() => gradients(g, loss, [cos])).toThrow(TypeError);
    expect(gradients(g, loss, [x])).toHaveLength(1);
  });
});

describe('checkpoints', () => {
  const chain = (): { g: Graph; x: Value; steps: readonly Value[]; loss: Value } => {
    const g = new Graph();
    const x = g.input('x', 'float32', [3]);
    const steps = [ops.exp(g, x)];
    for (let step = 0; step < 3; step++) steps.push(ops.mul(g, ops.sigmoid(g, steps.at(-1) as Value), x));
    return { g, x, steps, loss: total(g, steps.at(-1) as Value) };
  };

  it('that are too few to have anything between them change nothing', () => {
    const [plain, one] = [chain(), chain()];
    gradients(plain.g, plain.loss, [plain.x]);
    gradients(one.g, one.loss, [one.x], { checkpoints: one.steps.slice(1, 2) });
    expect(one.g.nodes.map(({ op }) => op)).toEqual(plain.g.nodes.map(({ op }) => op));
  });

  it('are refused out of order, twice, or from elsewhere', () => {
    const { g, x, steps, loss } = chain();
    const [first, second] = steps as [Value, Value];
    const stray = new Graph().input('stray', 'float32', [3]);
    for (const checkpoints of [
      [second, first],
      [first, first],
      [first, stray],
    ])
      expect(() => gradients(g, loss, [x], { checkpoints })).toThrow(
        new TypeError(
          `Expected checkpoints in the order of the graph but ${checkpoints[1]?.name} does not follow those before it`,
        ),
      );
  });
});

describe('what does not lead to a wanted gradient costs nothing', () => {
  /** Layers whose sizes are all different, so that a gradient of a weight shows by its shape. */
  const chain = (depth: number, trained: number) => {
    const g = new Graph();
    const size = (layer: number): number => 10 + layer;
    const weights = Array.from({ length: depth }, (_, layer) => g.input(`w${layer}`, 'float32', [size(layer + 1), size(layer)]));
    const hidden: Value[] = [g.input('x', 'float32', [4, size(0)])];
    for (const weight of weights) hidden.push(ops.silu(g, ops.linear(g, hidden.at(-1) as Value, weight)));
    const loss = total(g, hidden.at(-1) as Value);
    const forward = g.nodes.length;
    const [gradient] = gradients(g, loss, [weights[trained] as Value]) as [Value];
    return { g, forward, weights, hidden, gradient };
  };
  const reads = (nodes: readonly Node[], value: Value | undefined): boolean =>
    nodes.some(({ inputs }) => inputs.some((input) => input === value));

  it('layers before a late parameter', () => {
    const [shallow, deep] = [chain(2, 1), chain(9, 8)];
    expect(appended(deep)).toHaveLength(appended(shallow).length);
    expect(appended(deep).length).toBeLessThanOrEqual(16);
    for (let layer = 0; layer < 8; layer++) {
      expect(reads(appended(deep), deep.weights[layer])).toBe(false);
      expect(reads(appended(deep), deep.hidden[layer])).toBe(layer === 8);
    }
    // The gradient of the last weight is not computed from that weight.
    expect(reads(appended(deep), deep.weights[8])).toBe(false);
    expect(reads(appended(deep), deep.hidden[8])).toBe(true);
  });

  it('frozen weights on the way to an early parameter', () => {
    const { weights, gradient, ...graph } = chain(5, 0);
    const shapes = appended(graph).flatMap(({ outputs }) => outputs.map(({ shape }) => shape.join()));
    expect(gradient.shape).toEqual(weights[0]?.shape);
    expect(shapes).toContain(weights[0]?.shape.join());
    for (const frozen of weights.slice(1)) expect(shapes).not.toContain(frozen.shape.join());
    // Nor the input's.
    expect(shapes).not.toContain('4,10');
  });

  it('frozen constants in every operator that has two operands', () => {
    const g = new Graph();
    const x = g.input('x', 'float32', [4, 8]);
    const constant = (...shape: number[]): Value =>
      ops.float32(
        g,
        null,
        shape,
        Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, at) => 1 + at),
      );
    const frozen = [
      constant(2, 4, 1),
      constant(3, 1, 1, 8),
      constant(5, 1, 1, 1, 1),
      constant(8),
      constant(9, 8),
      constant(9, 7),
    ];
    const [a, b, c, d, e, f] = frozen as [Value, Value, Value, Value, Value, Value];
    const y = ops.rmsNorm(g, ops.sub(g, c, ops.div(g, ops.mul(g, ops.add(g, x, a), b), c)), d, 1e-5);
    const loss = total(g, ops.matmul(g, ops.linear(g, y, e), f));
    const forward = g.nodes.length;
    gradients(g, loss, [x]);
    const shapes = appended({ g, forward }).flatMap(({ outputs }) => outputs.map(({ shape }) => shape.join()));
    for (const { shape } of frozen) expect(shapes).not.toContain(shape.join());
  });

  it('what is computed beside the scalar', () => {
    const g = new Graph();
    const x = g.input('x', 'float32', [3]);
    const y = ops.exp(g, x);
    const loss = total(g, y);
    ops.sigmoid(g, y);
    ops.linear(g, ops.reshape(g, y, [1, 3]), g.input('w', 'float32', [7, 3]));
    const forward = g.nodes.length;
    gradients(g, loss, [x]);
    const without = new Graph();
    const alone = without.input('x', 'float32', [3]);
    const same = total(without, ops.exp(without, alone));
    const before = without.nodes.length;
    gradients(without, same, [alone]);
    expect(appended({ g, forward })).toHaveLength(without.nodes.length - before);
  });
});
