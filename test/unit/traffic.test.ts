import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { OTHER, type Series, Traffic } from '../../src/traffic.js';

/** Of Debian's package prometheus. */
const PROMTOOL = 'promtool';
const MINUTE_MS = 60_000;

type Shown = ReadonlyMap<string, number>;

function shown(series: readonly Series<'requests'>[]): Shown {
  return new Map(series.map(({ name, counts }) => [name, counts.requests]));
}

/** A clock that the test turns, and traffic by it. */
function trafficOf(listed: number) {
  const clock = { nowMs: 0 };
  return { clock, traffic: new Traffic(['requests'], { listed, now: () => clock.nowMs }) };
}

/** What Prometheus' increase() makes of one reading after another: a smaller value is a counter that began again, a new series began at 0. */
class Increase {
  readonly #last = new Map<string, number>();
  total = 0;

  read(series: Shown): void {
    for (const [name, value] of series) {
      const before = this.#last.get(name) ?? 0;
      this.total += value >= before ? value - before : value;
      this.#last.set(name, value);
    }
  }
}

describe('Traffic', () => {
  test('gives every name a series while there is room', () => {
    const { traffic } = trafficOf(3);
    traffic.add('a', { requests: 1 });
    traffic.add('b', { requests: 2 });
    traffic.add('a', { requests: 4 });
    expect(traffic.series()).toEqual([
      { name: 'a', counts: { requests: 5 } },
      { name: 'b', counts: { requests: 2 } },
    ]);
  });

  test('puts the rest together, and whatever is called so itself', () => {
    const { traffic } = trafficOf(2);
    for (const name of ['a', 'a', 'b', 'b', OTHER, 'c']) traffic.add(name, { requests: 1 });
    expect([...shown(traffic.series())]).toEqual([
      ['a', 2],
      ['b', 2],
      [OTHER, 2],
    ]);
  });

  test('gives a place to a name that is more than twice as busy as its holder, and to none that is about as busy', () => {
    const { traffic } = trafficOf(1);
    for (let i = 0; i < 10; i++) traffic.add('first', { requests: 1 });
    for (let i = 0; i < 20; i++) traffic.add('second', { requests: 1 });
    expect([...shown(traffic.series()).keys()]).toEqual(['first', OTHER]);
    traffic.add('second', { requests: 1 });
    expect([...shown(traffic.series())]).toEqual([
      ['second', 1],
      [OTHER, 20],
    ]);
  });

  test('counts old traffic for less: a name that has become quiet makes room', () => {
    const { traffic, clock } = trafficOf(1);
    for (let i = 0; i < 100; i++) traffic.add('yesterday', { requests: 1 });
    clock.nowMs = 60 * MINUTE_MS;
    for (let i = 0; i < 4; i++) traffic.add('today', { requests: 1 });
    expect([...shown(traffic.series()).keys()]).toContain('today');
  });

  test('takes nothing that was read to other, and all that was not; a name that comes back goes on', () => {
    const { traffic, clock } = trafficOf(1);
    for (let i = 0; i < 5; i++) traffic.add('a', { requests: 1 });
    expect(shown(traffic.series()).get('a')).toBe(5);
    traffic.add('a', { requests: 1 });
    clock.nowMs = 90 * MINUTE_MS;
    traffic.add('b', { requests: 1 });
    expect([...shown(traffic.series())]).toEqual([
      ['b', 1],
      [OTHER, 1],
    ]);
    clock.nowMs = 180 * MINUTE_MS;
    traffic.add('a', { requests: 1 });
    expect([...shown(traffic.series())]).toEqual([
      ['a', 6],
      [OTHER, 1],
    ]);
  });

  test('increase() over all series is what happened, whoever comes and goes; no series goes down or is one too many', () => {
    const step = fc.oneof(
      {
        weight: 8,
        arbitrary: fc.record({ name: fc.nat(30).map((index) => `n${index}`), requests: fc.integer({ min: 1, max: 9 }) }),
      },
      { weight: 2, arbitrary: fc.record({ waitMs: fc.integer({ min: 1, max: 30 * MINUTE_MS }) }) },
      { weight: 2, arbitrary: fc.constant('read' as const) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
        const { traffic, clock } = trafficOf(4);
        const increase = new Increase();
        let happened = 0;
        let last: Shown = new Map();
        for (const action of [...steps, 'read' as const]) {
          if (action === 'read') {
            const now = shown(traffic.series());
            expect(now.size).toBeLessThanOrEqual(5);
            for (const [name, value] of now) expect(value).toBeGreaterThanOrEqual(last.get(name) ?? 0);
            increase.read(now);
            expect(increase.total).toBe(happened);
            last = now;
          } else if ('waitMs' in action) clock.nowMs += action.waitMs;
          else {
            traffic.add(action.name, { requests: action.requests });
            happened += action.requests;
          }
        }
      }),
    );
  });

  test('with tens of thousands of names there are 51 series, the busiest among them, and few new ones in an hour', () => {
    const clock = { nowMs: 0 };
    const traffic = new Traffic(['requests'], { now: () => clock.nowMs });
    const seen = new Set<string>();
    let other = 0;
    for (let i = 0; i < 60_000; i++) {
      clock.nowMs += MINUTE_MS / 1000;
      traffic.add(`once-${i}`, { requests: 1 });
      if (i % 10 === 0) traffic.add(`often-${i % 40}`, { requests: 1 });
      if (i % 250 !== 0) continue;
      const now = shown(traffic.series());
      expect(now.size).toBeLessThanOrEqual(51);
      expect(now.get(OTHER) ?? 0).toBeGreaterThanOrEqual(other);
      other = now.get(OTHER) ?? 0;
      for (const name of now.keys()) seen.add(name);
    }
    for (const name of ['often-0', 'often-10', 'often-20', 'often-30']) expect(shown(traffic.series()).has(name)).toBe(true);
    expect(seen.size).toBeLessThan(500);
  });
});

