/** Facts read from boxes by hand: what anybody would say of them, and what nobody could. */
import { describe, expect, it } from 'vitest';
import { covered, placesOf, relationsOf } from '../../../src/scenes/geometry.js';
import type { Box, Group } from '../../../src/scenes/world.js';

function group(box: readonly [left: number, top: number, width: number, height: number], more: Partial<Group> = {}): Group {
  const [left, top, width, height] = box;
  const whole: Box = { left, top, width, height };
  return { kind: 'cat', colour: 'red', size: 'small', stand: 'ground', count: 1, box: whole, items: [whole], ...more };
}

describe('relations', () => {
  it('knows left from right, and who is close', () => {
    const [a, b, c] = [group([0.1, 0.6, 0.2, 0.2]), group([0.4, 0.62, 0.2, 0.2]), group([0.75, 0.6, 0.2, 0.2])];
    expect(relationsOf(a, b)).toEqual(['left', 'beside']);
    expect(relationsOf(b, a)).toEqual(['right', 'beside']);
    expect(relationsOf(a, c)).toEqual(['left']);
  });

  it('knows above from below where something is in the air', () => {
    const [sky, ground] = [group([0.4, 0.1, 0.2, 0.2], { stand: 'sky' }), group([0.45, 0.6, 0.2, 0.2])];
    expect(relationsOf(sky, ground)).toEqual(['above']);
    expect(relationsOf(ground, sky)).toEqual(['below']);
  });

  it('calls nothing above that stands further away on the same ground', () => {
    expect(relationsOf(group([0.4, 0.4, 0.2, 0.2]), group([0.45, 0.7, 0.2, 0.2]))).toEqual([]);
  });

  it('says nothing of two whose boxes meet in the air', () => {
    const [a, b] = [group([0.2, 0.1, 0.3, 0.3], { stand: 'sky' }), group([0.4, 0.2, 0.3, 0.3], { stand: 'sky' })];
    expect(relationsOf(a, b)).toEqual([]);
  });

  it('takes the lower of two that overlap on the ground for the nearer', () => {
    const [near, far] = [group([0.3, 0.5, 0.3, 0.4]), group([0.5, 0.45, 0.4, 0.35])];
    expect(covered(far.box, near.box)).toBeCloseTo((0.1 * 0.3) / (0.4 * 0.35));
    expect(relationsOf(near, far)).toEqual(['front']);
    expect(relationsOf(far, near)).toEqual(['behind']);
    expect(relationsOf({ ...near, count: 2 }, far)).toEqual([]);
  });
});

describe('places', () => {
  it.each([
    [[0.05, 0.4, 0.2, 0.2], ['left']],
    [[0.4, 0.4, 0.2, 0.2], ['middle']],
    [
      [0.75, 0.05, 0.2, 0.2],
      ['right', 'top'],
    ],
    [[0.3, 0.75, 0.2, 0.2], ['bottom']],
  ] as const)('of %j are %j', (box, places) => {
    expect(placesOf(group(box))).toEqual(places);
  });
});
