import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { uniforms } from '../../../src/engine/random.js';
import { decay, Ranking, Sampler, type Sampling } from '../../../src/engine/sampler.js';
import { AppError } from '../../../src/errors.js';
import { cases, forward } from '../../fixtures/sampling/model.js';

const plain: Sampling = { temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1, seed: 11 };
const greedy: Sampling = { ...plain, temperature: 0 };
const spread = Float32Array.from({ length: 40 }, (_, id) => Math.sin(id * 1.7) * 2);

function draw(sampler: Sampler, count: number, logits: Float32Array = spread): number[] {
  return Array.from({ length: count }, () => sampler.next(logits));
}

describe('Sampler beside transformers', () => {
  it.each(cases.greedy.map((greedyCase, index) => [index, greedyCase] as const))('greedy case %i', (_, greedyCase) => {
    const { model, promptIds, repetitionPenalty, eosIds, maxTokens } = greedyCase;
    const sampler = new Sampler({ ...greedy, repetitionPenalty }, cases.vocab, promptIds, 0);
    const tokens: number[] = [];
    let finishReason = 'length';
    while (tokens.length < maxTokens) {
      const token = sampler.next(forward(model, [...promptIds, ...tokens]));
      if (eosIds.includes(token)) {
        finishReason = 'stop';
        break;
      }
      tokens.push(token);
    }
    expect({ tokenIds: tokens, finishReason }).toEqual({ tokenIds: greedyCase.tokenIds, finishReason: greedyCase.finishReason });
  });

  it.each(cases.warpers.map((warperCase, index) => [index, warperCase] as const))('warper case %i', (_, warperCase) => {
    const { promptIds, logits, tokenIds, probabilities, ...rest } = warperCase;
    const sampler = new Sampler({ ...rest, seed: 1 }, logits.length, promptIds, 0);
    const found = sampler.distribution(Float32Array.from(logits));
    const byId = new Map(found.tokenIds.map((id, at) => [id, found.probabilities[at]]));
    expect([...byId.keys()].sort((a, b) => a - b)).toEqual(tokenIds);
    for (const [at, id] of tokenIds.entries()) {
      expect(Math.abs((byId.get(id) ?? NaN) - (probabilities[at] ?? NaN))).toBeLessThan(1e-6);
    }
  });

  it('draws each token as often as its probability says', () => {
    for (const warperCase of cases.warpers.filter(({ repetitionPenalty, topK }) => repetitionPenalty === 1 && topK !== 1)) {
      const { promptIds, logits, tokenIds, probabilities, ...rest } = warperCase;
      const sampler = new Sampler({ ...rest, seed: 3 }, logits.length, promptIds, 0);
      const count = 5000;
      const seen = new Map<number, number>();
      for (const token of draw(sampler, count, Float32Array.from(logits))) seen.set(token, (seen.get(token) ?? 0) + 1);
      expect([...seen.keys()].filter((id) => !tokenIds.includes(id))).toEqual([]);
      // Pearson's chi-square; the rare tokens are one class, so that every class expects 5 or more.
      const frequent = tokenIds
        .map((id, at) => ({ id, expected: (probabilities[at] ?? NaN) * count }))
        .filter(({ expected }) => expected >= 5);
      const sumOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);
      const classes = frequent.map(({ id, expected }) => ({ expected, observed: seen.get(id) ?? 0 }));
      const rest5 = {
        expected: count - sumOf(classes.map(({ expected }) => expected)),
        observed: count - sumOf(classes.map(({ observed }) => observed)),
      };
      if (rest5.expected >= 5) classes.push(rest5);
      const chiSquare = sumOf(classes.map(({ expected, observed }) => (observed - expected) ** 2 / expected));
      const freedom = classes.length - 1;
      expect(chiSquare).toBeLessThanOrEqual(freedom + 5 * Math.sqrt(2 * freedom));
    }
  });
});

