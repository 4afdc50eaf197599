/** Arrays of float64, row by row, whatever the graph's dtype: integers are exact up to 2^53, and a bool is 0 or 1. */

export interface Array64 {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** A place in an array, one number an axis. */
export type Index = readonly number[];

export function count(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** An array of what `at` says of every place. The index is one array that moves on: it must not be kept. */
export function make(shape: readonly number[], at: (index: Index) => number): Array64 {
  const data = new Float64Array(count(shape));
  const index = shape.map(() => 0);
  for (let flat = 0; flat < data.length; flat++) {
    data[flat] = at(index);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const next = (index[axis] as number) + 1;
      index[axis] = next === shape[axis] ? 0 : next;
      if (index[axis] !== 0) break;
    }
  }
  return { shape: [...shape], data };
}

export function scalar(value: number): Array64 {
  return { shape: [], data: Float64Array.of(value) };
}

export function vector(values: readonly number[]): Array64 {
  return { shape: [values.length], data: Float64Array.from(values) };
}

/** Where an index lies in the data. As in broadcasting, axes are aligned at the last, and an axis of one repeats. */
export function offset(shape: readonly number[], index: Index): number {
  const ahead = index.length - shape.length;
  let flat = 0;
  for (let axis = 0; axis < shape.length; axis++) {
    const size = shape[axis] as number;
    flat = flat * size + (size === 1 ? 0 : (index[ahead + axis] as number));
  }
  return flat;
}

export function at({ shape, data }: Array64, index: Index): number {
  return data[offset(shape, index)] as number;
}

export function broadcast(...shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) => {
    const sizes = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1).filter((size) => size !== 1);
    const [first = 1] = sizes;
    if (sizes.some((size) => size !== first))
      throw new RangeError(`Expected shapes that broadcast but received ${shapes.map(formatShape).join(' and ')}`);
    return first;
  });
}

/** An axis that may be counted from the end. */
export function axisOf(axis: number, rank: number): number {
  const from = axis < 0 ? axis + rank : axis;
  if (!(from >= 0 && from < rank)) throw new RangeError(`Expected an axis of ${rank} but received ${axis}`);
  return from;
}

/** A place on an axis that may be counted from the end. */
export function placeOf(place: number, size: number): number {
  const from = place < 0 ? place + size : place;
  if (!(from >= 0 && from < size)) throw new RangeError(`Expected a place of ${size} but received ${place}`);
  return from;
}

/** The index with another place on one axis. */
export function moved(index: Index, axis: number, place: number): number[] {
  return index.map((own, each) => (each === axis ? place : own));
}

export function formatShape(shape: readonly (number | string)[]): string {
  return `[${shape.join(', ')}]`;
}
