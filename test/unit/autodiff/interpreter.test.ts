/**
 * The interpreter against onnxruntime: every operator that it knows, in every form that matters to a graph of ours. What proves the
 * backward rules is itself proved by something that we did not write.
 */
import { describe, expect, it } from 'vitest';
import { type Attribute, Graph } from '../../../src/onnx/graph.js';
import type { DType } from '../../../src/tensor/dtype.js';
import { count } from '../../support/interpreter/array.js';
import { type Feed, interpret, kernels } from '../../support/interpreter.js';
import { Gaussian } from '../../support/tiny.js';
import { expectSame, runInRuntime } from './runtime.js';

const MICROSOFT = 'com.microsoft';

interface Operand extends Feed {
  readonly dtype: DType;
}

interface Case {
  readonly op: string;
  readonly domain?: string;
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly inputs: readonly (Operand | null)[];
  /** Shapes of the results. */
  readonly shapes: readonly (readonly number[])[];
  /** Of the results: float32 unless told. */
  readonly dtype?: DType;
}

let seed = 0;
const real = (...shape: number[]): Operand => ({ dtype: 'float32', shape, data: new Gaussian(++seed).array(count(shape), 1) });
const positive = (...shape: number[]): Operand => {
  const { data } = real(...shape);
  return { dtype: 'float32', shape, data: Float32Array.from(data as Float32Array, (value) => 0.1 + Math.abs(value)) };
};
const ints = (shape: number[], ...values: number[]): Operand => ({ dtype: 'int64', shape, data: values });
const list = (...values: number[]): Operand => ints([values.length], ...values);
const numbers = (...values: number[]): Operand => ({ dtype: 'float32', shape: [values.length], data: Float32Array.from(values) });
const bools = (shape: number[], ...values: number[]): Operand => ({ dtype: 'bool', shape, data: values });
const float = (value: number): Operand => ({ dtype: 'float32', shape: [], data: [value] });

