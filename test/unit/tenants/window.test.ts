import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ANSWER_MS, memoryWindows, type Rate, type Taking } from '../../../src/tenants/window.js';

const TEN: Rate = { points: 10, seconds: 60 };
const HUNDRED: Rate = { points: 100, seconds: 60 };

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('windows in memory', () => {
  test('give what there is, and say what is left and until when', async () => {
    const windows = memoryWindows();
    expect(await windows.level('a', TEN)).toEqual({ limit: 10, remaining: 10, resetMs: 0 });
    expect(await windows.take('a', 4, TEN)).toMatchObject({ isGranted: true, limit: 10, remaining: 6, resetMs: 60_000 });
    vi.advanceTimersByTime(1_000);
    expect(await windows.take('a', 6, TEN)).toMatchObject({ isGranted: true, remaining: 0, resetMs: 59_000 });
    expect(await windows.level('a', TEN)).toEqual({ limit: 10, remaining: 0, resetMs: 59_000 });
  });

  test('a refused taking takes nothing: a smaller one still finds room', async () => {
    const windows = memoryWindows();
    await windows.take('a', 7, TEN);
    expect(await windows.take('a', 4, TEN)).toMatchObject({ isGranted: false, remaining: 3, resetMs: 60_000 });
    expect(await windows.take('a', 3, TEN)).toMatchObject({ isGranted: true, remaining: 0 });
  });

  test('names do not share, and a window ends as a whole, from its first taking on', async () => {
    const ONE = { points: 1, seconds: 1 };
    const windows = memoryWindows();
    await windows.take('a', 1, ONE);
    expect((await windows.take('b', 1, ONE)).isGranted).toBe(true);
    vi.advanceTimersByTime(999);
    expect((await windows.take('a', 1, ONE)).isGranted).toBe(false);
    vi.advanceTimersByTime(1);
    expect((await windows.take('a', 1, ONE)).isGranted).toBe(true);
  });

  test('what is given back is there again, in its own window and in no other', async () => {
    const windows = memoryWindows();
    const first = await windows.take('a', 10, TEN);
    await first.giveBack(4);
    expect((await windows.level('a', TEN)).remaining).toBe(4);
    vi.advanceTimersByTime(60_000);
    await windows.take('a', 8, TEN);
    await first.giveBack(6);
    expect((await windows.level('a', TEN)).remaining).toBe(2);
  });

  test('nothing is given back in a window’s last moment, nor of what was refused', async () => {
    const windows = memoryWindows();
    const taking = await windows.take('a', 10, TEN);
    const refused = await windows.take('a', 5, TEN);
    await refused.giveBack(5);
    vi.advanceTimersByTime(60_000 - ANSWER_MS);
    await taking.giveBack(10);
    expect((await windows.level('a', TEN)).remaining).toBe(0);
  });

  test('many at once get no more than there is', async () => {
    const windows = memoryWindows();
    const takings = await Promise.all(Array.from({ length: 50 }, () => windows.take('a', 3, HUNDRED)));
    expect(takings.filter(({ isGranted }) => isGranted)).toHaveLength(33);
    expect((await windows.level('a', HUNDRED)).remaining).toBe(1);
  });

  test('whatever is taken, given back and waited for: never more than the limit, never less than nothing, and nothing leaks', async () => {
    const LIMIT = HUNDRED.points;
    const step = fc.oneof(
      fc.record({ take: fc.integer({ min: 1, max: LIMIT }) }),
      fc.record({ settle: fc.nat(), usedShare: fc.double({ min: 0, max: 1, noNaN: true }) }),
      fc.record({ wait: fc.integer({ min: 1, max: 40_000 }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const windows = memoryWindows();
        /** Those of the window that is open, with what they hold of it. */
        let open: { readonly taking: Taking; held: number; settled: boolean }[] = [];
        let endMs = 0;
        for (const action of steps) {
          if (performance.now() >= endMs) open = [];
          const held = () => open.reduce((total, entry) => total + entry.held, 0);
          if ('take' in action) {
            const fits = held() + action.take <= LIMIT;
            const taking = await windows.take('a', action.take, HUNDRED);
            expect(taking.isGranted).toBe(fits);
            if (fits && open.length === 0) endMs = performance.now() + 60_000;
            if (fits) open.push({ taking, held: action.take, settled: false });
          } else if ('settle' in action) {
            const entry = open.filter(({ settled }) => !settled)[action.settle % Math.max(1, open.length)];
            if (!entry) continue;
            const used = Math.floor(entry.held * action.usedShare);
            await entry.taking.giveBack(entry.held - used);
            if (performance.now() < endMs - ANSWER_MS) entry.held = used;
            entry.settled = true;
          } else {
            vi.advanceTimersByTime(action.wait);
            if (performance.now() >= endMs) open = [];
          }
          const { remaining } = await windows.level('a', HUNDRED);
          expect(remaining).toBe(LIMIT - held());
          expect(remaining).toBeGreaterThanOrEqual(0);
          expect(remaining).toBeLessThanOrEqual(LIMIT);
        }
      }),
      { numRuns: 300 },
    );
  });
});
