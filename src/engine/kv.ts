/**
 * Keys and values of all rows, one buffer a layer and part: [rows, kvHeads, capacity, headDim]. Running rows are the first ones, so that a run over them is a view
 * of the buffer and nothing is gathered. A row that leaves is replaced by the last one; a beam that forks is copied.
 */
import { float32, type Tensor } from '../runtime/session.js';
import { names } from './program.js';

export interface KvShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Tokens a row can hold. */
  readonly capacity: number;
  readonly rows: number;
}

export interface KvView {
  readonly past: Readonly<Record<string, Tensor>>;
  /** The same tensors under the names of the outputs: attention appends in place. */
  readonly present: Readonly<Record<string, Tensor>>;
}

export class KvCache {
  readonly shape: KvShape;
  readonly #buffers: { readonly past: string; readonly present: string; readonly data: Float32Array }[] = [];
  readonly #views = new Map<number, KvView>();

  constructor(shape: KvShape) {
    this.shape = shape;
    for (let layer = 0; layer < shape.layers; layer++) {
      for (const part of ['k', 'v'] as const) {
        const data = new Float32Array(shape.rows * this.#rowSize);
        this.#buffers.push({ past: names.past(layer, part), present: names.present(layer, part), data });
      }
    }
  }

  /** Rows first ... first + count − 1. */
  view(first: number, count: number): KvView {
    const key = first * (this.shape.rows + 1) + count;
    const known = this.#views.get(key);
    if (known) return known;
    const { kvHeads, capacity, headDim } = this.shape;
    const past: Record<string, Tensor> = {};
    const present: Record<string, Tensor> = {};
    for (const buffer of this.#buffers) {
      const rows = buffer.data.subarray(first * this.#rowSize, (first + count) * this.#rowSize);
      past[buffer.past] = present[buffer.present] = float32(rows, [count, kvHeads, capacity, headDim]);
    }
    const view = { past, present };
    this.#views.set(key, view);
    return view;
  }

  /** Copies the first `length` tokens of a row over another row. */
  copy(from: number, to: number, length: number): void {
    if (from === to) return;
    const { kvHeads, capacity, headDim } = this.shape;
    for (const { data } of this.#buffers) {
      for (let head = 0; head < kvHeads; head++) {
        const source = from * this.#rowSize + head * capacity * headDim;
        data.copyWithin(to * this.#rowSize + head * capacity * headDim, source, source + length * headDim);
      }
    }
  }

  get #rowSize(): number {
    return this.shape.kvHeads * this.shape.capacity * this.shape.headDim;
  }
}
