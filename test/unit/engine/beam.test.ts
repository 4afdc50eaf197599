import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BeamOptions, BeamSearch, type BeamStep } from '../../../src/engine/beam.js';
import { AppError } from '../../../src/errors.js';
import { cases, forward } from '../../fixtures/sampling/model.js';

const { vocab } = cases;

/** Runs a search as an engine would: whoever holds the sequences knows them from parents and tokens alone. */
function search(options: BeamOptions, model: (tokens: readonly number[]) => Float32Array): { beams: BeamSearch; steps: number } {
  const beams = new BeamSearch(options);
  let sequences: (readonly number[])[] = [options.promptIds];
  const follow = ({ parents, tokens }: BeamStep): void => {
    sequences = parents.map((parent, index) => [...(sequences[parent] as readonly number[]), tokens[index] as number]);
  };
  follow(beams.start(model(options.promptIds)));
  let steps = 1;
  for (; !beams.finished; steps += 1) {
    expect(sequences).toHaveLength(beams.width);
    follow(beams.step(sequences.map(model)));
  }
  expect(sequences).toHaveLength(0);
  return { beams, steps };
}

const options = {
  numBeams: 2,
  lengthPenalty: 1,
  earlyStopping: false,
  eosIds: [5],
  maxTokens: 8,
  vocabSize: vocab,
  repetitionPenalty: 1,
  promptIds: [1, 7],
  n: 1,
} satisfies BeamOptions;

describe('BeamSearch beside transformers', () => {
  it.each(cases.beams.map((beamCase, index) => [index, beamCase] as const))(
    'case %i',
    (_, { model, steps, results, ...rest }) => {
      const run = search({ ...rest, vocabSize: vocab }, (tokens) => forward(model, tokens));
      const found = run.beams.result();
      expect(found.map(({ tokenIds, finishReason }) => ({ tokenIds, finishReason }))).toEqual(
        results.map(({ tokenIds, finishReason }) => ({ tokenIds, finishReason })),
      );
      // A relative bound: scores reach from -1e-4 to -400 with the length penalty, and both sides add up float32.
      for (const [rank, { score }] of found.entries())
        expect(Math.abs(score / (results[rank]?.score ?? NaN) - 1)).toBeLessThan(1e-6);
      expect(run.steps).toBe(steps);
    },
  );

  it('sees every way to end', () => {
    const { beams } = cases;
    expect(beams.length).toBeGreaterThan(150);
    expect(new Set(beams.flatMap(({ results }) => results.map(({ finishReason }) => finishReason)))).toEqual(
      new Set(['stop', 'length']),
    );
    expect(beams.some(({ earlyStopping, steps, maxTokens }) => earlyStopping && steps < maxTokens)).toBe(true);
    expect(beams.some(({ earlyStopping, steps, maxTokens }) => !earlyStopping && steps < maxTokens)).toBe(true);
    expect(
      beams.some(({ eosIds, results }) => eosIds.length > 1 && results.some(({ finishReason }) => finishReason === 'stop')),
    ).toBe(true);
  });
});

