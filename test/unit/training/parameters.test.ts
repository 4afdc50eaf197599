/** How parameters begin and where they lie. The bounds are the reference's: uniform within 1/sqrt(in) for A and the projector, zeros, ones. */
import { describe, expect, it } from 'vitest';
import { resolvePlan } from '../../../src/adapter/plan.js';
import { adapterShapes } from '../../../src/training/adapt.js';
import { type ParameterShape, Parameters } from '../../../src/training/parameters.js';
import { key, stream } from '../../../src/training/random.js';
import { tinyTarget } from '../../fixtures/adapter/draft.js';

const noRead = (): Promise<Float32Array> => Promise.reject(new TypeError('Expected nothing to be read'));
const uniform = (name: string, shape: readonly number[], bound = 0.5): ParameterShape => ({
  name,
  shape,
  start: { kind: 'uniform', bound },
});

async function started(shapes: readonly ParameterShape[], seed = 0): Promise<Parameters> {
  const parameters = new Parameters(shapes);
  await parameters.start(seed, noRead);
  return parameters;
}

const mean = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;

describe('Parameters', () => {
  it('lie side by side, in order, each a view of one array', () => {
    const parameters = new Parameters([uniform('a', [2, 3]), uniform('b', []), uniform('c', [4])]);
    expect(parameters.values).toHaveLength(11);
    parameters.values.set(Array.from({ length: 11 }, (_, index) => index));
    expect([...parameters.view('a')]).toEqual([0, 1, 2, 3, 4, 5]);
    expect([...parameters.view('b')]).toEqual([6]);
    expect([...parameters.view('c')]).toEqual([7, 8, 9, 10]);
    parameters.view('b')[0] = -1;
    expect(parameters.values[6]).toBe(-1);
    const others = new Float32Array(11).fill(5);
    parameters.view('c', others).fill(1);
    expect([...others]).toEqual([5, 5, 5, 5, 5, 5, 5, 1, 1, 1, 1]);
    expect([0, 5, 6, 7, 10].map((index) => parameters.nameAt(index))).toEqual(['a', 'a', 'b', 'c', 'c']);
    expect(() => parameters.nameAt(11)).toThrow(RangeError);
    expect(() => parameters.nameAt(-1)).toThrow(RangeError);
    expect([parameters.has('a'), parameters.has('d')]).toEqual([true, false]);
    expect(() => parameters.view('d')).toThrow(new RangeError('Expected a parameter but received d'));
  });

  it('begin as they always have with this seed, whatever else is trained', async () => {
    const alone = await started([uniform('b', [40])]);
    const among = await started([uniform('a', [7]), uniform('b', [40]), uniform('c', [3])]);
    expect(among.view('b')).toEqual(alone.view('b'));
    expect((await started([uniform('b', [40])])).values).toEqual(alone.values);
    expect((await started([uniform('b', [40])], 1)).values).not.toEqual(alone.values);
    expect((await started([uniform('B', [40])])).values).not.toEqual(alone.values);
    expect([...alone.values].slice(0, 3)).toEqual([-0.3130336105823517, 0.13360941410064697, -0.09101247787475586]);
  });

  it('are spread evenly within their bound', async () => {
    const { values } = await started([uniform('a', [100, 200], 0.125)]);
    expect(values.every((value) => Math.abs(value) <= 0.125)).toBe(true);
    // Five standard deviations of the mean of 20,000 numbers.
    expect(Math.abs(mean(values))).toBeLessThan((5 * 0.25) / Math.sqrt(12 * 20_000));
    for (let tenth = 0; tenth < 10; tenth++) {
      const [low, high] = [-0.125 + tenth * 0.025, -0.1 + tenth * 0.025];
      const count = values.filter((value) => value >= low && value < high).length;
      expect(Math.abs(count - 2000)).toBeLessThan(5 * Math.sqrt(2000 * 0.9));
    }
  });

  it('are normal where that is asked for', async () => {
    const { values } = await started([{ name: 'a', shape: [20_000], start: { kind: 'normal', deviation: 0.02 } }]);
    expect(values.every(Number.isFinite)).toBe(true);
    expect(Math.abs(mean(values))).toBeLessThan((5 * 0.02) / Math.sqrt(20_000));
    const within = (deviations: number) => values.filter((value) => Math.abs(value) < deviations * 0.02).length / 20_000;
    for (const [deviations, share] of [
      [0.5, 0.3829],
      [1, 0.6827],
      [2, 0.9545],
      [3, 0.9973],
    ] as const)
      expect(Math.abs(within(deviations) - share)).toBeLessThan(5 * Math.sqrt((share * (1 - share)) / 20_000));
  });

  it('take constants, and the weights of a checkpoint by their own names', async () => {
    const parameters = new Parameters([
      { name: 'one', shape: [3], start: { kind: 'constant', value: 1 } },
      { name: 'mine', shape: [2, 2], start: { kind: 'weight', name: 'theirs' } },
    ]);
    const asked: unknown[] = [];
    await parameters.start(0, (name, shape) => {
      asked.push([name, shape]);
      return Promise.resolve(Float32Array.of(1, 2, 3, 4));
    });
    expect([...parameters.values]).toEqual([1, 1, 1, 1, 2, 3, 4]);
    expect(asked).toEqual([['theirs', [2, 2]]]);
  });
});

