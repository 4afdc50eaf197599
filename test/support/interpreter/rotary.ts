/**
 * onnxruntime's RotaryEmbedding: x [rows, tokens, heads * d], positions [rows, tokens], cos and sin [n, d / 2].
 * Component i of a head turns with component i + d / 2, by the angle of its position.
 */
import { type Array64, at, make, placeOf } from './array.js';
import type { Call, Kernel } from './call.js';

function rotate(call: Call): Array64[] {
  for (const name of ['interleaved', 'num_heads', 'rotary_embedding_dim', 'is_packed_batching']) call.only(name, 0);
  const [x, positions, cos, sin] = [call.input(0), call.input(1), call.input(2), call.input(3)];
  const [n, half] = cos.shape as [number, number];
  if (x.shape.length !== 3 || positions.shape.length !== 2)
    call.refuse('x of 3 axes and positions of 2', `${x.shape.length} and ${positions.shape.length}`);
  return [
    make(x.shape, (index) => {
      const [row, token, component] = index as [number, number, number];
      const angle = [placeOf(at(positions, [row, token]), n), component % half];
      const first = component % (2 * half) < half;
      const partner = at(x, [row, token, component + (first ? half : -half)]);
      return at(x, index) * at(cos, angle) + (first ? -partner : partner) * at(sin, angle);
    }),
  ];
}

export const rotary: Readonly<Record<string, Kernel>> = { 'com.microsoft.RotaryEmbedding': rotate };