describe('Sampler', () => {
  it('repeats for the same seed and choice, and differs for another', () => {
    const tokens = (seed: number, choice: number): number[] => draw(new Sampler({ ...plain, seed }, 40, [], choice), 64);
    expect(tokens(11, 0)).toEqual(tokens(11, 0));
    const others = [tokens(11, 0), tokens(11, 1), tokens(11, 2), tokens(12, 0), tokens(-11, 0), tokens(11 + 2 ** 32, 0)];
    expect(new Set(others.map(String)).size).toBe(others.length);
  });

  it('draws a seed of its own where none is given', () => {
    const tokens = (): string => String(draw(new Sampler({ ...plain, seed: null }, 40, [], 0), 64));
    expect(tokens()).not.toBe(tokens());
  });

  it('is not reached by its neighbours in the batch', () => {
    const alone = draw(new Sampler({ ...plain, topP: 0.9 }, 40, [], 0), 32);
    const rows = [5, 11, 6].map((seed) => new Sampler({ ...plain, topP: 0.9, seed }, 40, [], 0));
    const together = Array.from({ length: 32 }, () => rows.map((row) => row.next(spread))[1]);
    expect(together).toEqual(alone);
  });

  it('reads one number of its stream a token, even where there is nothing to choose', () => {
    const certain = new Float32Array(40).fill(-Infinity, 1);
    const mixed = new Sampler(plain, 40, [], 0);
    mixed.next(certain);
    expect(draw(mixed, 16)).toEqual(draw(new Sampler(plain, 40, [], 0), 17).slice(1));
  });

  it('takes the lowest of equal tokens', () => {
    expect(new Sampler(greedy, 4, [], 0).next(Float32Array.of(1, 3, 3, 2))).toBe(1);
    const nucleus = new Sampler({ ...plain, topP: 0.5 }, 4, [], 0).distribution(new Float32Array(4));
    expect(new Set(nucleus.tokenIds)).toEqual(new Set([0, 1]));
  });

  it('penalises what it generated itself, once', () => {
    const sampler = new Sampler({ ...greedy, repetitionPenalty: 2 }, 3, [], 0);
    const logits = Float32Array.of(3, 2, 1.6);
    expect(draw(sampler, 4, logits)).toEqual([0, 1, 2, 0]);
  });

  it('survives a temperature that float32 cannot hold', () => {
    const { tokenIds, probabilities } = new Sampler({ ...plain, temperature: 1e-300 }, 3, [], 0).distribution(
      Float32Array.of(1, 3, 2),
    );
    expect([tokenIds, probabilities]).toEqual([[1], [1]]);
  });

  it('never draws a masked token', () => {
    const masked = Float32Array.of(-Infinity, 0, -Infinity, -30);
    expect(draw(new Sampler({ ...plain, topK: 3 }, 4, [], 0), 200, masked).every((id) => id % 2 === 1)).toBe(true);
  });

  it('keeps the smallest set that reaches p, and no token below the k-th', () => {
    const property = fc.property(
      fc.oneof(...[6, 400].map((most) => fc.array(fc.integer({ min: -most, max: most }), { minLength: 1, maxLength: 200 }))),
      fc.integer({ min: 0, max: 220 }),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      fc.double({ min: 0.2, max: 3, noNaN: true }),
      (raw, topK, topP, temperature) => {
        const logits = Float32Array.from(raw, (value) => value / 40);
        const copy = logits.slice();
        const found = new Sampler({ ...plain, topK, topP, temperature }, logits.length, [], 0).distribution(logits);
        expect(logits).toEqual(copy);
        // The same by sorting everything.
        const order = Array.from(logits, (score, id) => ({ score, id })).sort((a, b) => b.score - a.score || a.id - b.id);
        const floor = topK === 0 ? -Infinity : (order[Math.min(topK, order.length) - 1]?.score ?? NaN);
        const candidates = order.filter(({ score }) => score >= floor);
        const weights = candidates.map(({ score }) => Math.exp((score - (order[0]?.score ?? NaN)) / temperature));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        let size = 0;
        for (let above = 0; size === 0 || above / total < topP - 1e-9; size += 1) above += weights[size] ?? NaN;
        // A set that reaches p to the last bit may or may not take one more: rounding decides.
        expect([size, size + 1]).toContain(found.tokenIds.length);
        expect(new Set(found.tokenIds)).toEqual(new Set(candidates.slice(0, found.tokenIds.length).map(({ id }) => id)));
        expect(found.probabilities.reduce((sum, probability) => sum + probability, 0)).toBeCloseTo(1, 9);
      },
    );
    fc.assert(property, { numRuns: 500 });
  });

  it.each([
    ['NaN at token 2', Float32Array.of(1, 2, NaN, 0)],
    ['NaN at token 0', new Float32Array(4).fill(NaN)],
    ['Infinity at token 1', Float32Array.of(1, Infinity, 2, 0)],
    ['-Infinity at all 4 tokens', new Float32Array(4).fill(-Infinity)],
  ])('refuses logits with %s', (received, logits) => {
    for (const sampling of [greedy, plain, { ...plain, topK: 2, topP: 0.5, repetitionPenalty: 1.2 }]) {
      const sampler = new Sampler(sampling, 4, [0], 0);
      expect(() => sampler.next(logits)).toThrow(AppError);
      expect(() => sampler.next(logits)).toThrow(`but received ${received}`);
    }
  });

  it.each([
    { temperature: -1 },
    { temperature: NaN },
    { topK: -1 },
    { topK: 1.5 },
    { topP: 1.1 },
    { topP: NaN },
    { repetitionPenalty: 0 },
    { repetitionPenalty: Infinity },
    { seed: 0.5 },
  ])('refuses %o', (change) => {
    expect(() => new Sampler({ ...plain, ...change }, 4, [], 0)).toThrow(RangeError);
  });

  it('refuses a vocabulary that is not its own', () => {
    expect(() => new Sampler(greedy, 4, [], 0).next(new Float32Array(5))).toThrow('Expected 4 logits but received 5');
  });
});

