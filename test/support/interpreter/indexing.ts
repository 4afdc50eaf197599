/** Operators that take places from an input: reading there, writing there, and marking them. */
import { type Array64, at, axisOf, count, make, moved, offset, placeOf } from './array.js';
import type { Call, Kernel } from './call.js';

/** x [...outer, n, ...inner], indices [...] → [...outer, ...indices, ...inner]. */
function gather(call: Call): Array64[] {
  const [x, indices] = [call.input(0), call.input(1)];
  const axis = axisOf(call.int('axis', 0), x.shape.length);
  const rank = indices.shape.length;
  const shape = [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)];
  return [
    make(shape, (index) => {
      const place = placeOf(at(indices, index.slice(axis, axis + rank)), x.shape[axis] as number);
      return at(x, [...index.slice(0, axis), place, ...index.slice(axis + rank)]);
    }),
  ];
}

/** The place that a row of an index matrix names: indices [...which, axes]. */
function pointed(x: Array64, indices: Array64, which: readonly number[]): number[] {
  return Array.from({ length: indices.shape.at(-1) as number }, (_, axis) =>
    placeOf(at(indices, [...which, axis]), x.shape[axis] as number),
  );
}

function gatherND(call: Call): Array64[] {
  call.only('batch_dims', 0);
  const [x, indices] = [call.input(0), call.input(1)];
  const outer = indices.shape.slice(0, -1);
  const shape = [...outer, ...x.shape.slice(indices.shape.at(-1))];
  return [make(shape, (index) => at(x, [...pointed(x, indices, index.slice(0, outer.length)), ...index.slice(outer.length)]))];
}

/** 'none': the last update of a place stays. */
function writer(call: Call): (x: Array64, place: readonly number[], update: number) => void {
  const reduction = call.text('reduction', 'none');
  if (reduction !== 'none' && reduction !== 'add') call.refuse('reduction none or add', reduction);
  return ({ shape, data }, place, update) => {
    const flat = offset(shape, place);
    data[flat] = reduction === 'add' ? (data[flat] as number) + update : update;
  };
}

function scatterND(call: Call): Array64[] {
  const write = writer(call);
  const [x, indices, updates] = [call.input(0), call.input(1), call.input(2)];
  const outer = indices.shape.length - 1;
  const y = { shape: x.shape, data: x.data.slice() };
  make(updates.shape, (index) => {
    write(y, [...pointed(x, indices, index.slice(0, outer)), ...index.slice(outer)], at(updates, index));
    return 0;
  });
  return [y];
}

function scatterElements(call: Call): Array64[] {
  const write = writer(call);
  const [x, indices, updates] = [call.input(0), call.input(1), call.input(2)];
  const axis = axisOf(call.int('axis', 0), x.shape.length);
  const y = { shape: x.shape, data: x.data.slice() };
  make(indices.shape, (index) => {
    write(y, moved(index, axis, placeOf(at(indices, index), x.shape[axis] as number)), at(updates, index));
    return 0;
  });
  return [y];
}

/** A new axis that holds `on` at the named place; a place that there is not gives a line of `off`. */
function oneHot(call: Call): Array64[] {
  const indices = call.input(0);
  const depth = call.input(1);
  if (count(depth.shape) !== 1) call.refuse('one depth', String(count(depth.shape)));
  const size = depth.data[0] as number;
  const [off, on] = call.list(2) as [number, number];
  const axis = axisOf(call.int('axis', -1), indices.shape.length + 1);
  return [
    make([...indices.shape.slice(0, axis), size, ...indices.shape.slice(axis)], (index) => {
      const named = at(indices, [...index.slice(0, axis), ...index.slice(axis + 1)]);
      return (named < 0 ? named + size : named) === index[axis] ? on : off;
    }),
  ];
}

export const indexing: Readonly<Record<string, Kernel>> = {
  Gather: gather,
  GatherND: gatherND,
  ScatterND: scatterND,
  ScatterElements: scatterElements,
  OneHot: oneHot,
};
