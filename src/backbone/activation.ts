/** What config.json calls a nonlinearity, in transformers' names, and what that is in a graph. */
import { z } from 'zod';
import { gelu, quickGelu, relu } from '../onnx/activation.js';
import type { Graph, Value } from '../onnx/graph.js';
import { silu } from '../onnx/ops.js';

export type Activation = (g: Graph, x: Value) => Value;
const tanhGelu: Activation = (g, x) => gelu(g, x, 'tanh');

const ACTIVATIONS: ReadonlyMap<string, Activation> = new Map<string, Activation>([
  ['gelu', (g, x) => gelu(g, x)],
  ['gelu_new', tanhGelu],
  ['gelu_fast', tanhGelu],
  ['gelu_pytorch_tanh', tanhGelu],
  ['quick_gelu', quickGelu],
  ['relu', relu],
  ['silu', silu],
]);

/** One of those names → what it does. */
export const activation = z.literal([...ACTIVATIONS.keys()]).transform((name) => ACTIVATIONS.get(name) as Activation);
