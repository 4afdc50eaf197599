import { describe, expect, it } from 'vitest';
import {
  formatCompact,
  formatCount,
  formatDate,
  formatDuration,
  formatNumber,
  formatPlural,
  formatShare,
  formatTick,
} from '../../../../src/training/report/format.js';

describe('numbers', () => {
  it.each([
    [14.013, '14.01'],
    [2.1, '2.100'],
    [3, '3'],
    [0.442, '0.4420'],
    [0.002, '0.002'],
    [0.031234, '0.03123'],
    [12_480.4, '12,480'],
    [2.5e-4, '2.5e-4'],
    [1e-10, '1e-10'],
    [-1.5, '-1.500'],
    [0, '0'],
    [3.4e38, '3.4e38'],
    [Number.NaN, 'not a number'],
    [Number.POSITIVE_INFINITY, 'infinite'],
    [Number.NEGATIVE_INFINITY, 'minus infinite'],
  ])('%d is %s', (value, expected) => {
    expect(formatNumber(value)).toBe(expected);
  });

  it.each([
    [842, '842'],
    [999.6, '1 k'],
    [241_792, '242 k'],
    [999_999, '1 M'],
    [134_515_008, '135 M'],
    [7e9, '7 B'],
    [0, '0'],
    [Number.NaN, 'not a number'],
  ])('%d is %s for short', (value, expected) => {
    expect(formatCompact(value)).toBe(expected);
  });

  it.each([
    [1, 100, '1%'],
    [241_792, 3_157_184, '7.66%'],
    [1, 1e9, '<0.01%'],
    [0, 5, '0%'],
    [1, 0, '-'],
    [0, 0, '-'],
  ])('%d of %d is %s', (part, whole, expected) => {
    expect(formatShare(part, whole)).toBe(expected);
  });

  it('counts', () => {
    expect(formatCount(1_234_567)).toBe('1,234,567');
    expect(formatPlural(1, 'step')).toBe('1 step');
    expect(formatPlural(0, 'step')).toBe('0 steps');
  });
});

describe('times', () => {
  it.each([
    [0, '0 s'],
    [0.44, '0.4 s'],
    [9.97, '10 s'],
    [59.6, '1 min'],
    [185, '3 min 5 s'],
    [3599.7, '1 h'],
    [4320, '1 h 12 min'],
    [86_399, '1 d'],
    [183_600, '2 d 3 h'],
    [Number.NaN, 'unknown'],
    [-1, 'unknown'],
  ])('%d seconds are %s', (seconds, expected) => {
    expect(formatDuration(seconds)).toBe(expected);
  });

  it('says dates in UTC, whatever the zone', () => {
    expect(formatDate(new Date('2026-03-12T23:59:59+09:00'))).toBe('2026-03-12 14:59 UTC');
    expect(formatDate(new Date(Number.NaN))).toBe('unknown time');
  });
});

describe('formatTick', () => {
  it.each([
    [0, 1, 5, '0'],
    [8, 0.2, 9, '8.0'],
    [0.05, 0.05, 0.3, '0.05'],
    [1.5e-3, 5e-4, 2e-3, '1.5e-3'],
    [1e-3, 5e-4, 2e-3, '1e-3'],
    [1.0001e-3, 1e-7, 2e-3, '1.0001e-3'],
    [6000, 2000, 6000, '6,000'],
    [25_000, 5000, 40_000, '25k'],
    [12_010, 5, 12_020, '12,010'],
    [0.5, null, 50, '0.5'],
    [1e-8, null, 50, '1e-8'],
    [2000, null, 20_000, '2k'],
    [1e20, 1e20, 5e20, '1e20'],
  ])('%d in steps of %d up to %d is %s', (value, spacing, largest, expected) => {
    expect(formatTick(value, spacing, largest)).toBe(expected);
  });
});
