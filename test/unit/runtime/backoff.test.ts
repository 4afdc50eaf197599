import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Backoff } from '../../../src/runtime/backoff.js';

describe('Backoff', () => {
  it('restarts at once, then doubles from 200 ms to 10 s', () => {
    const backoff = new Backoff();
    const delays = Array.from({ length: 9 }, () => backoff.next(0));
    expect(delays).toEqual([0, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
  });

  it('forgets earlier deaths after 30 s in good health, and not before', () => {
    const backoff = new Backoff();
    backoff.next(0);
    backoff.next(0);
    expect(backoff.next(29_999)).toBe(400);
    expect(backoff.next(30_000)).toBe(0);
    expect(backoff.next(0)).toBe(200);
  });

  it('never waits longer than the cap, nor less than before while deaths go on', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 999 }), { minLength: 1, maxLength: 2000 }),
        fc.integer({ min: 1, max: 50_000 }),
        (healthy, capMs) => {
          const backoff = new Backoff({ firstMs: 7, capMs, forgetAfterMs: 1000 });
          let last = 0;
          for (const healthyMs of healthy) {
            const delay = backoff.next(healthyMs);
            expect(delay).toBeLessThanOrEqual(capMs);
            expect(delay).toBeGreaterThanOrEqual(last);
            last = delay;
          }
        },
      ),
      { numRuns: 30 },
    );
  });
});