const cases: readonly Case[] = [
  ...['Add', 'Sub', 'Mul', 'Div'].flatMap((op): Case[] => [
    { op, inputs: [real(2, 3, 4), real(2, 3, 4)], shapes: [[2, 3, 4]] },
    { op, inputs: [real(3, 1), positive(2, 1, 4)], shapes: [[2, 3, 4]] },
    { op, inputs: [float(3), positive(2)], shapes: [[2]] },
    { op, inputs: [list(7, -7, 9), list(2, 2, -4)], shapes: [[3]], dtype: 'int64' },
  ]),
  { op: 'Pow', inputs: [positive(2, 3), real(3)], shapes: [[2, 3]] },
  { op: 'Equal', inputs: [list(1, 2, 3), ints([2, 1], 3, 1)], shapes: [[2, 3]], dtype: 'bool' },
  { op: 'Less', inputs: [numbers(1, 2, 3), numbers(2, 2, 2)], shapes: [[3]], dtype: 'bool' },
  ...['Neg', 'Exp', 'Sigmoid', 'Tanh', 'Erf', 'Relu', 'Sign', 'Identity'].map(
    (op): Case => ({ op, inputs: [real(3, 7)], shapes: [[3, 7]] }),
  ),
  ...['Log', 'Sqrt', 'Reciprocal'].map((op): Case => ({ op, inputs: [positive(3, 7)], shapes: [[3, 7]] })),
  { op: 'Erf', inputs: [numbers(-7, -4, -2.5, -1e-3, 0, 1e-3, 2.5, 4, 7)], shapes: [[9]] },
  { op: 'Gelu', inputs: [real(3, 7)], shapes: [[3, 7]] },
  { op: 'Gelu', inputs: [real(3, 7)], attributes: { approximate: 'tanh' }, shapes: [[3, 7]] },
  { op: 'Gelu', domain: MICROSOFT, inputs: [real(3, 7)], shapes: [[3, 7]] },
  { op: 'QuickGelu', domain: MICROSOFT, inputs: [real(3, 7)], shapes: [[3, 7]] },
  { op: 'QuickGelu', domain: MICROSOFT, inputs: [real(3, 7)], attributes: { alpha: { float: 1 } }, shapes: [[3, 7]] },
  { op: 'Clip', inputs: [real(3, 7), float(-0.5), float(0.3)], shapes: [[3, 7]] },
  { op: 'Clip', inputs: [real(3, 7), null, float(0.3)], shapes: [[3, 7]] },
  { op: 'Cast', inputs: [numbers(-2.7, 0, 0.3, 2.7)], attributes: { to: 7 }, shapes: [[4]], dtype: 'int64' },
  { op: 'Cast', inputs: [numbers(-2.7, 0, 0.3, 2.7)], attributes: { to: 9 }, shapes: [[4]], dtype: 'bool' },
  { op: 'Cast', inputs: [list(-2, 0, 3)], attributes: { to: 1 }, shapes: [[3]] },
  { op: 'Where', inputs: [bools([2, 1], 1, 0), real(2, 3), real(1, 3)], shapes: [[2, 3]] },
  { op: 'Where', inputs: [bools([2, 1, 1], 1, 0), float(0), real(2, 3)], shapes: [[2, 2, 3]] },

  { op: 'MatMul', inputs: [real(3, 4), real(4, 2)], shapes: [[3, 2]] },
  { op: 'MatMul', inputs: [real(2, 1, 3, 4), real(5, 4, 2)], shapes: [[2, 5, 3, 2]] },
  ...[0, 1].flatMap((transA) =>
    [0, 1].flatMap((transB): Case[] => {
      const alpha = { float: 0.7 };
      const a = transA ? [4, 3] : [3, 4];
      const b = transB ? [2, 4] : [4, 2];
      return [
        {
          op: 'FusedMatMul',
          domain: MICROSOFT,
          inputs: [real(...a), real(...b)],
          attributes: { transA, transB },
          shapes: [[3, 2]],
        },
        {
          op: 'FusedMatMul',
          domain: MICROSOFT,
          inputs: [real(5, ...a), real(5, ...b)],
          attributes: { transA, transB, alpha },
          shapes: [[5, 3, 2]],
        },
        { op: 'Gemm', inputs: [real(...a), real(...b)], attributes: { transA, transB, alpha }, shapes: [[3, 2]] },
        {
          op: 'Gemm',
          inputs: [real(...a), real(...b), real(3, 1)],
          attributes: { transA, transB, beta: { float: 2 } },
          shapes: [[3, 2]],
        },
      ];
    }),
  ),

  ...['ReduceSum', 'ReduceMean'].flatMap((op): Case[] => [
    { op, inputs: [real(2, 3, 4)], shapes: [[1, 1, 1]] },
    { op, inputs: [real(2, 3, 4)], attributes: { keepdims: 0 }, shapes: [[]] },
    { op, inputs: [real(2, 3, 4), list(1)], shapes: [[2, 1, 4]] },
    { op, inputs: [real(2, 3, 4), list(-1, 0)], attributes: { keepdims: 0 }, shapes: [[3]] },
    { op, inputs: [real(2, 3), list()], attributes: { noop_with_empty_axes: 1 }, shapes: [[2, 3]] },
    { op, inputs: [real(2, 3), list()], shapes: [[1, 1]] },
  ]),
  ...['Softmax', 'LogSoftmax'].flatMap((op): Case[] => [
    { op, inputs: [real(2, 3, 4)], shapes: [[2, 3, 4]] },
    { op, inputs: [real(2, 3, 4)], attributes: { axis: 1 }, shapes: [[2, 3, 4]] },
    { op, inputs: [numbers(-1000, 0, 1000)], attributes: { axis: 0 }, shapes: [[3]] },
  ]),
  {
    op: 'SoftmaxCrossEntropyLoss',
    inputs: [real(3, 5), list(4, 0, 4)],
    attributes: { reduction: 'none' },
    shapes: [[3], [3, 5]],
  },
  {
    op: 'SoftmaxCrossEntropyLoss',
    inputs: [real(3, 5), list(4, -100, 4)],
    attributes: { reduction: 'none', ignore_index: -100 },
    shapes: [[3], [3, 5]],
  },
  { op: 'SoftmaxCrossEntropyLoss', inputs: [real(3, 5), list(4, 0, 2), positive(5)], shapes: [[], [3, 5]] },
  {
    op: 'SoftmaxCrossEntropyLoss',
    inputs: [real(2, 5, 3), ints([2, 3], 4, 0, 1, 2, 3, 0)],
    attributes: { reduction: 'sum' },
    shapes: [[], [2, 5, 3]],
  },

  {
    op: 'SimplifiedLayerNormalization',
    inputs: [real(2, 3, 8), real(8)],
    attributes: { axis: -1, epsilon: { float: 0.1 } },
    shapes: [
      [2, 3, 8],
      [2, 3, 1],
    ],
  },
  {
    op: 'LayerNormalization',
    inputs: [real(2, 3, 8), real(8), real(8)],
    attributes: { epsilon: { float: 0.1 } },
    shapes: [
      [2, 3, 8],
      [2, 3, 1],
      [2, 3, 1],
    ],
  },
  {
    op: 'LayerNormalization',
    inputs: [real(2, 3, 8), real(3, 8)],
    attributes: { axis: 1 },
    shapes: [
      [2, 3, 8],
      [2, 1, 1],
    ],
  },

  { op: 'Transpose', inputs: [real(2, 3, 4)], shapes: [[4, 3, 2]] },
  { op: 'Transpose', inputs: [real(2, 3, 4)], attributes: { perm: [1, 2, 0] }, shapes: [[3, 4, 2]] },
  { op: 'Reshape', inputs: [real(2, 3, 4), list(0, -1)], shapes: [[2, 12]] },
  { op: 'Reshape', inputs: [real(2, 3, 4), list(4, 3, 2)], shapes: [[4, 3, 2]] },
  {
    op: 'Split',
    inputs: [real(2, 6)],
    attributes: { axis: -1, num_outputs: 3 },
    shapes: [
      [2, 2],
      [2, 2],
      [2, 2],
    ],
  },
  {
    op: 'Split',
    inputs: [real(5, 2)],
    attributes: { num_outputs: 2 },
    shapes: [
      [3, 2],
      [2, 2],
    ],
  },
  {
    op: 'Split',
    inputs: [real(2, 6), list(1, 3, 2)],
    attributes: { axis: 1 },
    shapes: [
      [2, 1],
      [2, 3],
      [2, 2],
    ],
  },
  { op: 'Concat', inputs: [real(2, 3), real(1, 3), real(3, 3)], attributes: { axis: 0 }, shapes: [[6, 3]] },
  { op: 'Concat', inputs: [real(2, 3, 1), real(2, 3, 4)], attributes: { axis: -1 }, shapes: [[2, 3, 5]] },
  { op: 'Concat', inputs: [real(2, 1, 2), real(2, 3, 2)], attributes: { axis: 1 }, shapes: [[2, 4, 2]] },
  { op: 'Slice', inputs: [real(4, 5), list(1, 0), list(3, 99)], shapes: [[2, 5]] },
  { op: 'Slice', inputs: [real(4, 5), list(-1), list(-99), list(-1), list(-2)], shapes: [[4, 3]] },
  { op: 'Slice', inputs: [real(4, 5), list(1), list(5), list(1), list(3)], shapes: [[4, 2]] },
  { op: 'Expand', inputs: [real(3, 1), list(2, 1, 4)], shapes: [[2, 3, 4]] },
  { op: 'Expand', inputs: [float(2), list(2, 2)], shapes: [[2, 2]] },
  { op: 'Unsqueeze', inputs: [real(2, 3), list(0, -1)], shapes: [[1, 2, 3, 1]] },
  { op: 'Squeeze', inputs: [real(1, 2, 1, 3)], shapes: [[2, 3]] },
  { op: 'Squeeze', inputs: [real(1, 2, 1, 3), list(-2)], shapes: [[1, 2, 3]] },
  { op: 'Shape', inputs: [real(2, 3, 4)], shapes: [[3]], dtype: 'int64' },
  { op: 'Shape', inputs: [real(2, 3, 4)], attributes: { start: 1, end: -1 }, shapes: [[1]], dtype: 'int64' },

  { op: 'Gather', inputs: [real(5, 3), ints([2, 3], 4, 0, 0, 2, -1, 3)], shapes: [[2, 3, 3]] },
  { op: 'Gather', inputs: [real(2, 5, 3), ints([2], 4, 0)], attributes: { axis: 1 }, shapes: [[2, 2, 3]] },
  { op: 'Gather', inputs: [real(2, 5), ints([], 3)], attributes: { axis: -1 }, shapes: [[2]] },
  { op: 'GatherND', inputs: [real(2, 3, 4), ints([3, 2], 1, 2, 0, 0, 1, 2)], shapes: [[3, 4]] },
  { op: 'GatherND', inputs: [real(2, 3), ints([1, 2, 2], 1, -1, 0, 0)], shapes: [[1, 2]] },
  { op: 'ScatterND', inputs: [real(2, 3, 4), ints([2, 2], 1, 2, 0, 0), real(2, 4)], shapes: [[2, 3, 4]] },
  {
    op: 'ScatterND',
    inputs: [real(2, 3, 4), ints([3, 2], 1, 2, 0, 0, 1, 2), real(3, 4)],
    attributes: { reduction: 'add' },
    shapes: [[2, 3, 4]],
  },
  { op: 'ScatterND', inputs: [real(2, 3, 4), ints([0, 2]), real(0, 4)], shapes: [[2, 3, 4]] },
  { op: 'ScatterElements', inputs: [real(3, 4), ints([2, 4], 0, 1, 2, -1, 1, 2, 0, 0), real(2, 4)], shapes: [[3, 4]] },
  {
    op: 'ScatterElements',
    inputs: [real(3, 4), ints([3, 1], 0, 3, 1), real(3, 1)],
    attributes: { axis: 1, reduction: 'add' },
    shapes: [[3, 4]],
  },
  {
    op: 'ScatterElements',
    inputs: [real(3, 2), ints([4, 2], 0, 0, 0, 2, 1, 1, 0, 0), real(4, 2)],
    attributes: { axis: 0, reduction: 'add' },
    shapes: [[3, 2]],
  },
  { op: 'OneHot', inputs: [ints([2, 2], 0, 3, -1, 7), ints([], 4), numbers(-1, 2)], shapes: [[2, 2, 4]] },
  { op: 'OneHot', inputs: [ints([2], 0, 3), list(4), numbers(0, 1)], attributes: { axis: 0 }, shapes: [[4, 2]] },
  {
    op: 'RotaryEmbedding',
    domain: MICROSOFT,
    inputs: [real(2, 3, 16), ints([2, 3], 5, 0, 8, 2, 2, 1), real(9, 4), real(9, 4)],
    shapes: [[2, 3, 16]],
  },
];