describe('BeamSearch', () => {
  it('finds the best of all sequences where the beam is as wide as the tree', () => {
    const weight = fc.double({ min: -4, max: 4, noNaN: true });
    const last = 4;
    const property = fc.property(fc.array(weight, { minLength: 27, maxLength: 27 }), (weights) => {
      // Three tokens that matter, weighed by depth and last token; the rest only make the vocabulary large enough.
      const model = (tokens: readonly number[]): Float32Array => {
        const from = 9 * (tokens.length - 1) + 3 * ((tokens.at(-1) as number) % 3);
        return Float32Array.from({ length: 36 }, (_, id) => (id < 3 ? (weights[from + id] as number) : -60));
      };
      const logProb = (tokens: readonly number[], id: number): number => {
        const logits = model(tokens);
        return (logits[id] as number) - Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
      };
      let best = -Infinity;
      const walk = (tokens: readonly number[], score: number): void => {
        if (tokens.length === last) best = Math.max(best, score);
        else for (const id of [0, 1, 2]) walk([...tokens, id], score + logProb(tokens, id));
      };
      walk([0], 0);
      const wide = { ...options, numBeams: 9, eosIds: [], maxTokens: last - 1, vocabSize: 36, lengthPenalty: 0, promptIds: [0] };
      const [first] = search(wide, model).beams.result();
      expect(Math.abs((first?.score ?? NaN) - best)).toBeLessThan(1e-4);
    });
    fc.assert(property, { numRuns: 50 });
  });

  it('prefers the earlier beam and then the lower token among equals', () => {
    const beams = new BeamSearch({ ...options, numBeams: 3, eosIds: [] });
    expect(beams.start(new Float32Array(vocab))).toEqual({ parents: [0, 0, 0], tokens: [0, 1, 2] });
    const equal = [0, 1, 2].map(() => new Float32Array(vocab));
    expect(beams.step(equal)).toEqual({ parents: [0, 0, 0], tokens: [0, 1, 2] });
  });

  it('keeps what finished first ahead of an equal', () => {
    const { beams } = search({ ...options, eosIds: [0], n: 2 }, () => new Float32Array(vocab));
    expect(beams.result().map(({ tokenIds }) => tokenIds)).toEqual([[], [1]]);
    expect(new Set(beams.result().map(({ score }) => score)).size).toBe(1);
  });

  it('goes on with numBeams beams where every best token ends a sequence', () => {
    const beams = new BeamSearch({ ...options, lengthPenalty: 3 });
    const logits = new Float32Array(vocab).fill(-1);
    logits[5] = 20;
    logits[3] = 1;
    expect(beams.start(logits)).toEqual({ parents: [0, 0], tokens: [3, 0] });
    expect(beams.finished).toBe(false);
  });

  it('ends in its first step where only one token may be generated', () => {
    const beams = new BeamSearch({ ...options, maxTokens: 1, n: 2 });
    const logits = forward(0, options.promptIds);
    expect(beams.start(logits)).toEqual({ parents: [], tokens: [] });
    expect(beams.finished).toBe(true);
    expect(beams.result()).toHaveLength(2);
  });

  it('leaves the logits as they were', () => {
    const logits = forward(0, options.promptIds);
    const copy = logits.slice();
    new BeamSearch({ ...options, repetitionPenalty: 1.5 }).start(logits);
    expect(logits).toEqual(copy);
  });

  it.each([
    ['NaN at token 3', (logits: Float32Array) => logits.fill(NaN, 3, 4)],
    ['Infinity at token 6', (logits: Float32Array) => logits.fill(Infinity, 6, 7)],
    [`-Infinity at all ${vocab} tokens`, (logits: Float32Array) => logits.fill(-Infinity)],
  ])('refuses logits with %s', (received, spoil) => {
    const beams = new BeamSearch(options);
    beams.start(new Float32Array(vocab));
    const rows = [new Float32Array(vocab), spoil(new Float32Array(vocab))];
    expect(() => beams.step(rows)).toThrow(AppError);
    expect(() => beams.step(rows)).toThrow(`but received ${received}`);
  });

  it.each([
    [{ numBeams: 0 }, 'numBeams'],
    [{ n: 3 }, 'n to be an integer from 1 to numBeams (2)'],
    [{ maxTokens: 0 }, 'maxTokens'],
    [{ lengthPenalty: NaN }, 'lengthPenalty'],
    [{ vocabSize: 3 }, 'vocabSize to be an integer of at least 4'],
    [{ repetitionPenalty: 0 }, 'repetitionPenalty'],
  ])('refuses %o', (change, message) => {
    expect(() => new BeamSearch({ ...options, ...change })).toThrow(RangeError);
    expect(() => new BeamSearch({ ...options, ...change })).toThrow(message);
  });

  it('refuses calls out of order and rows that are not its own', () => {
    const beams = new BeamSearch({ ...options, maxTokens: 2 });
    const logits = new Float32Array(vocab);
    expect(() => beams.step([logits])).toThrow(TypeError);
    expect(() => beams.result()).toThrow(TypeError);
    expect(() => beams.start(new Float32Array(7))).toThrow(`Expected ${vocab} logits but received 7`);
    beams.start(logits);
    expect(() => beams.start(logits)).toThrow(TypeError);
    expect(() => beams.step([logits])).toThrow('Expected logits of 2 beams but received 1');
    beams.step([logits, logits]);
    expect(() => beams.step([])).toThrow(TypeError);
  });
});
