import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { admit } from '../../../src/serving/scheduler.js';
import { type Candidate, PATIENCE_TOKENS, Shares } from '../../../src/serving/shares.js';

const ROWS = 16;

const candidate = (ready: boolean, width = 1, tokens = 50, tenant = '', weight = 1): Candidate => ({
  tenant,
  weight,
  ready,
  width,
  tokens,
  wantsImage: false,
});
const of = (tenant: string, count: number, width = 1): Candidate[] =>
  Array.from({ length: count }, () => candidate(true, width, 50, tenant));

/** One turn of an engine in which these run and wait. */
function turn(
  waiting: readonly Candidate[],
  freeRows: number,
  tokenBudget: number,
  running: readonly Candidate[] = [],
  shares = new Shares(ROWS),
) {
  shares.look(0, running, waiting);
  return admit(waiting, freeRows, tokenBudget, shares);
}

/** The order before there were tenants. */
function inOrder(waiting: readonly Candidate[], freeRows: number, tokenBudget: number): Candidate[] {
  const admitted: Candidate[] = [];
  let rows = freeRows;
  let longest = 0;
  for (const one of waiting) {
    if (!one.ready) continue;
    const padded = Math.max(longest, one.tokens) * (admitted.length + 1);
    if (one.width > rows || (admitted.length > 0 && padded > tokenBudget)) break;
    admitted.push(one);
    rows -= one.width;
    longest = Math.max(longest, one.tokens);
  }
  return admitted;
}

const arbitrary = fc
  .record({ ready: fc.boolean(), width: fc.integer({ min: 1, max: 6 }), tokens: fc.integer({ min: 1, max: 300 }) })
  .map(({ ready, width, tokens }) => candidate(ready, width, tokens));

describe('admit, for one tenant', () => {
  it('passes over what is not ready and keeps the order of the rest', () => {
    const cold = candidate(false);
    const first = candidate(true);
    const second = candidate(true);
    expect(turn([cold, first, second], 8, 1000)).toEqual([first, second]);
  });

  it('does not let narrow requests overtake a wide one that waits for rows', () => {
    const wide = candidate(true, 4);
    expect(turn([wide, candidate(true)], 3, 1000)).toEqual([]);
    expect(turn([wide, candidate(true)], 5, 1000)).toHaveLength(2);
  });

  it('bounds the prompt tokens of a step, as padded, but always admits one', () => {
    expect(turn([candidate(true, 1, 5000), candidate(true)], 8, 512)).toHaveLength(1);
    expect(turn([candidate(true, 1, 100), candidate(true, 1, 200), candidate(true, 1, 10)], 8, 400)).toHaveLength(2);
  });

  it('is first come, first served exactly as where nobody is told apart, whatever runs and however often it is asked', () => {
    const turns = fc.array(
      fc.record({ waiting: fc.array(arbitrary), free: fc.nat(ROWS), budget: fc.integer({ min: 1, max: 1000 }) }),
      {
        minLength: 1,
        maxLength: 5,
      },
    );
    fc.assert(
      fc.property(turns, fc.array(arbitrary, { maxLength: 5 }), (asked, running) => {
        const shares = new Shares(ROWS);
        for (const { waiting, free, budget } of asked) {
          expect(turn(waiting, free, budget, running, shares)).toEqual(inOrder(waiting, free, budget));
          expect(shares.resting(running).size).toBe(0);
        }
      }),
    );
  });
});

describe('admit, for several tenants', () => {
  it('never hands out more rows than there are, keeps each tenant’s order, and admits whenever one that fits waits and nothing runs', () => {
    const anybody = fc.tuple(arbitrary, fc.constantFrom('a', 'b', 'c')).map(([one, tenant]) => ({ ...one, tenant }));
    fc.assert(
      fc.property(fc.array(anybody), fc.nat(ROWS), fc.integer({ min: 1, max: 1000 }), (waiting, rows, budget) => {
        const admitted = turn(waiting, rows, budget);
        expect(admitted.reduce((total, { width }) => total + width, 0)).toBeLessThanOrEqual(rows);
        for (const tenant of ['a', 'b', 'c']) {
          const own = (all: readonly Candidate[]) => all.filter((one) => one.tenant === tenant && one.ready);
          expect(own(admitted)).toEqual(own(waiting).slice(0, own(admitted).length));
        }
        const heads = ['a', 'b', 'c'].flatMap((tenant) => waiting.find((one) => one.ready && one.tenant === tenant) ?? []);
        if (heads.some(({ width }) => width <= rows)) expect(admitted.length).toBeGreaterThan(0);
      }),
    );
  });

  it('takes one of each in turn, however many of one came before, as far as rows go that are not kept', () => {
    const late = of('late', 20);
    const flood = of('flood', 40);
    expect(turn([...flood, ...late], 6, 1000)).toEqual([flood[0], late[0], flood[1], late[1], flood[2]]);
  });

  it('lets a cold request of one hold up neither its own nor others, and keeps its place', () => {
    const shares = new Shares(ROWS);
    const cold = candidate(false, 1, 50, 'late');
    const warm = of('late', 1);
    const flood = of('flood', 4);
    expect(turn([...flood, cold, ...warm], 2, 1000, [], shares)).toEqual([flood[0], warm[0]]);
    const ready = { ...cold, ready: true };
    expect(turn([...flood.slice(1), ready, ...of('late', 2)], 2, 1000, [], shares)).toContain(ready);
  });

  it('lets others pass a wide request that waits for rows, but only for so long', () => {
    const shares = new Shares(ROWS);
    const wide = candidate(true, ROWS, 50, 'wide');
    const running: Candidate[] = of('many', 4);
    let passed = 0;
    for (let asked = 0; asked < 1000; asked++) {
      // Each of the others is done at once and comes again: rows enough for one, never for the wide one.
      const admitted = turn([wide, candidate(true, 1, 50, 'many')], ROWS - running.length, 1000, running, shares);
      if (admitted.length === 0) break;
      passed++;
    }
    expect(passed).toBeGreaterThan(0);
    expect(passed).toBeLessThanOrEqual(PATIENCE_TOKENS / 50 + 1);
    // What runs ends, nobody has begun since, and it fits.
    expect(turn([wide, candidate(true, 1, 50, 'many')], ROWS, 1000, [], shares)[0]).toBe(wide);
  });

  it('keeps the last row for a tenant that has none, where there is more than one', () => {
    const flood = of('flood', 2);
    const shares = new Shares(ROWS);
    expect(turn(flood, 1, 1000, of('flood', ROWS - 1), shares)).toHaveLength(1);
    const late = of('late', 1);
    expect(turn([...flood, ...late], 1, 1000, of('flood', ROWS - 1), shares)).toEqual(late);
    expect(turn(flood, 1, 1000, of('flood', ROWS - 1), shares)).toEqual([]);
  });
});
