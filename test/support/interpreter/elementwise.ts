/** Operators that look at one place of each operand. */
import { type Array64, at, broadcast, make } from './array.js';
import type { Call, Kernel } from './call.js';

const unary =
  (of: (x: number) => number): Kernel =>
  (call) => {
    const { shape, data } = call.input(0);
    return [{ shape, data: data.map(of) }];
  };

function together(operands: readonly Array64[], of: (...values: number[]) => number): Array64[] {
  const shape = broadcast(...operands.map((operand) => operand.shape));
  return [make(shape, (index) => of(...operands.map((operand) => at(operand, index))))];
}

const binary =
  (of: (x: number, y: number) => number): Kernel =>
  (call) =>
    together([call.input(0), call.input(1)], of);

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** The series that has no negative term: exact to the last digits of float64. From 6 on, erf is 1 in float64. */
function erf(x: number): number {
  if (Math.abs(x) >= 6) return Math.sign(x);
  let term = x;
  let total = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(total); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    total += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * total;
}

const gelu = (x: number): number => 0.5 * x * (1 + erf(x / Math.SQRT2));
const tanhGelu = (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

function quickGelu(call: Call): Array64[] {
  const alpha = call.float('alpha', 1.702);
  const { shape, data } = call.input(0);
  return [{ shape, data: data.map((x) => x * sigmoid(alpha * x)) }];
}

function clip(call: Call): Array64[] {
  const { shape, data } = call.input(0);
  const low = call.optional(1)?.data[0] ?? Number.NEGATIVE_INFINITY;
  const high = call.optional(2)?.data[0] ?? Number.POSITIVE_INFINITY;
  return [{ shape, data: data.map((x) => Math.min(high, Math.max(low, x))) }];
}

/** Floats keep their float64 here: what a narrower float loses is not part of the function that is differentiated. */
function cast(call: Call): Array64[] {
  call.int('to', 0);
  const { shape, data } = call.input(0);
  const dtype = call.node.outputs[0]?.dtype ?? '';
  if (dtype.includes('float')) return [{ shape, data }];
  return [{ shape, data: data.map((x) => (dtype === 'bool' ? Number(x !== 0) : Math.trunc(x))) }];
}

function div(call: Call): Array64[] {
  const whole = call.node.outputs[0]?.dtype.includes('int') === true;
  return together([call.input(0), call.input(1)], (x = 0, y = 0) => (whole ? Math.trunc(x / y) : x / y));
}

export const elementwise: Readonly<Record<string, Kernel>> = {
  Add: binary((x, y) => x + y),
  Sub: binary((x, y) => x - y),
  Mul: binary((x, y) => x * y),
  Div: div,
  Pow: binary((x, y) => x ** y),
  Equal: binary((x, y) => Number(x === y)),
  Less: binary((x, y) => Number(x < y)),
  Neg: unary((x) => -x),
  Exp: unary(Math.exp),
  Log: unary(Math.log),
  Sqrt: unary(Math.sqrt),
  Reciprocal: unary((x) => 1 / x),
  Sigmoid: unary(sigmoid),
  Tanh: unary(Math.tanh),
  Erf: unary(erf),
  Relu: unary((x) => Math.max(0, x)),
  Sign: unary(Math.sign),
  Identity: unary((x) => x),
  Gelu: (call) => unary(call.text('approximate', 'none') === 'tanh' ? tanhGelu : gelu)(call),
  'com.microsoft.Gelu': unary(gelu),
  'com.microsoft.QuickGelu': quickGelu,
  Clip: clip,
  Cast: cast,
  Where: (call) =>
    together([call.input(0), call.input(1), call.input(2)], (condition = 0, x = 0, y = 0) => (condition === 0 ? y : x)),
};
