/** Which version of a split a key gets: in proportion, for good, and on every server alike. */
import { describe, expect, it } from 'vitest';
import { pick } from '../../../src/store/split.js';

const KEYS = Array.from({ length: 20_000 }, (_, index) => `user-${index}`);

function counts(shares: Parameters<typeof pick>[2], name = 'acme/alt'): Map<number, number> {
  const found = new Map<number, number>();
  for (const key of KEYS) {
    const version = pick(name, key, shares);
    found.set(version, (found.get(version) ?? 0) + 1);
  }
  return found;
}

const share = (version: number, percent: number) => ({ version, percent });

describe('pick', () => {
  it.each([
    [[share(3, 90), share(4, 10)]],
    [[share(1, 50), share(2, 50)]],
    [[share(1, 1), share(2, 98), share(3, 1)]],
    [[share(1, 25), share(2, 25), share(5, 25), share(9, 25)]],
  ])('divides keys as %j says', (shares) => {
    const found = counts(shares);
    // Chi-squared: 1 in a million of honest dividers is above this, for at most 3 degrees of freedom. The keys are always the same.
    const chi = shares.reduce((sum, { version, percent }) => {
      const expected = (KEYS.length * percent) / 100;
      return sum + ((found.get(version) ?? 0) - expected) ** 2 / expected;
    }, 0);
    expect(chi).toBeLessThan(30.7);
  });

  it('gives nothing to what has no share, and all to what has all', () => {
    expect(counts([share(1, 0), share(2, 100)])).toEqual(new Map([[2, KEYS.length]]));
    expect(counts([share(1, 100), share(2, 0)])).toEqual(new Map([[1, KEYS.length]]));
  });

  it('a share that grows keeps whom it had', () => {
    const few = new Set(KEYS.filter((key) => pick('a', key, [share(3, 90), share(4, 10)]) === 4));
    const many = new Set(KEYS.filter((key) => pick('a', key, [share(3, 60), share(4, 40)]) === 4));
    expect([...few].filter((key) => !many.has(key))).toEqual([]);
    expect(many.size).toBeGreaterThan(2 * few.size);
  });

  it('another name divides the same keys otherwise, and name and key are two things', () => {
    const halves = [share(1, 50), share(2, 50)];
    const both = KEYS.filter((key) => pick('a', key, halves) === pick('b', key, halves)).length;
    expect(both / KEYS.length).toBeGreaterThan(0.47);
    expect(both / KEYS.length).toBeLessThan(0.53);
    const moved = KEYS.filter((key) => pick('a', `b${key}`, halves) === pick('ab', key, halves)).length;
    expect(moved / KEYS.length).toBeLessThan(0.53);
  });

  it('is sha-256 over length, name and key: every server comes to the same', () => {
    // python3: int.from_bytes(hashlib.sha256(struct.pack('<I', 3) + b'alt' + key).digest()[:6], 'big') * 100 / 2 ** 48
    expect(EXPECTED.map(([key]) => placeOf(key))).toEqual(EXPECTED.map(([, place]) => place));
  });
});

/** The whole percent in which a key lies, found with splits of two. */
function placeOf(key: string): number {
  for (let percent = 1; percent < 100; percent++)
    if (pick('alt', key, [share(1, percent), share(2, 100 - percent)]) === 1) return percent - 1;
  return 99;
}

const EXPECTED: readonly (readonly [string, number])[] = [
  ['anna', 66],
  ['bert', 83],
  ['', 42],
  ['é', 12],
  ['user-17', 12],
];
