/** Normalisation over the last axes, from `axis` on. */
import { type Array64, at, axisOf, count, make } from './array.js';
import type { Call, Kernel } from './call.js';

/** A statistic of all elements from `axis` on; those axes stay, as ones. */
function statistic(x: Array64, axis: number, of: (elements: Float64Array) => number): Array64 {
  const outer = x.shape.slice(0, axis);
  const size = count(x.shape.slice(axis));
  const data = Float64Array.from({ length: count(outer) }, (_, each) => of(x.data.subarray(each * size, (each + 1) * size)));
  return { shape: x.shape.map((each, own) => (own < axis ? each : 1)), data };
}

const mean = (elements: Float64Array): number => elements.reduce((total, each) => total + each, 0) / elements.length;

function normalise(call: Call, centered: boolean): Array64[] {
  call.only('stash_type', 1);
  const x = call.input(0);
  const scale = call.input(1);
  const bias = centered ? call.optional(2) : null;
  const axis = axisOf(call.int('axis', -1), x.shape.length);
  const epsilon = call.float('epsilon', 1e-5);
  const center = statistic(x, axis, (elements) => (centered ? mean(elements) : 0));
  const difference = make(x.shape, (index) => at(x, index) - at(center, index));
  const inverse = statistic(difference, axis, (elements) => 1 / Math.sqrt(mean(elements.map((each) => each ** 2)) + epsilon));
  const y = make(
    x.shape,
    (index) => at(difference, index) * at(inverse, index) * at(scale, index) + (bias ? at(bias, index) : 0),
  );
  return centered ? [y, center, inverse] : [y, inverse];
}

export const norms: Readonly<Record<string, Kernel>> = {
  LayerNormalization: (call) => normalise(call, true),
  SimplifiedLayerNormalization: (call) => normalise(call, false),
};
