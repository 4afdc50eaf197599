/**
 * What a picture's geometry makes true. Places and relations are never stored beside the boxes, so the two cannot disagree; whatever is
 * a matter of opinion (a thing between left and middle, a pair on a diagonal) counts as no fact at all.
 */
import { type Box, type Group, PLACES, type Place, RELATIONS, type Relation } from './world.js';

/** How far a thing that hides a part of another stands lower in the picture, at least. */
const NEARER = 0.03;
/** What of the one behind is hidden: less is a touch, more a riddle. */
export const HIDDEN = { least: 0.08, most: 0.34 } as const;
/** Widest gap of two that are beside each other. */
const BESIDE = 0.14;

export const right = (box: Box): number => box.left + box.width;
export const bottom = (box: Box): number => box.top + box.height;
const across = (box: Box): number => box.left + box.width / 2;
const down = (box: Box): number => box.top + box.height / 2;

/** The smallest box around all. */
export function around(boxes: readonly Box[]): Box {
  const left = Math.min(...boxes.map((box) => box.left));
  const top = Math.min(...boxes.map((box) => box.top));
  return { left, top, width: Math.max(...boxes.map(right)) - left, height: Math.max(...boxes.map(bottom)) - top };
}

/** The part of `box` that `other` covers. */
export function covered(box: Box, other: Box): number {
  const width = Math.min(right(box), right(other)) - Math.max(box.left, other.left);
  const height = Math.min(bottom(box), bottom(other)) - Math.max(box.top, other.top);
  return width > 0 && height > 0 ? (width * height) / (box.width * box.height) : 0;
}

/** Where in the picture a group is, across first. */
export function placesOf({ box }: Group): Place[] {
  const [x, y] = [across(box), down(box)];
  const holds: Record<Place, boolean> = {
    left: x <= 0.38,
    middle: x >= 0.42 && x <= 0.58,
    right: x >= 0.62,
    top: y <= 0.33,
    bottom: y >= 0.67,
  };
  return PLACES.filter((place) => holds[place]);
}

/** How the first stands to the second. */
export function relationsOf(subject: Group, object: Group): Relation[] {
  const [a, b] = [subject.box, object.box];
  const [dx, dy] = [Math.abs(across(a) - across(b)), Math.abs(down(a) - down(b))];
  const wide = dy <= 1.2 * dx;
  const upright = dx <= 1.2 * dy && (subject.stand === 'sky' || object.stand === 'sky');
  const holds: Record<Relation, boolean> = {
    left: right(a) <= b.left && wide,
    right: right(b) <= a.left && wide,
    // Of two on the ground, the higher one is further away, not above.
    above: bottom(a) <= b.top && upright,
    below: bottom(b) <= a.top && upright,
    front: stands(subject, object),
    behind: stands(object, subject),
    beside: Math.max(a.left - right(b), b.left - right(a)) <= BESIDE && (right(a) <= b.left || right(b) <= a.left) && level(a, b),
  };
  return RELATIONS.filter((relation) => holds[relation]);
}

/** Who hides whom, of the relations that hold: it is said if it can be, for no other pictures show it. */
export function depthOf(holding: readonly Relation[]): Relation | undefined {
  return holding.find((relation) => relation === 'front' || relation === 'behind');
}

/** The one relation that says most. Throws RangeError where none holds. */
export function relationOf(subject: Group, object: Group): Relation {
  const holding = relationsOf(subject, object);
  const found = depthOf(holding) ?? holding[0];
  if (found === undefined) throw new RangeError(`Expected ${subject.kind} and ${object.kind} to stand somehow to each other`);
  return found;
}

/** Whether the nearer one hides a part of the other. */
function stands(near: Group, far: Group): boolean {
  const alone = near.count === 1 && far.count === 1 && near.stand === 'ground' && far.stand === 'ground';
  return alone && covered(far.box, near.box) >= HIDDEN.least && bottom(near.box) >= bottom(far.box) + NEARER;
}

/** Whether two share at least half of the height of the lower one. */
function level(a: Box, b: Box): boolean {
  const shared = Math.min(bottom(a), bottom(b)) - Math.max(a.top, b.top);
  return shared >= Math.min(a.height, b.height) / 2;
}
