import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Crowd, hasRoom } from '../../../src/fairness/crowd.js';
import { ALONE, type Party } from '../../../src/fairness/turns.js';

const party = (tenant: string, weight = 1): Party => ({ tenant, weight });

function crowd(counts: Readonly<Record<string, number>>): Crowd {
  const all = new Crowd();
  for (const [tenant, count] of Object.entries(counts)) for (let index = 0; index < count; index++) all.add(party(tenant));
  return all;
}

describe('Crowd', () => {
  it('counts by tenant, and forgets those of whom there are none', () => {
    const all = crowd({ a: 2, b: 1 });
    expect([all.size, all.of('a'), all.of('b'), all.of('c')]).toEqual([3, 2, 1, 0]);
    all.remove(party('b'));
    expect(all.parties).toEqual([party('a')]);
    expect(() => all.remove(party('b'))).toThrow(TypeError);
    expect(all.size).toBe(2);
  });
});

describe('hasRoom', () => {
  it('is a plain limit where everybody is one tenant', () => {
    fc.assert(
      fc.property(fc.nat(20), fc.nat(20), fc.integer({ min: 1, max: 30 }), (here, there, limit) => {
        const queues = [crowd({ '': here }), crowd({ '': there })];
        expect(hasRoom(ALONE, limit, queues)).toBe(here + there < limit);
      }),
    );
  });

  it('refuses who has filled the queue, and finds others their share of it', () => {
    const flood = crowd({ flood: 10 });
    expect(hasRoom(party('flood'), 10, [flood])).toBe(false);
    const beside = new Crowd();
    let places = 0;
    for (; hasRoom(party('late'), 10, [flood, beside]); places++) beside.add(party('late'));
    expect(places).toBe(5);
    expect(hasRoom(party('flood'), 10, [flood, beside])).toBe(false);
  });

  it('goes by weight, and always finds one place', () => {
    const flood = crowd({ flood: 10 });
    const beside = new Crowd();
    const heavy = party('heavy', 4);
    for (; hasRoom(heavy, 10, [flood, beside]); ) beside.add(heavy);
    expect(beside.size).toBe(8);
    expect(hasRoom(party('light', 0.01), 10, [flood, beside])).toBe(true);
  });

  it('bounds the whole, whoever comes in whatever order: n tenants have at most 1 + 1/2 + ... + 1/n of the limit, and one each', () => {
    const arrivals = fc.array(fc.nat(7), { minLength: 1, maxLength: 400 });
    fc.assert(
      fc.property(arrivals, fc.integer({ min: 1, max: 40 }), (tenants, limit) => {
        const queue = new Crowd();
        for (const tenant of tenants) {
          const one = party(`t${tenant}`);
          if (hasRoom(one, limit, [queue])) queue.add(one);
        }
        const bound = Array.from({ length: queue.parties.length }, (_, index) => limit / (index + 1) + 1);
        expect(queue.size).toBeLessThanOrEqual(bound.reduce((sum, part) => sum + part, 0));
      }),
    );
  });
});
