/**
 * Keys and values of all rows, one buffer a layer and part: [rows, kvHeads, capacity, headDim]. Running rows are the first ones, so that a run over
 * them is a view of the buffer and nothing is gathered. A row that leaves is replaced by the last one; a beam that forks is copied.
 *
 * Attention could append to the buffers in place (they would be input and output at once), but onnxruntime's Node binding copies every output out of
 * a run, the whole cache each step. So a run only reads the cache, gives the keys and values of its own tokens, and `append` writes those few numbers.
 * What a run reads is proportional to `capacity`; it is therefore about as small as the longest row allows, in powers of two.
 */
import { float32, type Tensor } from '../runtime/session.js';
import { names } from './program.js';

export interface KvShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly rows: number;
  /** The most tokens a row may have. */
  readonly maxLength: number;
}

const SMALLEST_CAPACITY = 64;
/** Rows are moved into less room only where it is so many times less: growing and shrinking by turns would cost more than it saves. */
const SHRINK_FACTOR = 4;

export class KvCache {
  readonly shape: KvShape;
  readonly #names: readonly string[];
  /** In the order of the program's `fresh` output: layer by layer, keys before values. At least as long as the capacity needs. */
  #buffers: Float32Array[];
  readonly #views = new Map<number, Readonly<Record<string, Tensor>>>();
  #capacity: number;

  constructor(shape: KvShape) {
    this.shape = shape;
    this.#names = Array.from({ length: shape.layers }, (_, layer) => [names.past(layer, 'k'), names.past(layer, 'v')]).flat();
    this.#capacity = this.#capacityFor(0);
    this.#buffers = this.#allocate(this.#capacity);
  }

  /** Tokens that every row has room for now. */
  get capacity(): number {
    return this.#capacity;
  }

  /** The cache of rows first ... first + count − 1, as inputs of a run. */
  view(first: number, count: number): Readonly<Record<string, Tensor>> {
    const key = first * (this.shape.rows + 1) + count;
    const known = this.#views.get(key);
    if (known) return known;
    const { kvHeads, headDim } = this.shape;
    const view = Object.fromEntries(
      this.#buffers.map((buffer, index) => {
        const rows = buffer.subarray(first * this.#rowSize, (first + count) * this.#rowSize);
        return [this.#names[index] as string, float32(rows, [count, kvHeads, this.#capacity, headDim])];
      }),
    );
    // Any rows can be asked for, but a batch asks for few at a time: their number must not grow with the square of the rows.
    if (this.#views.size >= 2 * this.shape.rows) this.#views.clear();
    this.#views.set(key, view);
    return view;
  }

  /** Makes room for rows of this length. Only the first `rows` rows keep their content, `length` tokens of it. */
  reserve(length: number, rows: number): void {
    if (length > this.shape.maxLength)
      throw new RangeError(`Expected a row of at most ${this.shape.maxLength} tokens but received ${length}`);
    const capacity = this.#capacityFor(length);
    // What the other rows hold is not known here: they may be longer.
    if (capacity > this.#capacity || (capacity < this.#capacity && rows === 0)) this.#move(capacity, rows);
  }

  /** Gives back room that is far more than the first `rows` rows need, which have at most `length` tokens; the other rows are lost. */
  shrink(length: number, rows: number): void {
    const capacity = this.#capacityFor(length);
    if (capacity * SHRINK_FACTOR <= this.#capacity) this.#move(capacity, rows);
  }

  /**
   * Adds what a run computed: fresh [rows, tokens, layers · 2 · kvHeads · headDim]. Row i of the run is row first + i here,
   * had starts[i] tokens before, and has ends[i] now; what lies beyond is padding.
   */
  append(first: number, fresh: Float32Array, tokens: number, starts: readonly number[], ends: readonly number[]): void {
    const { kvHeads, headDim } = this.shape;
    const stride = this.#buffers.length * kvHeads * headDim;
    for (const [row, start] of starts.entries()) {
      for (let token = 0; token < (ends[row] as number) - start; token++) {
        let from = (row * tokens + token) * stride;
        for (const buffer of this.#buffers) {
          let to = (first + row) * this.#rowSize + (start + token) * headDim;
          for (let head = 0; head < kvHeads; head++) {
            for (let at = 0; at < headDim; at++) buffer[to + at] = fresh[from + at] as number;
            from += headDim;
            to += this.#capacity * headDim;
          }
        }
      }
    }
  }

  /** Copies the first `length` tokens of a row over another row. */
  copy(from: number, to: number, length: number): void {
    if (from === to) return;
    const { kvHeads, headDim } = this.shape;
    for (const buffer of this.#buffers) {
      for (let head = 0; head < kvHeads; head++) {
        const offset = head * this.#capacity * headDim;
        const source = from * this.#rowSize + offset;
        buffer.copyWithin(to * this.#rowSize + offset, source, source + length * headDim);
      }
    }
  }

  /** Has two rows change places, as far as `length` tokens. */
  swap(one: number, other: number, length: number): void {
    const { kvHeads, headDim } = this.shape;
    for (const buffer of this.#buffers) {
      for (let head = 0; head < kvHeads; head++) {
        const offset = head * this.#capacity * headDim;
        const [first, second] = [one * this.#rowSize + offset, other * this.#rowSize + offset];
        const kept = buffer.slice(first, first + length * headDim);
        buffer.copyWithin(first, second, second + length * headDim);
        buffer.set(kept, second);
      }
    }
  }

  #capacityFor(length: number): number {
    let capacity = Math.min(SMALLEST_CAPACITY, this.shape.maxLength);
    while (capacity < length) capacity = Math.min(capacity * 2, this.shape.maxLength);
    return capacity;
  }

  /** Another capacity, with what the first rows hold. Throws RangeError, and changes nothing, where memory does not suffice. */
  #move(capacity: number, rows: number): void {
    const { headDim } = this.shape;
    const [from, to] = [this.#capacity * headDim, capacity * headDim];
    const kept = Math.min(from, to);
    const heads = Array.from({ length: rows * this.shape.kvHeads }, (_, head) => head);
    // In place, the last one makes way first where all need more room.
    if (to > from) heads.reverse();
    const buffers = this.#fits(capacity) ? this.#buffers : this.#allocate(capacity);
    for (const [index, buffer] of buffers.entries()) {
      const old = this.#buffers[index] as Float32Array;
      for (const head of heads) {
        if (old === buffer) buffer.copyWithin(head * to, head * from, head * from + kept);
        else buffer.set(old.subarray(head * from, head * from + kept), head * to);
      }
    }
    this.#capacity = capacity;
    this.#buffers = buffers;
    this.#views.clear();
  }

  /**
   * Whether the buffers will do for a capacity: large enough, and not so much larger that memory is wasted. Short and long rows come by turns,
   * and buffers that are thrown away each time stay in memory until the garbage collector comes, several caches of them.
   */
  #fits(capacity: number): boolean {
    const size = this.#sizeFor(capacity);
    const length = this.#buffers[0]?.length ?? 0;
    return size <= length && length <= size * SHRINK_FACTOR;
  }

  #allocate(capacity: number): Float32Array[] {
    return this.#names.map(() => new Float32Array(this.#sizeFor(capacity)));
  }

  #sizeFor(capacity: number): number {
    const { rows, kvHeads, headDim } = this.shape;
    return rows * kvHeads * capacity * headDim;
  }

  get #rowSize(): number {
    return this.shape.kvHeads * this.#capacity * this.shape.headDim;
  }
}