const hasPromtool = spawnSync(PROMTOOL, ['--version']).error === undefined;

describe.runIf(hasPromtool)('Prometheus itself (skipped where promtool is not installed)', () => {
  type Readings = Readonly<Record<string, readonly (number | undefined)[]>>;

  /** Whether an expression over `requests_total`, read once a minute, holds at the last minute. */
  function holds(readings: Readings, expr: string): boolean {
    const folder = mkdtempSync(path.join(tmpdir(), 'graft-traffic-'));
    const minutes = Math.max(...Object.values(readings).map(({ length }) => length)) - 1;
    const input_series = Object.entries(readings).map(([name, values]) => ({
      series: `requests_total{adapter="${name}"}`,
      // What is no longer there is stale, as a scrape without it says.
      values: values.map((value, at) => value ?? (values[at - 1] === undefined ? '_' : 'stale')).join(' '),
    }));
    const test = {
      interval: '1m',
      input_series,
      promql_expr_test: [{ expr, eval_time: `${minutes}m`, exp_samples: [{ value: 1 }] }],
    };
    writeFileSync(path.join(folder, 'test.yaml'), JSON.stringify({ evaluation_interval: '1m', tests: [test] }));
    const { status } = spawnSync(PROMTOOL, ['test', 'rules', 'test.yaml'], { cwd: folder });
    rmSync(folder, { recursive: true });
    return status === 0;
  }

  test('sees no traffic that there was not when a name with a long past makes room', () => {
    const { traffic, clock } = trafficOf(1);
    const readings = {
      past: [] as (number | undefined)[],
      present: [] as (number | undefined)[],
      [OTHER]: [] as (number | undefined)[],
    };
    for (let minute = 0; minute <= 120; minute++) {
      clock.nowMs = minute * MINUTE_MS;
      if (minute < 20) for (let i = 0; i < 500; i++) traffic.add('past', { requests: 1 });
      for (let i = 0; i < 60; i++) traffic.add('present', { requests: 1 });
      const now = shown(traffic.series());
      for (const [name, values] of Object.entries(readings)) values.push(now.get(name));
    }
    const left = readings.past.indexOf(undefined);
    expect(left).toBeGreaterThan(20);
    // The ten minutes about the change of places; 60 requests in each.
    const about = Object.fromEntries(Object.entries(readings).map(([name, values]) => [name, values.slice(0, left + 5)]));
    const all = 'sum(increase(requests_total[10m]))';
    const sane = `(${all} > bool 480) * (${all} < bool 660)`;
    expect(holds(about, sane)).toBe(true);
    const moved = about[OTHER]?.map((value, at) => (value ?? 0) + (at >= left ? (readings.past[left - 1] ?? 0) : 0)) ?? [];
    expect(holds({ ...about, [OTHER]: moved }, sane)).toBe(false);
  });
});
