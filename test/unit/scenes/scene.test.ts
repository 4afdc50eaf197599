/** Scenes hold together (nothing is hidden, every pair has a relation), stay what they were for ever, and cannot be guessed. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { covered, placesOf, relationsOf } from '../../../src/scenes/geometry.js';
import { drawScene } from '../../../src/scenes/scene.js';
import { BACKGROUNDS, COLOURS, KINDS, MAX_COUNT, SIZES } from '../../../src/scenes/world.js';
import { stream } from '../../../src/training/random.js';

const scenes = Array.from({ length: 1500 }, (_, seed) => drawScene(stream(seed, 'scene')));
const groups = scenes.flatMap((scene) => scene.groups);

function shares<T>(values: readonly T[]): Map<T, number> {
  const counts = new Map<T, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1 / values.length);
  return counts;
}

describe('drawScene', () => {
  it('draws what it always drew', () => {
    const digest = createHash('sha256')
      .update(JSON.stringify(scenes.slice(0, 50)))
      .digest('hex');
    expect(digest).toBe('03197af46c219e1518b9c2692a9a411778c2042071158ab559defc00e9d89375');
  });

  it('goes on with the stream it is given', () => {
    const random = stream(7, 'scenes');
    const [first, second] = [drawScene(random), drawScene(random)];
    expect(first).not.toEqual(second);
    expect(drawScene(stream(7, 'scenes'))).toEqual(first);
  });

  it('puts one to three groups of different kinds into the picture, whole', () => {
    for (const scene of scenes) {
      expect(scene.groups.length).toBeGreaterThanOrEqual(1);
      expect(scene.groups.length).toBeLessThanOrEqual(3);
      expect(new Set(scene.groups.map(({ kind }) => kind)).size).toBe(scene.groups.length);
      for (const { count, items, box } of scene.groups) {
        expect(items).toHaveLength(count);
        for (const item of [...items, box]) {
          expect(Math.min(item.left, item.top)).toBeGreaterThanOrEqual(0.04);
          expect(Math.max(item.left + item.width, item.top + item.height)).toBeLessThanOrEqual(0.96);
        }
      }
    }
  });

  it('tells groups in the order of their kinds', () => {
    for (const scene of scenes) {
      const order = scene.groups.map(({ kind }) => KINDS.indexOf(kind));
      expect(order).toEqual(order.toSorted((a, b) => a - b));
    }
  });

  it('keeps things of a group apart, and groups too, but for one that stands in front of another', () => {
    for (const scene of scenes) {
      for (const { items } of scene.groups)
        for (const item of items) expect(items.filter((other) => covered(item, other) > 0)).toEqual([item]);
      for (const group of scene.groups) {
        const hidden = scene.groups.filter((other) => other !== group && covered(group.box, other.box) > 0);
        expect(hidden.length).toBeLessThanOrEqual(1);
        for (const other of hidden) {
          const [relation] = relationsOf(group, other);
          expect(['front', 'behind']).toContain(relation);
          if (relation === 'behind') expect(covered(group.box, other.box)).toBeLessThanOrEqual(0.34);
        }
      }
    }
  });

  it('leaves no pair without a relation, and nothing alone without a place', () => {
    const open = scenes.filter(({ groups }) =>
      groups.length === 1
        ? groups.some((group) => placesOf(group).length === 0)
        : groups.some((one) => groups.some((other) => one !== other && relationsOf(one, other).length === 0)),
    );
    expect(open).toEqual([]);
  });

  it('uses every word of the world', () => {
    for (const [words, used, least] of [
      [KINDS, groups.map(({ kind }) => kind), 0.025],
      [COLOURS, groups.map(({ colour }) => colour), 0.1],
      [SIZES, groups.map(({ size }) => size), 0.1],
      [BACKGROUNDS, scenes.map(({ background }) => background), 0.1],
      [Array.from({ length: MAX_COUNT }, (_, index) => index + 1), groups.map(({ count }) => count), 0.07],
    ] as const) {
      const found = shares<string | number>(used);
      for (const word of words) expect(found.get(word) ?? 0, String(word)).toBeGreaterThan(least);
    }
  });

  it('shows every kind in front of every background, and none of them mostly', () => {
    for (const background of BACKGROUNDS) {
      const found = shares(
        scenes.filter((scene) => scene.background === background).flatMap((scene) => scene.groups.map(({ kind }) => kind)),
      );
      for (const kind of KINDS) expect(found.get(kind) ?? 0, `${kind}, ${background}`).toBeGreaterThan(0);
      expect(Math.max(...found.values())).toBeLessThan(0.35);
    }
  });
});
