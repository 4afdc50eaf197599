import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { broadcast, type Dim, formatShape, sameShape } from '../../../src/onnx/shape.js';

describe('broadcast', () => {
  it.each<[Dim[], Dim[], Dim[] | undefined]>([
    [[2, 3], [3], [2, 3]],
    [
      [2, 1],
      [1, 3],
      [2, 3],
    ],
    [[], [4], [4]],
    [[0], [1], [0]],
    [[2], [3], undefined],
    [
      ['rows', 4],
      ['rows', 1],
      ['rows', 4],
    ],
    [['rows', 4], [4], ['rows', 4]],
    [
      ['rows', 1],
      [1, 'tokens'],
      ['rows', 'tokens'],
    ],
    [['rows'], ['tokens'], undefined],
    [['rows'], [3], undefined],
    // rows? is rows or 1: with rows it can only give rows, alone it stays open, and it never meets another size.
    [
      ['rows', 4],
      ['rows?', 4],
      ['rows', 4],
    ],
    [
      ['rows?', 4],
      ['rows', 4],
      ['rows', 4],
    ],
    [['rows?'], ['rows?'], ['rows?']],
    [['rows?'], [1], ['rows?']],
    [['rows?'], [3], undefined],
    [['rows?'], ['tokens'], undefined],
  ])('%j and %j → %j', (a, b, expected) => {
    expect(broadcast(a, b)).toEqual(expected);
  });

  it('of sizes is NumPy’s: each axis is equal or 1, and the result is the larger', () => {
    const shape = fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 4 });
    fc.assert(
      fc.property(shape, shape, (a, b) => {
        const rank = Math.max(a.length, b.length);
        const pad = (dims: number[]): number[] => [...Array<number>(rank - dims.length).fill(1), ...dims];
        const pairs = pad(a).map((size, axis) => [size, pad(b)[axis] as number] as const);
        const fits = pairs.every(([x, y]) => x === y || x === 1 || y === 1);
        expect(broadcast(a, b)).toEqual(fits ? pairs.map(([x, y]) => Math.max(x, y)) : undefined);
        expect(broadcast(b, a)).toEqual(broadcast(a, b));
      }),
    );
  });
});

it('formats and compares shapes, names included', () => {
  expect(formatShape(['rows', 4])).toBe('[rows, 4]');
  expect(formatShape([])).toBe('[]');
  expect(sameShape(['rows', 4], ['rows', 4])).toBe(true);
  expect(sameShape(['rows', 4], ['rows?', 4])).toBe(false);
  expect(sameShape([4], [4, 1])).toBe(false);
});
