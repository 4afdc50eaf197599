import { expect, test } from 'vitest';
import { durationOf } from '../../../src/http/quotas.js';

test.each([
  [0, '0s'],
  [0.2, '1ms'],
  [120, '120ms'],
  [1000, '1s'],
  [1500, '1.5s'],
  [59_999.5, '1m0s'],
  [60_000, '1m0s'],
  [72_250, '1m12.25s'],
])('%d ms are written as %s, as OpenAI does', (ms, text) => {
  expect(durationOf(ms)).toBe(text);
});
