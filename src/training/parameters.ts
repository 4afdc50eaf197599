/**
 * What is trained: named tensors that lie side by side in one array, so that the optimiser is one loop and a checkpoint one block. Each is a
 * view for the runtime, which reads it and writes its gradient into the same place of a second array: nothing is copied.
 */
import { elements } from '../tensor/tensor.js';
import { stream } from './random.js';

/** How a parameter begins. `uniform` is symmetric around zero. */
export type Start =
  | { readonly kind: 'constant'; readonly value: number }
  | { readonly kind: 'uniform'; readonly bound: number }
  | { readonly kind: 'normal'; readonly deviation: number }
  /** The checkpoint's own tensor of this name. */
  | { readonly kind: 'weight'; readonly name: string };

export interface ParameterShape {
  readonly name: string;
  readonly shape: readonly number[];
  readonly start: Start;
}

export class Parameters {
  readonly shapes: readonly ParameterShape[];
  readonly values: Float32Array;
  readonly #places = new Map<string, { readonly start: number; readonly end: number }>();

  constructor(shapes: readonly ParameterShape[]) {
    this.shapes = shapes;
    let size = 0;
    for (const { name, shape } of shapes) {
      const end = size + elements(shape);
      this.#places.set(name, { start: size, end });
      size = end;
    }
    this.values = new Float32Array(size);
  }

  /**
   * Gives every parameter its first values. Each has a random stream of its own name, so that what else is trained does not change them.
   * `read` gives a checkpoint's tensor.
   */
  async start(seed: number, read: (name: string, shape: readonly number[]) => Promise<Float32Array>): Promise<void> {
    for (const { name, shape, start } of this.shapes) {
      const values = this.view(name);
      if (start.kind === 'weight') values.set(await read(start.name, shape));
      else if (start.kind === 'constant') values.fill(start.value);
      else {
        const random = stream(seed, 'start', name);
        if (start.kind === 'uniform') for (let i = 0; i < values.length; i++) values[i] = (2 * random() - 1) * start.bound;
        else for (let i = 0; i < values.length; i++) values[i] = gaussian(random) * start.deviation;
      }
    }
  }

  has(name: string): boolean {
    return this.#places.has(name);
  }

  /** A parameter's part of an array that is laid out like `values`: by default of the values themselves. */
  view(name: string, of: Float32Array = this.values): Float32Array {
    const place = this.#places.get(name);
    if (!place) throw new RangeError(`Expected a parameter but received ${name}`);
    return of.subarray(place.start, place.end);
  }

  /** The parameter that an index of the array belongs to. */
  nameAt(index: number): string {
    const found = [...this.#places].find(([, { start, end }]) => start <= index && index < end);
    if (!found) throw new RangeError(`Expected an index below ${this.values.length} but received ${index}`);
    return found[0];
  }
}

/** Box and Muller's normal number. */
function gaussian(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