describe('uniforms', () => {
  it('stays in [0, 1) and spreads evenly', () => {
    const next = uniforms(0, 0);
    const values = Array.from({ length: 10_000 }, next);
    expect(values.filter((value) => !(value >= 0 && value < 1))).toEqual([]);
    const bins = Array.from({ length: 10 }, () => 0);
    for (const value of values) bins[Math.floor(value * 10)] = (bins[Math.floor(value * 10)] ?? 0) + 1;
    expect(bins.filter((count) => Math.abs(count - 1000) > 150)).toEqual([]);
  });

  it('tells seeds and choices apart that a careless sum or a 32-bit cut would not', () => {
    const names = [
      [0, 0],
      [1, 0],
      [0, 1],
      [2 ** 32, 0],
      [-1, 0],
      [2 ** 53 - 1, 0],
    ] as const;
    expect(new Set(names.map(([seed, choice]) => uniforms(seed, choice)())).size).toBe(names.length);
  });

  it('refuses a choice that is not an unsigned integer', () => {
    expect(() => uniforms(0, -1)).toThrow(RangeError);
  });
});

describe('decay', () => {
  it('is the exponential of a number that is not positive', () => {
    const property = fc.property(fc.double({ min: -708, max: 0, noNaN: true }), (x) => {
      expect(Math.abs(decay(x) / Math.exp(x) - 1)).toBeLessThan(1e-13);
    });
    fc.assert(property, { numRuns: 5000 });
    expect([decay(0), decay(-1e-320), decay(-709), decay(-Infinity)]).toEqual([1, 1, 0, 0]);
  });
});

describe('Ranking', () => {
  it('gives the best pairs worst first, however they came in', () => {
    const pair = fc.record({ key: fc.integer({ min: -3, max: 3 }), id: fc.integer({ min: 0, max: 1000 }) });
    const pairs = fc.uniqueArray(pair, { minLength: 1, maxLength: 60, selector: ({ id }) => id });
    const property = fc.property(pairs, fc.integer({ min: 1, max: 60 }), (offered, limit) => {
      const ranking = new Ranking(60);
      for (const { key, id } of offered) ranking.offer(key, id, limit);
      const left: number[] = [];
      for (; ranking.size > 0; ranking.dropWorst()) left.unshift(ranking.ids[0] ?? NaN);
      const sorted = [...offered].sort((a, b) => b.key - a.key || a.id - b.id).map(({ id }) => id);
      expect(left).toEqual(sorted.slice(0, limit));
    });
    fc.assert(property, { numRuns: 300 });
  });
});
