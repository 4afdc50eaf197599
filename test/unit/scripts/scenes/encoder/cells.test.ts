/** The answers that the encoder learns are those of the picture that it sees: where a thing is drawn, and in a mirror. */
import { describe, expect, it } from 'vitest';
import { answersFor, mirrored, QUESTION_NAMES, QUESTIONS } from '../../../../../scripts/scenes/encoder/cells.js';
import { around } from '../../../../../src/scenes/geometry.js';
import { drawScene } from '../../../../../src/scenes/scene.js';
import {
  BACKGROUNDS,
  COLOURS,
  type Group,
  KINDS,
  RELATIONS,
  type Relation,
  type Scene,
  SIZES,
} from '../../../../../src/scenes/world.js';
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

  it('tells of a thing which one of its group it is, from left to right and of two in a column the upper one first', () => {
    const rows = [0.25, 0.5].flatMap((top) => [0.75, 0.5].map((left) => ({ left, top, width: 0.125, height: 0.125 })));
    const four: Group = { ...fish, count: 4, size: 'small', items: rows, box: around(rows) };
    const { item, count } = answersFor({ ...scene, groups: [four] }, WHOLE, GRID);
    expect([2 * GRID + 4, 4 * GRID + 4, 2 * GRID + 6, 4 * GRID + 6].map((cell) => item[cell])).toEqual([1, 2, 3, 4]);
    expect(new Set(count)).toEqual(new Set([0, 4]));
  });

  it('tells of a thing when it has its turn, and how its group stands to those before it', () => {
    const at = (left: number, top: number): Pick<Group, 'box' | 'items'> => {
      const place = { left, top, width: 0.125, height: 0.125 };
      return { box: place, items: [place] };
    };
    const cat: Group = { ...fish, kind: 'cat', ...at(0, 0.75) };
    const tree: Group = { ...fish, kind: 'tree', ...at(0.75, 0.75) };
    const sun: Group = { ...fish, kind: 'sun', stand: 'sky', ...at(0.75, 0) };
    const answers = answersFor({ ...scene, groups: [cat, tree, sun] }, WHOLE, GRID);
    const [catCell, treeCell, sunCell] = [6 * GRID, 6 * GRID + 6, 6];
    expect([catCell, treeCell, sunCell, 0].map((cell) => answers.turn[cell])).toEqual([1, 2, 3, 0]);
    const relations = (cells: Uint8Array): (Relation | undefined)[] =>
      [catCell, treeCell, sunCell].map((cell) => RELATIONS[(cells[cell] ?? 0) - 1]);
    expect(relations(answers.toFirst)).toEqual([undefined, 'right', 'right']);
    expect(relations(answers.toSecond)).toEqual(['left', undefined, 'above']);
    expect(new Set(answers.groups)).toEqual(new Set([2]));
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
      const inMirror = (of: Uint8Array): number[] => [...of].map((_, cell) => of[cell + GRID - 1 - 2 * (cell % GRID)] ?? 0);
      for (const name of ['kind', 'colour', 'count', 'turn', 'top', 'bottom'] as const)
        expect(inMirror(there[name]), name).toEqual([...here[name]]);
      const again = mirrored(flipped.scene, flipped.view);
      expect(again.view.left).toBeCloseTo(view.left);
      expect(again.scene.groups[0]?.box.left).toBeCloseTo(drawn.groups[0]?.box.left ?? 0);
    }
  });
});