const name = ({ op, domain }: Case): string => (domain ? `${domain}.${op}` : op);

function build({ op, domain = '', attributes = {}, inputs, shapes, dtype = 'float32' }: Case) {
  const graph = new Graph();
  const values = inputs.map((operand, index) => operand && graph.input(`input.${index}`, operand.dtype, operand.shape));
  const outputs = graph.node(
    op,
    values,
    shapes.map((shape) => ({ dtype, shape })),
    attributes,
    domain,
  );
  const feeds = Object.fromEntries(inputs.flatMap((operand, index) => (operand ? [[`input.${index}`, operand] as const] : [])));
  return { graph, outputs, feeds };
}

describe('what the interpreter computes is what onnxruntime computes', () => {
  it.each(
    cases.map((each) => ({
      ...each,
      title: `${name(each)} ${JSON.stringify(each.attributes ?? {})} ${JSON.stringify(each.shapes)}`,
    })),
  )('$title', async (each) => {
    const { graph, outputs, feeds } = build(each);
    const values = interpret(graph, feeds);
    const expected = await runInRuntime(graph, outputs, feeds);
    outputs.forEach((output, index) => {
      const received = values.get(output.name);
      if (!received) throw new Error(`Expected a value of ${output.name} but the interpreter gave none`);
      expectSame(received, expected[index] as Feed & { data: Float64Array }, 1e-5, output.name);
    });
  });

  it('for every operator that it knows', () => {
    expect([...new Set(cases.map(name))].sort()).toEqual([...kernels.keys()].sort());
  });
});

