import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Party, Turns } from '../../../src/fairness/turns.js';

const party = (tenant: string, weight = 1): Party => ({ tenant, weight });
const [a, b] = [party('a'), party('b')];

/** Serves whoever's turn it is among those that always wait, and gives what each was given. */
function serve(turns: Turns, parties: readonly Party[], costs: readonly number[]): Map<string, number> {
  const given = new Map(parties.map(({ tenant }) => [tenant, 0]));
  for (const cost of costs) {
    turns.advance(parties);
    const next = turns.first(parties) as Party;
    turns.charge(next, cost);
    given.set(next.tenant, (given.get(next.tenant) ?? 0) + cost);
  }
  return given;
}

describe('Turns', () => {
  it('is first come, first served within a tenant and among equals', () => {
    const turns = new Turns();
    const line = [1, 2, 3].map((number) => ({ ...a, number }));
    expect(turns.first(line)).toBe(line[0]);
    expect(turns.first([b, a])).toBe(b);
  });

  it('goes to whoever has had less', () => {
    const turns = new Turns();
    turns.charge(a, 10);
    expect(turns.first([a, b])).toBe(b);
    turns.charge(b, 11);
    expect(turns.first([a, b])).toBe(a);
  });

  it('is kept for whoever waits and cannot be served now', () => {
    const turns = new Turns();
    for (let times = 0; times < 100; times++) {
      turns.advance([a, b]);
      expect(turns.first([b])).toBe(b);
      turns.charge(b, 10);
    }
    expect([turns.tag('a'), turns.tag('b')]).toEqual([0, 1000]);
  });

  it('gives nothing for having been away: who comes back, or comes for the first time, begins with those that wait', () => {
    for (const early of [party('early'), party('never seen')]) {
      const turns = new Turns();
      if (early.tenant === 'early') turns.charge(early, 1);
      serve(
        turns,
        [a],
        Array.from({ length: 1000 }, () => 1),
      );
      expect(turns.first([early, a])).toBe(early);
      const given = serve(
        turns,
        [early, a],
        Array.from({ length: 100 }, () => 1),
      );
      expect(Math.abs((given.get('a') ?? 0) - (given.get(early.tenant) ?? 0))).toBeLessThanOrEqual(2);
    }
  });

  it('lets who stays and asks for little be behind by the credit, and whoever comes anew by nothing', () => {
    const turns = new Turns(100);
    turns.arrive('a');
    turns.arrive('b');
    serve(
      turns,
      [a],
      Array.from({ length: 1000 }, () => 1),
    );
    expect(turns.tag('b')).toBe(turns.tag('a') - 1 - 100);
    turns.arrive('c');
    expect(turns.tag('c')).toBe(turns.tag('a') - 1);
    turns.arrive('b');
    expect(turns.tag('b')).toBe(turns.tag('c'));
  });

  it('gives those that always wait service in proportion to their weights, whatever each turn costs', () => {
    const weights = fc.array(fc.integer({ min: 1, max: 16 }), { minLength: 2, maxLength: 8 });
    const costs = fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 400 });
    fc.assert(
      fc.property(weights, costs, (all, each) => {
        const parties = all.map((weight, index) => party(`t${index}`, weight));
        const given = serve(new Turns(), parties, each);
        const largest = Math.max(...each);
        for (const one of parties) {
          for (const other of parties) {
            const difference = (given.get(one.tenant) ?? 0) / one.weight - (given.get(other.tenant) ?? 0) / other.weight;
            // The bound of start-time fair queueing.
            expect(Math.abs(difference)).toBeLessThanOrEqual(largest / one.weight + largest / other.weight);
          }
        }
      }),
    );
  });

  it('serves whoever waits before the others have had a bounded amount, however they come and go', () => {
    const visits = fc.array(fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 6 }), {
      minLength: 50,
      maxLength: 200,
    });
    fc.assert(
      fc.property(visits, (others) => {
        const turns = new Turns();
        const patient = party('patient');
        let waited = 0;
        for (const indexes of others) {
          const waiting = [...indexes.map((index) => party(`t${index}`)), patient];
          turns.advance(waiting);
          const next = turns.first(waiting) as Party;
          turns.charge(next, 1);
          waited = next.tenant === 'patient' ? 0 : waited + 1;
          // Each of six others at most twice: once for its tag, once for the turn that it was just given.
          expect(waited).toBeLessThanOrEqual(12);
        }
      }),
    );
  });
});
