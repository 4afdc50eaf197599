/**
 * What the encoder is asked: of each cell of a grid over the picture, which thing is there and what is true of it. A picture answers it a
 * hundred times over, so few pictures teach much; and what a decoder will have to find in a cell's features is what they were made to tell.
 */

import type { View } from '../../../src/scenes/drawing.js';
import { around, covered } from '../../../src/scenes/geometry.js';
import { BACKGROUNDS, type Box, COLOURS, type Group, KINDS, MAX_COUNT, type Scene, SIZES } from '../../../src/scenes/world.js';

/** Steps in which an edge of a group's box is told. */
const BINS = 12;
/** What of a cell a thing must cover to be what is there. */
const COVERED = 0.4;

/** Each question, and how many answers it has. The first answer to what is asked of a thing is "there is none". */
export const QUESTIONS = {
  kind: KINDS.length + 1,
  colour: COLOURS.length + 1,
  size: SIZES.length + 1,
  count: MAX_COUNT + 1,
  left: BINS + 1,
  top: BINS + 1,
  right: BINS + 1,
  bottom: BINS + 1,
  background: BACKGROUNDS.length,
} as const;
export type Question = keyof typeof QUESTIONS;
export const QUESTION_NAMES = Object.keys(QUESTIONS) as Question[];

/** How much each question counts: what a thing is, first of all. */
export const WEIGHTS: Readonly<Record<Question, number>> = {
  kind: 3,
  colour: 1.5,
  size: 1,
  count: 1.5,
  left: 0.5,
  top: 0.5,
  right: 0.5,
  bottom: 0.5,
  background: 0.5,
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
  const things = scene.groups.flatMap((group) => {
    const items = group.items.map((item) => seen(item, view));
    const about = answersOf(group, around(items));
    return items.map((box) => ({ box, about, isInSky: group.stand === 'sky' }));
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
