/**
 * Drawing a scene's truth: first what is there, then where it stands. Things are put down at random and taken back as long as they hide each
 * other or leave it open how they stand to each other, so what a caption can say is always plain to see.
 */
import { between, chance, pick, type Random, shuffled, weighted } from './dice.js';
import { around, bottom, covered, HIDDEN, placesOf, relationsOf, right } from './geometry.js';
import {
  BACKGROUNDS,
  type Background,
  type Box,
  COLOURS,
  type Group,
  KINDS,
  type Kind,
  NATURES,
  type Scene,
  SIZES,
  type Size,
  type Stand,
} from './world.js';

/** Room for the slight shift that a picture gets when it is taken. */
const MARGIN = 0.045;
/** Between two things that do not hide each other. */
const GAP = 0.025;
const TRIES = 60;
/** The root of a thing's area, by size: far enough apart that they are told apart. */
const SCALES: Readonly<Record<Size, readonly [number, number]>> = {
  small: [0.19, 0.215],
  medium: [0.275, 0.315],
  large: [0.42, 0.5],
};

/** Ways to stand in several rows, by how many there are. */
const ROWS: Readonly<Record<number, readonly string[]>> = { 3: ['12', '21'], 4: ['22', '13', '31'], 5: ['23', '32'] };

type Wish = Omit<Group, 'box' | 'items'>;

/** The same scene for the same stream of numbers, for ever. */
export function drawScene(random: Random): Scene {
  for (;;) {
    const background = pick(random, BACKGROUNDS);
    const horizon = background === 'room' ? between(random, 0.6, 0.72) : between(random, 0.44, 0.64);
    const wishes = wishesFor(background, random);
    // What finds no room is drawn anew as a whole: shrunk until it fits, its size would tell what company it is in.
    for (let attempt = 0; attempt < 4; attempt++) {
      const groups = settle(wishes, horizon, random);
      if (groups !== undefined) return { background, horizon, groups };
    }
  }
}

function wishesFor(background: Background, random: Random): Wish[] {
  const home = KINDS.filter((kind) => NATURES[kind].homes.includes(background));
  const kinds = new Set<Kind>();
  const number = weighted(random, [1, 2, 3], [0.2, 0.4, 0.4]);
  while (kinds.size < number) kinds.add(pick(random, chance(random, 0.4) ? home : KINDS));
  return [...kinds].map((kind) => {
    // Many find room less often than few, so they are asked for more often than they would be otherwise.
    const count = weighted(random, [1, 2, 3, 4, 5], [0.26, 0.19, 0.16, 0.18, 0.21]);
    return {
      kind,
      colour: pick(random, COLOURS),
      size: sizeFor(count, random),
      stand: pick(random, NATURES[kind].stands),
      count,
    };
  });
}

function sizeFor(count: number, random: Random): Size {
  if (count === 1) return weighted(random, SIZES, [0.22, 0.34, 0.44]);
  return chance(random, count === 2 ? 0.5 : count === 3 ? 0.25 : 0) ? 'medium' : 'small';
}

/** The wishes with places; undefined where one finds none. */
function settle(wishes: readonly Wish[], horizon: number, random: Random): Group[] | undefined {
  const groups: Group[] = [];
  // The one that takes the most room comes first.
  const order = shuffled(random, wishes).sort((a, b) => b.count * SCALES[b.size][0] ** 2 - a.count * SCALES[a.size][0] ** 2);
  for (const wish of order) {
    const group = find(
      () => place(wish, groups, horizon, random),
      (found) => fits(found, groups, horizon),
    );
    if (group === undefined) return undefined;
    groups.push(group);
  }
  const [only, ...others] = groups;
  if (
    only !== undefined &&
    others.length === 0 &&
    !placesOf(only).some((at) => at === 'left' || at === 'middle' || at === 'right')
  )
    return undefined;
  return groups.toSorted((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind));
}

