/**
 * What the encoder is asked: of each cell of a grid over the picture, which thing is there and what is true of it. A picture answers it a
 * hundred times over, so few pictures teach much; and what a decoder will have to find in a cell's features is what they were made to tell.
 */

import type { View } from '../../../src/scenes/drawing.js';
import { around, covered, relationOf } from '../../../src/scenes/geometry.js';
import {
  BACKGROUNDS,
  type Box,
  COLOURS,
  type Group,
  KINDS,
  MAX_COUNT,
  MAX_GROUPS,
  RELATIONS,
  type Scene,
  SIZES,
} from '../../../src/scenes/world.js';

/** Steps in which an edge of a group's box is told. */
const BINS = 12;
/** What of a cell a thing must cover to be what is there. */
const COVERED = 0.4;

/**
 * Each question, and how many answers it has. The first answer to what is asked of a thing is "there is none". `turn` is the thing's place
 * in the order of the scene, `item` its place in its group, and `toFirst` and `toSecond` how its group stands to the first and the second.
 */
export const QUESTIONS = {
  kind: KINDS.length + 1,
  colour: COLOURS.length + 1,
  size: SIZES.length + 1,
  count: MAX_COUNT + 1,
  left: BINS + 1,
  top: BINS + 1,
  right: BINS + 1,
  bottom: BINS + 1,
  item: MAX_COUNT + 1,
  turn: MAX_GROUPS + 1,
  toFirst: RELATIONS.length + 1,
  toSecond: RELATIONS.length + 1,
  groups: MAX_GROUPS,
  background: BACKGROUNDS.length,
} as const;
export type Question = keyof typeof QUESTIONS;
export const QUESTION_NAMES = Object.keys(QUESTIONS) as Question[];

/**
 * How much each question counts. What a thing is comes first: it takes longest to learn, and where it ends, which a mean colour almost
 * tells, would keep the network from it (bench/RESULTS.md).
 */
export const WEIGHTS: Readonly<Record<Question, number>> = {
  kind: 6,
  colour: 1.5,
  count: 2.5,
  turn: 1.2,
  item: 0.7,
  size: 0.5,
  toFirst: 0.3,
  toSecond: 0.3,
  groups: 0.3,
  left: 0.2,
  top: 0.2,
  right: 0.2,
  bottom: 0.2,
  background: 0.1,
};

/** The right answers, row by row of a grid of `grid` cells an edge. */
export type Answers = Readonly<Record<Question, Uint8Array>>;

/** The answers for a picture of the scene that shows this view of it. */
export function answersFor(scene: Scene, view: View, grid: number): Answers {
  const answers = Object.fromEntries(QUESTION_NAMES.map((name) => [name, new Uint8Array(grid * grid)])) as Record<
    Question,
    Uint8Array
  >;
  answers.background.fill(BACKGROUNDS.indexOf(scene.background));
  answers.groups.fill(scene.groups.length - 1);
  const things = scene.groups.flatMap((group) => {
    const items = group.items.map((item) => seen(item, view));
    const about = [...answersOf(group, around(items)), ...standing(group, scene)];
    const sweep = items.toSorted((a, b) => reached(a) - reached(b));
    return items.map((box) => ({
      box,
      about: [...about, ['item', 1 + sweep.indexOf(box)] as const],
      isInSky: group.stand === 'sky',
    }));
  });
  // As they are drawn: the sky first, then what stands further back; of two in one cell the nearer one is seen.
  things.sort((a, b) => Number(b.isInSky) - Number(a.isInSky) || a.box.top + a.box.height - b.box.top - b.box.height);
  for (let cell = 0; cell < grid * grid; cell++) {
    const place = { left: (cell % grid) / grid, top: Math.floor(cell / grid) / grid, width: 1 / grid, height: 1 / grid };
    const thing = things.findLast(({ box }) => covered(place, box) >= COVERED);
    if (thing) for (const [name, answer] of thing.about) answers[name][cell] = answer;
  }
  return answers;
}

function answersOf({ kind, colour, size, count }: Group, box: Box): [Question, number][] {
  const bin = (edge: number): number => 1 + Math.min(BINS - 1, Math.max(0, Math.floor(edge * BINS)));
  return [
    ['kind', 1 + KINDS.indexOf(kind)],
    ['colour', 1 + COLOURS.indexOf(colour)],
    ['size', 1 + SIZES.indexOf(size)],
    ['count', count],
    ['left', bin(box.left)],
    ['top', bin(box.top)],
    ['right', bin(box.left + box.width)],
    ['bottom', bin(box.top + box.height)],
  ];
}

/** When a look from left to right comes to a thing; of two in a column to the upper one first. */
function reached({ left, top, width, height }: Box): number {
  return (left + width / 2) / width + (0.3 * (top + height / 2)) / height;
}

/** The group among the others. */
function standing(group: Group, { groups }: Scene): [Question, number][] {
  const [first, second] = groups;
  return [
    ['turn', 1 + groups.indexOf(group)],
    ['toFirst', relationTo(first)],
    ['toSecond', relationTo(second)],
  ];

  function relationTo(other: Group | undefined): number {
    if (other === undefined || other === group) return 0;
    return 1 + RELATIONS.indexOf(relationOf(group, other));
  }
}

/** Where in the picture a box of the scene is seen; that it is tilted a little there is left out. */
function seen(box: Box, { left, top, edge, tilt }: View): Box {
  const [sin, cos] = [Math.sin((tilt * Math.PI) / 180), Math.cos((tilt * Math.PI) / 180)];
  const [x, y] = [box.left + box.width / 2 - 0.5, box.top + box.height / 2 - 0.5];
  const [turnedX, turnedY] = [x * cos - y * sin + 0.5, x * sin + y * cos + 0.5];
  return {
    left: (turnedX - box.width / 2 - left) / edge,
    top: (turnedY - box.height / 2 - top) / edge,
    width: box.width / edge,
    height: box.height / edge,
  };
}

/** The same scene and view in a mirror. */
export function mirrored(scene: Scene, view: View): { scene: Scene; view: View } {
  const flip = (box: Box): Box => ({ ...box, left: 1 - box.left - box.width });
  const groups = scene.groups.map((group) => ({ ...group, box: flip(group.box), items: group.items.map(flip) }));
  return { scene: { ...scene, groups }, view: { ...view, left: 1 - view.left - view.edge, tilt: -view.tilt } };
}
