/** What "auto" comes to. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { resolveSchedule, type Wishes } from '../../../src/finetuning/auto.js';

const AUTO: Wishes = { epochs: 'auto', batch: 'auto', rateMultiplier: 'auto', steps: null };

test.each([
  [1, { epochs: 25, batch: 1, steps: 25 }],
  [8, { epochs: 25, batch: 1, steps: 200 }],
  [64, { epochs: 25, batch: 8, steps: 200 }],
  [1000, { epochs: 5, batch: 16, steps: 315 }],
  [10_000, { epochs: 3, batch: 16, steps: 1875 }],
])('of %d rows', (rows, expected) => {
  expect(resolveSchedule(rows, AUTO)).toEqual({ ...expected, rateMultiplier: 1 });
});

test('what is said counts', () => {
  expect(resolveSchedule(100, { epochs: 2, batch: 10, rateMultiplier: 0.5, steps: null })).toEqual({
    epochs: 2,
    batch: 10,
    rateMultiplier: 0.5,
    steps: 20,
  });
  expect(resolveSchedule(100, { ...AUTO, batch: 10, steps: 25 })).toMatchObject({ epochs: 3, steps: 25 });
  expect(resolveSchedule(3, { ...AUTO, batch: 256 })).toMatchObject({ batch: 3 });
});

test('more updates than any job may have are refused', () => {
  expect(() => resolveSchedule(5000, { ...AUTO, epochs: 1000, batch: 1 })).toThrow('Expected at most 1000000 updates');
});

test('is always whole and never nothing', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100_000 }), (rows) => {
      const { epochs, batch, steps } = resolveSchedule(rows, AUTO);
      expect([epochs, batch, steps].every((value) => Number.isSafeInteger(value) && value > 0)).toBe(true);
      expect(steps).toBe(epochs * Math.ceil(rows / batch));
    }),
  );
});
