/** The optimiser against PyTorch's own AdamW and clipping, and the schedule against transformers' (fixtures/training/optimizer/make.py). */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { AdamW, learningRate, norm, type Schedule } from '../../../src/training/optimizer.js';

interface Steps {
  readonly clip: number;
  readonly decay: number;
  readonly betas: readonly [number, number];
  readonly epsilon: number;
  readonly decays: readonly number[];
  readonly start: readonly number[];
  readonly steps: readonly {
    readonly rate: number;
    readonly gradients: readonly number[];
    readonly norm: number;
    readonly values: readonly number[];
  }[];
}

const read = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../fixtures/training/optimizer/${name}`, import.meta.url), 'utf8'));
const fixture = read('steps.json') as Steps;
const schedules = read('schedules.json') as (Omit<Schedule, 'shape'> & { readonly rates: readonly number[] })[];

const options = { betas: fixture.betas, epsilon: fixture.epsilon };

/** The largest difference, relative to numbers above 1. */
function difference(actual: ArrayLike<number>, expected: readonly number[]): number {
  return Math.max(...expected.map((each, index) => Math.abs((actual[index] as number) - each) / Math.max(1, Math.abs(each))));
}

describe('AdamW', () => {
  it('moves as PyTorch moves: moments, bias correction, decay of matrices alone, clipped gradients', () => {
    const values = Float32Array.from(fixture.start);
    const optimizer = new AdamW(values.length, { ...options, weightDecay: fixture.decay }, Uint8Array.from(fixture.decays));
    const clipped: boolean[] = [];
    fixture.steps.forEach(({ rate, gradients, norm: expected, values: after }, index) => {
      const own = Float32Array.from(gradients);
      const length = norm(own);
      expect(Math.abs(length - expected)).toBeLessThanOrEqual(1e-6 * expected);
      clipped.push(length > fixture.clip);
      const before = values.slice();
      optimizer.update(values, own, length > fixture.clip ? fixture.clip / length : 1, index + 1, rate);
      // PyTorch divides by the norm plus 1e-6, and rounds to float32 after every operation.
      expect(difference(values, after), `step ${index + 1}`).toBeLessThan(1e-6);
      if (rate === 0) expect(values).toEqual(before);
      else expect(values).not.toEqual(before);
      expect(own).toEqual(Float32Array.from(gradients));
    });
    expect(new Set(clipped)).toEqual(new Set([true, false]));
  });

  it('decays nothing where the rate of decay is 0, or nothing is said to decay', () => {
    const start = Float32Array.of(1, -2);
    for (const [weightDecay, decays] of [
      [0, Uint8Array.of(1, 1)],
      [0.5, null],
      [0.5, Uint8Array.of(0, 0)],
    ] as const) {
      const values = start.slice();
      new AdamW(2, { ...options, weightDecay }, decays).update(values, new Float32Array(2), 1, 1, 0.1);
      expect(values).toEqual(start);
    }
    const values = start.slice();
    new AdamW(2, { ...options, weightDecay: 0.5 }, Uint8Array.of(1, 0)).update(values, new Float32Array(2), 1, 1, 0.1);
    expect(values).toEqual(Float32Array.of(0.95, -2));
  });

  it('goes on from moments that were kept as if it had never stopped', () => {
    const run = (stop: number | null): Float32Array => {
      const values = Float32Array.from(fixture.start);
      let optimizer = new AdamW(values.length, { ...options, weightDecay: 0 });
      fixture.steps.forEach(({ gradients, rate }, index) => {
        if (index === stop) {
          const { first, second } = optimizer;
          optimizer = new AdamW(values.length, { ...options, weightDecay: 0 });
          optimizer.first.set(first);
          optimizer.second.set(second);
        }
        optimizer.update(values, Float32Array.from(gradients), 1, index + 1, rate);
      });
      return values;
    };
    expect(run(4)).toEqual(run(null));
  });
});

describe('norm', () => {
  it('does not overflow or vanish where float32 would', () => {
    expect(norm(Float32Array.of(3e30, 4e30)) / 5e30).toBeCloseTo(1, 6);
    expect(norm(Float32Array.of(3e-30, 4e-30)) / 5e-30).toBeCloseTo(1, 6);
    expect(norm(new Float32Array(3))).toBe(0);
    expect(norm(Float32Array.of(1, Number.NaN))).toBeNaN();
    expect(norm(Float32Array.of(1, Number.POSITIVE_INFINITY))).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('learningRate', () => {
  it.each(schedules)('is that of transformers: $warmup of $steps steps of warm-up, floor $floor', ({ rates, ...schedule }) => {
    rates.forEach((rate, index) => {
      expect(learningRate({ ...schedule, shape: 'cosine' }, index + 1)).toBeCloseTo(rate, 12);
    });
  });

  it('is constant after the warm-up where that is asked for', () => {
    const schedule: Schedule = { peak: 0.4, warmup: 2, steps: 5, shape: 'constant', floor: 0.1 };
    expect([1, 2, 3, 5].map((step) => learningRate(schedule, step))).toEqual([0.2, 0.4, 0.4, 0.4]);
    expect(learningRate({ ...schedule, warmup: 0 }, 1)).toBe(0.4);
  });

  it('never reaches its peak in a run that is shorter than its warm-up', () => {
    const schedule: Schedule = { peak: 1, warmup: 100, steps: 10, shape: 'cosine', floor: 0.1 };
    expect([1, 5, 10].map((step) => learningRate(schedule, step))).toEqual([0.01, 0.05, 0.1]);
  });

  it('stays at its floor after the last step', () => {
    const schedule: Schedule = { peak: 2, warmup: 1, steps: 4, shape: 'cosine', floor: 0.25 };
    expect([4, 5, 400].map((step) => learningRate(schedule, step))).toEqual([0.5, 0.5, 0.5]);
  });
});
