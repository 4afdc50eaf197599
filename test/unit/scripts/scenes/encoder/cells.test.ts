/** The answers that the encoder learns are those of the picture that it sees: where a thing is drawn, and in a mirror. */
import { describe, expect, it } from 'vitest';
import { answersFor, mirrored, QUESTION_NAMES, QUESTIONS } from '../../../../../scripts/scenes/encoder/cells.js';
import { drawScene } from '../../../../../src/scenes/scene.js';
import { BACKGROUNDS, COLOURS, type Group, KINDS, type Scene, SIZES } from '../../../../../src/scenes/world.js';
import { stream } from '../../../../../src/training/random.js';

const GRID = 8;
const WHOLE = { left: 0, top: 0, edge: 1, tilt: 0 };

const box = { left: 0.25, top: 0.5, width: 0.25, height: 0.25 };
const fish: Group = { kind: 'fish', colour: 'red', size: 'medium', stand: 'ground', count: 1, box, items: [box] };
const scene: Scene = { background: 'sea', horizon: 0.5, groups: [fish] };

/** Columns and rows of the cells that have an answer. */
const cellsWith = (answers: Uint8Array): string[] =>
  [...answers].flatMap((answer, cell) => (answer > 0 ? [`${cell % GRID},${Math.floor(cell / GRID)}`] : []));

describe('answersFor', () => {
  it('tells of each cell the thing that covers it, and of every cell the background', () => {
    const answers = answersFor(scene, WHOLE, GRID);
    for (const name of ['kind', 'colour', 'size', 'count', 'left', 'right'] as const)
      expect(cellsWith(answers[name]), name).toEqual(['2,4', '3,4', '2,5', '3,5']);
    const cell = 4 * GRID + 2;
    expect([KINDS[(answers.kind[cell] ?? 0) - 1], COLOURS[(answers.colour[cell] ?? 0) - 1]]).toEqual(['fish', 'red']);
    expect([SIZES[(answers.size[cell] ?? 0) - 1], answers.count[cell]]).toEqual(['medium', 1]);
    // Twelve steps an edge, from 1: 0.25 begins the fourth, 0.5 the seventh, 0.75 the tenth.
    expect((['left', 'right', 'top', 'bottom'] as const).map((name) => answers[name][cell])).toEqual([4, 7, 7, 10]);
    expect(new Set(answers.background)).toEqual(new Set([BACKGROUNDS.indexOf('sea')]));
  });

  it('follows the view', () => {
    const moved = answersFor(scene, { ...WHOLE, left: 0.125 }, GRID);
    expect(cellsWith(moved.kind)).toEqual(['1,4', '2,4', '1,5', '2,5']);
    const closer = answersFor(scene, { left: 0.25, top: 0.5, edge: 0.5, tilt: 0 }, GRID);
    expect(cellsWith(closer.kind)).toHaveLength(16);
  });

  it('of two things in a cell it is the nearer one', () => {
    const near: Group = { ...fish, kind: 'cat', box: { ...box, top: 0.55 }, items: [{ ...box, top: 0.55 }] };
    const { kind } = answersFor({ ...scene, groups: [near, fish] }, WHOLE, GRID);
    expect(KINDS[(kind[5 * GRID + 2] ?? 0) - 1]).toBe('cat');
    expect(answersFor({ ...scene, groups: [fish, near] }, WHOLE, GRID).kind).toEqual(kind);
  });

  it('leaves no group of any scene out, and gives no answer that there is none of', () => {
    for (let seed = 0; seed < 300; seed++) {
      const drawn = drawScene(stream(seed, 'cells'));
      const answers = answersFor(drawn, WHOLE, GRID);
      const seen = new Set([...answers.kind].filter((kind) => kind > 0).map((kind) => KINDS[kind - 1]));
      expect(seen, `scene ${seed}`).toEqual(new Set(drawn.groups.map(({ kind }) => kind)));
      for (const name of QUESTION_NAMES) expect(Math.max(...answers[name])).toBeLessThan(QUESTIONS[name]);
    }
  });
});

describe('mirrored', () => {
  it('has every answer on the other side, and left where right was', () => {
    for (let seed = 0; seed < 100; seed++) {
      const drawn = drawScene(stream(seed, 'mirror'));
      const view = { left: 0.02, top: 0.01, edge: 0.97, tilt: 0 };
      const flipped = mirrored(drawn, view);
      const [here, there] = [answersFor(drawn, view, GRID), answersFor(flipped.scene, flipped.view, GRID)];
      const back = Uint8Array.from(there.kind, (_, cell) => there.kind[cell - (cell % GRID) + GRID - 1 - (cell % GRID)] ?? 0);
      expect(back).toEqual(here.kind);
      const again = mirrored(flipped.scene, flipped.view);
      expect(again.view.left).toBeCloseTo(view.left);
      expect(again.scene.groups[0]?.box.left).toBeCloseTo(drawn.groups[0]?.box.left ?? 0);
    }
  });
});
