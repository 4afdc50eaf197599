import { describe, expect, it } from 'vitest';
import { describeBadRows, refuseBadRows } from '../../../../src/training/data/report.js';

const bad = Array.from({ length: 25 }, (_, index) => ({
  origin: `captions.jsonl:${index + 1}`,
  reason: `Expected ${index} but received none`,
}));

describe('describeBadRows', () => {
  it('names them, and how many there are of how many', () => {
    expect(describeBadRows(bad.slice(0, 2), 20, 6000)).toBe(
      [
        '2 of 6000 rows cannot be used:',
        '  captions.jsonl:1  Expected 0 but received none',
        '  captions.jsonl:2  Expected 1 but received none',
      ].join('\n'),
    );
    expect(describeBadRows(bad.slice(0, 1)).split('\n')[0]).toBe('1 row cannot be used:');
    expect(describeBadRows([])).toBe('0 rows cannot be used');
  });

  it('names the first twenty, or as many as are asked for, and counts the others', () => {
    const lines = describeBadRows(bad).split('\n');
    expect(lines).toHaveLength(22);
    expect(lines.at(-1)).toBe('  ... and 5 more');
    expect(describeBadRows(bad, 24).split('\n').slice(-2)).toEqual([
      '  captions.jsonl:24  Expected 23 but received none',
      '  ... and 1 more',
    ]);
    expect(describeBadRows(bad, 25)).not.toContain('more');
  });
});

describe('refuseBadRows', () => {
  it('names every one', () => {
    const refuse = (): void => refuseBadRows(bad);
    expect(refuse).toThrow(
      expect.objectContaining({
        code: 'invalid_data',
        faults: bad.map(({ origin, reason }) => `${origin} ${reason}`),
        message: expect.stringContaining('25 rows cannot be used: captions.jsonl:1 Expected 0'),
      }),
    );
  });

  it('lets a dataset without any pass', () => {
    expect(() => refuseBadRows([])).not.toThrow();
  });
});
