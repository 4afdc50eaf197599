/**
 * Gradients against finite differences. The function is evaluated by the interpreter, in float64, on a graph that has never seen
 * differentiation; the gradient graph is built from the same lines, and evaluated by the interpreter and by onnxruntime.
 */
import { expect } from 'vitest';
import { gradients } from '../../../src/autodiff/gradients.js';
import { Graph, type Value } from '../../../src/onnx/graph.js';
import { add, mul } from '../../../src/onnx/ops.js';
import { sum } from '../../../src/onnx/reduce.js';
import type { Dim } from '../../../src/onnx/shape.js';
import type { DType } from '../../../src/tensor/dtype.js';
import { count } from '../../support/interpreter/array.js';
import { type Array64, interpret } from '../../support/interpreter.js';
import { Gaussian } from '../../support/tiny.js';
import { expectSame, runInRuntime } from './runtime.js';

export interface Operand {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
  /** What the graph knows of the shape: all of it unless told. */
  readonly dims?: readonly Dim[];
}

export type Operands = Readonly<Record<string, Operand>>;
export type Build = (g: Graph, values: Record<string, Value>) => Value | readonly Value[];

/** Standard normal numbers that float32 holds exactly: the runtime and the interpreter are given the same ones. */
export function real(seed: number, ...shape: number[]): Operand {
  // Spread over all bits: the generator's first numbers from small seeds are small, and alike.
  return { dtype: 'float32', shape, data: new Gaussian(Math.imul(seed, 0x9e3779b1)).array(count(shape), 1) };
}

/** Numbers from 0.5 on. */
export function positive(seed: number, ...shape: number[]): Operand {
  return { dtype: 'float32', shape, data: Float32Array.from(real(seed, ...shape).data, (value) => 0.5 + Math.abs(value)) };
}

export const ints = (shape: readonly number[], ...data: number[]): Operand => ({ dtype: 'int64', shape, data });
export const bools = (shape: readonly number[], ...data: number[]): Operand => ({ dtype: 'bool', shape, data });
export const named = (operand: Operand, ...dims: Dim[]): Operand => ({ ...operand, dims });

export interface Built {
  readonly g: Graph;
  readonly values: Record<string, Value>;
  readonly outputs: readonly Value[];
}

export function buildForward(operands: Operands, build: Build): Built {
  const g = new Graph();
  const values = Object.fromEntries(
    Object.entries(operands).map(([name, { dtype, shape, dims }]) => [name, g.input(name, dtype, dims ?? shape)]),
  );
  return { g, values, outputs: [build(g, values)].flat() };
}

export interface Options {
  /** Which operands are differentiated: all floats unless told. */
  readonly wrt?: readonly string[];
  /** Relative to the largest element of a gradient. */
  readonly tolerance?: number;
  /** Likewise, of the runtime to the interpreter. */
  readonly runtimeTolerance?: number;
  /** Names the checkpoints, as `build` made them. */
  readonly checkpointsOf?: (built: Built) => readonly Value[];
}

export interface Backward extends Built {
  /** Nodes of the function and of the loss; what follows them was added by differentiation. */
  readonly forward: number;
  readonly gradients: readonly Value[];
  /** What the outputs are weighted by to make one loss, as more operands. */
  readonly upstream: Operands;
}

export interface Differentiated extends Backward {
  /** By the name of the operand. */
  readonly received: ReadonlyMap<string, Array64>;
}

/** STEP^4 is what the four-point stencil is off by, times the fifth derivative over 30; a float64 loss has 1e-16 / STEP of noise. */
const STEP = 1e-3;
/** Up to so many elements, each is proved; a larger gradient is proved along random directions. */
const EACH = 24;
const DIRECTIONS = 8;

/**
 * Proves the gradient of sum(outputs * upstream), with upstream gradients drawn at random: of the interpreter to the differences, and of
 * the runtime to the interpreter.
 */