describe('what the interpreter refuses', () => {
  const node = (op: string, attributes: Record<string, Attribute> = {}, shape: readonly (number | string)[] = [2]): Graph => {
    const graph = new Graph();
    graph.node(op, [graph.input('x', 'float32', ['n'])], [{ dtype: 'float32', shape }], attributes);
    return graph;
  };
  const feeds = { x: { shape: [2], data: [1, 2] } };

  it('an operator or an attribute that it does not know, by name', () => {
    expect(() => interpret(node('Cosh'), feeds)).toThrow(
      new TypeError('Expected an operator that the interpreter knows but received Cosh'),
    );
    expect(() => interpret(node('Exp', { base: 2 }), feeds)).toThrow(
      new TypeError('Exp: expected attributes that the interpreter knows but received base'),
    );
  });

  it('a shape that is not the one that was inferred, with names bound', () => {
    expect(interpret(node('Exp', {}, ['n']), feeds).get('Exp_0')?.data).toEqual(Float64Array.of(Math.E, Math.exp(2)));
    expect(() => interpret(node('Exp', {}, [3]), feeds)).toThrow(
      new RangeError('Exp_0: expected [3] (n = 2) but received 2 elements as [2]'),
    );
    const graph = node('Exp', {}, ['n']);
    graph.input('y', 'float32', ['n']);
    expect(() => interpret(graph, { ...feeds, y: { shape: [3], data: [1, 2, 3] } })).toThrow(/^y: expected \[n\] \(n = 2\)/);
  });

  it('a value that is read before it is computed, and an input that is not fed', () => {
    const graph = node('Exp');
    graph.nodes.unshift({ op: 'Neg', domain: '', inputs: graph.nodes[0]?.outputs ?? [], outputs: [], attributes: {} });
    expect(() => interpret(graph, feeds)).toThrow(new TypeError('Neg: expected Exp_0 to be computed before it is read'));
    expect(() => interpret(graph, {})).toThrow(new TypeError('Expected a feed for input x'));
  });
});