function find<T>(draw: () => T, good: (found: T) => boolean): T | undefined {
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const found = draw();
    if (good(found)) return found;
  }
  return undefined;
}

/** Somewhere, or close to another where both are alone on the ground: behind it, or in front of it. */
function place(wish: Wish, groups: readonly Group[], horizon: number, random: Random): Group {
  const items = arrange(wish, random);
  const box = around(items);
  const free = (room: number, size: number): number => between(random, MARGIN, Math.max(MARGIN, room - MARGIN - size));
  let [left, top] = [free(1, box.width), free(1, box.height)];
  if (wish.stand === 'sky') top = free(horizon + MARGIN, box.height);
  else top = between(random, horizon + 0.04, 1 - MARGIN) - box.height;
  const alone = groups.filter(({ count, stand }) => count === 1 && stand === 'ground');
  const near = pick(random, [undefined, ...alone, ...alone]);
  if (near !== undefined && wish.stand === 'ground' && wish.count === 1) {
    left = between(random, near.box.left - box.width, right(near.box));
    top = bottom(near.box) + pick(random, [-1, 1]) * between(random, 0.04, 0.16) - box.height;
  }
  const moved = items.map((item) => ({ ...item, left: item.left + left - box.left, top: item.top + top - box.top }));
  return { ...wish, items: moved, box: around(moved) };
}

function fits(group: Group, groups: readonly Group[], horizon: number): boolean {
  const { box, items, stand } = group;
  if (box.left < MARGIN || box.top < MARGIN || right(box) > 1 - MARGIN || bottom(box) > 1 - MARGIN) return false;
  if (stand === 'ground' ? items.some((item) => bottom(item) < horizon + 0.02) : bottom(box) > horizon + 0.03) return false;
  const touched = groups.filter((other) => covered(box, other.box) > 0);
  // One may hide a part of another; two together could hide a third.
  if (touched.length > 1 || touched.some((one) => groups.some((other) => one !== other && covered(one.box, other.box) > 0)))
    return false;
  return groups.every((other) => {
    const relations = relationsOf(group, other);
    if (relations.length === 0) return false;
    if (relations.includes('behind')) return covered(box, other.box) <= HIDDEN.most && covered(other.box, box) <= 0.8;
    if (relations.includes('front')) return covered(other.box, box) <= HIDDEN.most && covered(box, other.box) <= 0.8;
    return covered(grown(box), other.box) === 0;
  });
}

function grown(box: Box): Box {
  return { left: box.left - GAP, top: box.top - GAP, width: box.width + 2 * GAP, height: box.height + 2 * GAP };
}

/** The items of a group in rows, about a corner that is still to be placed. */
function arrange({ kind, size, count, stand }: Wish, random: Random): Box[] {
  const scale = between(random, ...SCALES[size]);
  const root = Math.sqrt(NATURES[kind].aspect * between(random, 0.92, 1.08));
  const [width, height] = [scale * root, scale / root];
  const gap = between(random, 0.2, 0.32) * scale;
  const rows = rowsFor(count, stand, count * (width + gap) < 0.7, random);
  const longest = Math.max(...rows);
  return rows.flatMap((length, row) => {
    const indent = ((longest - length) * (width + gap)) / 2;
    return Array.from({ length }, (_, column) => {
      const shrink = between(random, 0.93, 1);
      const [w, h] = [width * shrink, height * shrink];
      return {
        left: indent + column * (width + gap) + between(random, 0, width - w),
        top: row * (height * 1.05 + gap * 0.4) + (height - h) + between(random, -0.12, 0.12) * gap,
        width: w,
        height: h,
      };
    });
  });
}

/** How many of a group stand in each row, from the back. */
function rowsFor(count: number, stand: Stand, narrow: boolean, random: Random): number[] {
  const ways = [...(ROWS[count] ?? [])];
  if (narrow || ways.length === 0) ways.push(String(count));
  if (count === 2 && stand === 'sky') ways.push('11');
  return Array.from(pick(random, ways), Number);
}
