/** ReLU, GELU in its three forms (Hendrycks & Gimpel 2016), and what their gradients need. Refusals are those of ops.ts. */
import type { Graph, Value } from './graph.js';
import { MICROSOFT, one, refuse } from './ops.js';

/** max(x, 0), float32. */
export function relu(g: Graph, x: Value): Value {
  if (x.dtype !== 'float32') refuse('Relu', 'float32', x);
  return one(g.node('Relu', [x], [x]));
}

/** x · Φ(x), float32: exact, or with the tanh that the first models were trained with. */
export function gelu(g: Graph, x: Value, form: 'exact' | 'tanh' = 'exact'): Value {
  if (x.dtype !== 'float32') refuse('Gelu', 'float32', x);
  return one(g.node('Gelu', [x], [x], form === 'tanh' ? { approximate: 'tanh' } : {}));
}

/** x · sigmoid(1.702 x), float32. */
export function quickGelu(g: Graph, x: Value): Value {
  if (x.dtype !== 'float32') refuse('QuickGelu', 'float32', x);
  return one(g.node('QuickGelu', [x], [x], { alpha: { float: 1.702 } }, MICROSOFT));
}

/** 2 / √π · ∫ exp(−t²) from 0 to x, float32. */
export function erf(g: Graph, x: Value): Value {
  if (x.dtype !== 'float32') refuse('Erf', 'float32', x);
  return one(g.node('Erf', [x], [x]));
}
