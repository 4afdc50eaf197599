/** Operators that move elements and compute nothing. */
import { type Array64, at, axisOf, broadcast, count, formatShape, make, moved, vector } from './array.js';
import type { Call, Kernel } from './call.js';

function transpose(call: Call): Array64[] {
  const x = call.input(0);
  const perm = call.ints('perm') ?? x.shape.map((_, axis) => x.shape.length - 1 - axis);
  const from: number[] = [];
  return [
    make(
      perm.map((axis) => x.shape[axis] as number),
      (index) => {
        perm.forEach((axis, own) => {
          from[axis] = index[own] as number;
        });
        return at(x, from);
      },
    ),
  ];
}

/** 0: as before. -1: what is left. */
function reshape(call: Call): Array64[] {
  call.only('allowzero', 0);
  const { shape, data } = call.input(0);
  const sizes = call.list(1).map((size, axis) => (size === 0 ? (shape[axis] as number) : size));
  const known = count(sizes.filter((size) => size !== -1));
  const target = sizes.map((size) => (size === -1 ? data.length / known : size));
  return count(target) === data.length ? [{ shape: target, data }] : call.refuse(formatShape(target), formatShape(shape));
}

/** Every element of a part of x: `start` and `step` an axis. */
function part(x: Array64, shape: readonly number[], start: readonly number[], step: readonly number[]): Array64 {
  return make(shape, (index) =>
    at(
      x,
      index.map((place, axis) => (start[axis] as number) + place * (step[axis] as number)),
    ),
  );
}

function split(call: Call): Array64[] {
  const x = call.input(0);
  const axis = axisOf(call.int('axis', 0), x.shape.length);
  const size = x.shape[axis] as number;
  const parts = call.int('num_outputs', call.node.outputs.length);
  const each = Math.ceil(size / parts);
  const sizes = call.optional(1)
    ? call.list(1)
    : Array.from({ length: parts }, (_, index) => Math.min(each, size - index * each));
  if (sizes.reduce((total, own) => total + own, 0) !== size) call.refuse(`parts of ${size}`, sizes.join(' + '));
  let start = 0;
  return sizes.map((own) => {
    const at = start;
    start += own;
    const zeros = x.shape.map(() => 0);
    return part(
      x,
      moved(x.shape, axis, own),
      moved(zeros, axis, at),
      x.shape.map(() => 1),
    );
  });
}

function concat(call: Call): Array64[] {
  const { inputs } = call;
  const [first] = inputs as [Array64];
  const axis = axisOf(call.int('axis', 0), first.shape.length);
  const owners = inputs.flatMap((x) => Array.from({ length: x.shape[axis] as number }, (_, place) => ({ x, place })));
  if (inputs.some(({ shape }) => formatShape(moved(shape, axis, 0)) !== formatShape(moved(first.shape, axis, 0))))
    call.refuse('equal other axes', inputs.map(({ shape }) => formatShape(shape)).join(' and '));
  return [
    make(moved(first.shape, axis, owners.length), (index) => {
      const { x, place } = owners[index[axis] as number] as { x: Array64; place: number };
      return at(x, moved(index, axis, place));
    }),
  ];
}

/** As Python's slices: ends beyond an axis are cut, and a negative step goes backwards. */
function slice(call: Call): Array64[] {
  const x = call.input(0);
  const [starts, ends] = [call.list(1), call.list(2)];
  const axes = call.optional(3) ? call.list(3) : starts.map((_, axis) => axis);
  const steps = call.optional(4) ? call.list(4) : starts.map(() => 1);
  const shape = [...x.shape];
  const from = shape.map(() => 0);
  const by = shape.map(() => 1);
  axes.forEach((named, each) => {
    const axis = axisOf(named, shape.length);
    const size = x.shape[axis] as number;
    const step = steps[each] as number;
    const bound = (place: number): number => {
      const counted = place < 0 ? place + size : place;
      return step > 0 ? Math.min(Math.max(counted, 0), size) : Math.min(Math.max(counted, -1), size - 1);
    };
    const [start, end] = [bound(starts[each] as number), bound(ends[each] as number)];
    shape[axis] = Math.max(0, Math.ceil((end - start) / step));
    from[axis] = start;
    by[axis] = step;
  });
  return [part(x, shape, from, by)];
}

function expand(call: Call): Array64[] {
  const x = call.input(0);
  return [make(broadcast(x.shape, call.list(1)), (index) => at(x, index))];
}

function unsqueeze(call: Call): Array64[] {
  const { shape, data } = call.input(0);
  const named = call.list(1);
  const rank = shape.length + named.length;
  const axes = named.map((axis) => axisOf(axis, rank));
  const rest = [...shape];
  return [{ shape: Array.from({ length: rank }, (_, axis) => (axes.includes(axis) ? 1 : (rest.shift() as number))), data }];
}

function squeeze(call: Call): Array64[] {
  const { shape, data } = call.input(0);
  const axes = call.optional(1) ? call.list(1).map((axis) => axisOf(axis, shape.length)) : null;
  const goes = (size: number, axis: number): boolean => axes?.includes(axis) ?? size === 1;
  if (shape.some((size, axis) => size !== 1 && goes(size, axis))) call.refuse('axes of one', formatShape(shape));
  return [{ shape: shape.filter((size, axis) => !goes(size, axis)), data }];
}

function shapeOf(call: Call): Array64[] {
  const { shape } = call.input(0);
  return [vector(shape.slice(call.int('start', 0), call.int('end', shape.length)))];
}

export const places: Readonly<Record<string, Kernel>> = {
  Transpose: transpose,
  Reshape: reshape,
  Split: split,
  Concat: concat,
  Slice: slice,
  Expand: expand,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Shape: shapeOf,
};