export async function checkGradients(operands: Operands, build: Build, options: Options = {}): Promise<Differentiated> {
  const { wrt = floats(operands), tolerance = 1e-8, runtimeTolerance = 1e-4 } = options;
  const backward = buildBackward(operands, build, options);
  const { upstream, gradients: results } = backward;
  const plain = buildForward(operands, build);
  const loss = (feeds: Operands): number => {
    const values = interpret(plain.g, feeds);
    return plain.outputs.reduce((total, { name }, index) => {
      const { data } = upstream[`upstream.${index}`] as Operand;
      return total + (values.get(name) as Array64).data.reduce((sum, value, at) => sum + value * (data[at] as number), 0);
    }, 0);
  };

  const feeds = { ...operands, ...upstream };
  const computed = interpret(backward.g, feeds);
  const received = new Map(wrt.map((name, index) => [name, computed.get((results[index] as Value).name) as Array64]));
  for (const [name, gradient] of received) checkAlongDirections(operands, name, gradient, loss, tolerance);

  const run = await runInRuntime(backward.g, results, feeds);
  wrt.forEach((name, index) => {
    const what = `gradient of ${name} in the runtime`;
    expectSame(run[index] as Array64, received.get(name) as Array64, runtimeTolerance, what);
  });
  return { ...backward, received };
}

/** The function, the loss made of it, and its gradients, in one graph. */
export function buildBackward(operands: Operands, build: Build, options: Options = {}): Backward {
  const { wrt = floats(operands), checkpointsOf } = options;
  const plain = buildForward(operands, build);
  const results = interpret(plain.g, operands);
  const upstream = Object.fromEntries(
    plain.outputs.map(({ name, shape }, index) => {
      const { shape: sizes } = results.get(name) as Array64;
      return [`upstream.${index}`, named(real(1000 + index, ...sizes), ...shape)];
    }),
  );
  const built = buildForward({ ...operands, ...upstream }, build);
  const { g, values, outputs } = built;
  const terms = outputs.map((output, index) => {
    const weighted = mul(g, output, values[`upstream.${index}`] as Value);
    const axes = weighted.shape.map((_, axis) => axis);
    return sum(g, weighted, axes);
  });
  const loss = terms.reduce((total, term) => add(g, total, term));
  const forward = g.nodes.length;
  const wanted = wrt.map((name) => values[name] as Value);
  return { ...built, upstream, forward, gradients: gradients(g, loss, wanted, { checkpoints: checkpointsOf?.(built) ?? [] }) };
}

const floats = (operands: Operands): string[] => Object.keys(operands).filter((name) => operands[name]?.dtype === 'float32');

function checkAlongDirections(
  operands: Operands,
  name: string,
  gradient: Array64,
  loss: (feeds: Operands) => number,
  tolerance: number,
): void {
  const operand = operands[name] as Operand;
  const origin = Float64Array.from(operand.data);
  expect(gradient.shape, `gradient of ${name}`).toEqual(operand.shape);
  const size = origin.length;
  const random = new Gaussian(7);
  const isEach = size <= EACH;
  const directions = Array.from({ length: isEach ? size : DIRECTIONS }, (_, each) =>
    isEach ? origin.map((_, at) => Number(at === each)) : Float64Array.from(random.array(size, 1 / Math.sqrt(size))),
  );
  const along = (direction: Float64Array): number => {
    const at = (steps: number): number =>
      loss({
        ...operands,
        [name]: { ...operand, data: origin.map((x, each) => x + steps * STEP * (direction[each] as number)) },
      });
    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * STEP);
  };
  const vector = (values: readonly number[]): Array64 => ({ shape: [values.length], data: Float64Array.from(values) });
  const expected = vector(directions.map(along));
  const received = vector(
    directions.map((direction) => gradient.data.reduce((total, each, at) => total + each * (direction[at] as number), 0)),
  );
  expectSame(received, expected, tolerance, `gradient of ${name}`, 1e-3);
}
