/** The published scores of coco-caption's own example: 1,000 results ("fakecap") on COCO val2014, five references each. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { evaluateCoco } from '../../src/evaluation/coco.js';
import { hasShared, shared, withShared } from '../support/shared.js';

function read(name: string): unknown {
  return JSON.parse(readFileSync(shared(`caption-metrics/${name}`), 'utf8'));
}

describe.skipIf(!hasShared)(`fakecap1000${withShared}`, () => {
  it('scores what was published', () => {
    const scores = evaluateCoco(read('fakecap1000_references.json'), read('fakecap1000_results.json'));
    expect(scores.images).toBe(1000);
    expect(scores.bleu).toEqual({
      testLength: 9893,
      referenceLength: 9855,
      guess: [9893, 8893, 7893, 6893],
      correct: [5732, 2510, 1043, 423],
    });
    expect(scores.bleu1.toFixed(3)).toBe('0.579');
    expect(scores.rougeL.toFixed(3)).toBe('0.396');
    expect(scores.cider.toFixed(3)).toBe('0.600');
  });
});