describe('parameters of adapters', () => {
  it('LoRA: A within 1/sqrt(in) like the reference, B zero, so that a new adapter changes nothing', async () => {
    const target = await tinyTarget();
    const parameters = await started(adapterShapes(resolvePlan({ method: 'lora', rank: 3 }, target)));
    expect(parameters.shapes).toHaveLength(target.modules.length * 2 * 2);
    for (const { name, shape } of parameters.shapes) {
      const values = parameters.view(name);
      const largest = Math.max(...values.map(Math.abs));
      const bound = name.endsWith('lora_A') ? 1 / Math.sqrt(shape[1] as number) : 0;
      expect(largest).toBeLessThanOrEqual(bound);
      expect(largest).toBeGreaterThanOrEqual(0.7 * bound);
    }
    const [first] = target.modules;
    expect(parameters.view(`image/${first?.name}.lora_A`)).not.toEqual(parameters.view(`text/${first?.name}.lora_A`));
  });

  it.each([
    ['bitfit', 0],
    ['ia3', 1],
  ] as const)('%s: all %d', async (method, value) => {
    const { values } = await started(adapterShapes(resolvePlan({ method }, await tinyTarget())));
    expect(values.length).toBeGreaterThan(0);
    expect(values.every((each) => each === value)).toBe(true);
  });
});

describe('random numbers by name', () => {
  it('tell apart names that would read alike when written one after the other', () => {
    const of = (...names: (string | number)[]): number => stream(1, ...names)();
    const all = [
      of('a', 'b'),
      of('ab'),
      of('a', 'b', ''),
      of('a,b'),
      of('a', 1),
      of('a', '1'),
      of('a'),
      stream(11, 'a')(),
      of(1, 'a'),
    ];
    expect(new Set(all).size).toBe(all.length);
    expect(new Set([key(1, 'a', 1), key(1, 'a', '1'), key(11, 'a'), key(1, 1, 'a')]).size).toBe(4);
  });

  it('are in [0, 1), of full precision, and the same for ever', () => {
    const next = stream(0, 'x');
    const values = Array.from({ length: 10_000 }, next);
    expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
    expect(new Set(values).size).toBe(values.length);
    expect(values.some((value) => value * 2 ** 40 !== Math.floor(value * 2 ** 40))).toBe(true);
    expect(values.slice(0, 2)).toEqual([0.47293999522038455, 0.23718483898480003]);
    expect(key(0, 'x')).toBe(3_816_142_773);
  });
});
