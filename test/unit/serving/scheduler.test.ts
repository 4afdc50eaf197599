import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { admit, type Candidate } from '../../../src/serving/scheduler.js';

const candidate = (ready: boolean, width = 1, tokens = 50): Candidate => ({ ready, width, tokens });

describe('admit', () => {
  it('passes over what is not ready and keeps the order of the rest', () => {
    const cold = candidate(false);
    const first = candidate(true);
    const second = candidate(true);
    expect(admit([cold, first, second], 8, 1000)).toEqual([first, second]);
  });

  it('does not let narrow requests overtake a wide one that waits for rows', () => {
    const wide = candidate(true, 4);
    expect(admit([wide, candidate(true)], 3, 1000)).toEqual([]);
    expect(admit([wide, candidate(true)], 5, 1000)).toHaveLength(2);
  });

  it('bounds the prompt tokens of a step, as padded, but always admits one', () => {
    expect(admit([candidate(true, 1, 5000), candidate(true)], 8, 512)).toHaveLength(1);
    expect(admit([candidate(true, 1, 100), candidate(true, 1, 200), candidate(true, 1, 10)], 8, 400)).toHaveLength(2);
  });

  it('never hands out more rows than there are, and always serves the first ready one that fits', () => {
    const arbitrary = fc.record({
      ready: fc.boolean(),
      width: fc.integer({ min: 1, max: 6 }),
      tokens: fc.integer({ min: 1, max: 300 }),
    });
    fc.assert(
      fc.property(fc.array(arbitrary), fc.nat(16), fc.integer({ min: 1, max: 1000 }), (waiting, rows, budget) => {
        const admitted = admit(waiting, rows, budget);
        expect(admitted.reduce((total, { width }) => total + width, 0)).toBeLessThanOrEqual(rows);
        const ready = waiting.filter((one) => one.ready);
        expect(admitted).toEqual(ready.slice(0, admitted.length));
        if (ready[0] && ready[0].width <= rows) expect(admitted.length).toBeGreaterThan(0);
      }),
    );
  });
});
