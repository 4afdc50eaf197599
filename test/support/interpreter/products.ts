/** Products of matrices; leading axes broadcast. */
import { type Array64, at, broadcast, formatShape, make } from './array.js';
import type { Call, Kernel } from './call.js';

function product(call: Call, transA: boolean, transB: boolean, alpha: number): Array64 {
  const [a, b] = [call.input(0), call.input(1)];
  if (a.shape.length < 2 || b.shape.length < 2) call.refuse('matrices', `${formatShape(a.shape)} and ${formatShape(b.shape)}`);
  const sides = ({ shape }: Array64, transposed: boolean): [number, number] => {
    const [rows, columns] = shape.slice(-2) as [number, number];
    return transposed ? [columns, rows] : [rows, columns];
  };
  const [m, inner] = sides(a, transA);
  const [k, n] = sides(b, transB);
  if (inner !== k) call.refuse('equal inner sizes', `${inner} and ${k}`);
  const leading = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2));
  return make([...leading, m, n], (index) => {
    const outer = index.slice(0, -2);
    const [row, column] = index.slice(-2) as [number, number];
    let total = 0;
    for (let each = 0; each < k; each++) {
      const x = at(a, transA ? [...outer, each, row] : [...outer, row, each]);
      const y = at(b, transB ? [...outer, column, each] : [...outer, each, column]);
      total += x * y;
    }
    return alpha * total;
  });
}

function fused(call: Call): Array64[] {
  call.only('transBatchA', 0);
  call.only('transBatchB', 0);
  return [product(call, call.int('transA', 0) === 1, call.int('transB', 0) === 1, call.float('alpha', 1))];
}

function gemm(call: Call): Array64[] {
  const beta = call.float('beta', 1);
  const y = product(call, call.int('transA', 0) === 1, call.int('transB', 0) === 1, call.float('alpha', 1));
  const c = call.optional(2);
  return [c ? make(y.shape, (index) => at(y, index) + beta * at(c, index)) : y];
}

export const products: Readonly<Record<string, Kernel>> = {
  MatMul: (call) => [product(call, false, false, 1)],
  'com.microsoft.FusedMatMul': fused,
  Gemm: gemm,
};
