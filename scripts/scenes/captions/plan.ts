/**
 * What a sentence is going to say, before any language says it. Things are told in the order of the scene, which is that of their kinds:
 * whoever has told one knows which one is next, and a frozen decoder can find it by the place in that order that the encoder sees.
 */
import { chance, pick, type Random } from '../../../src/scenes/dice.js';
import { depthOf, placesOf, relationsOf } from '../../../src/scenes/geometry.js';
import type { Group, Kind, Place, Relation, Scene } from '../../../src/scenes/world.js';

/** "`subject` is `relation` `object`." */
export interface Fact {
  readonly subject: Group;
  readonly relation: Relation;
  readonly object: Group;
}

const CONVERSES: Readonly<Record<Relation, Relation>> = {
  left: 'right',
  right: 'left',
  above: 'below',
  below: 'above',
  front: 'behind',
  behind: 'front',
  beside: 'beside',
};

export interface Plan {
  readonly scene: Scene;
  readonly first: Group;
  /** Where the first is, of a picture that has no other. */
  readonly place: Place | null;
  /** How the first stands to the second, and the third to one of these. */
  readonly facts: readonly Fact[];
}

export function planFor(scene: Scene, random: Random): Plan {
  const [first, second, third] = scene.groups;
  if (first === undefined) throw new RangeError('Expected a scene with something in it but received an empty one');
  const facts: Fact[] = [];
  if (second !== undefined) facts.push(factOf(first, second, random));
  if (second !== undefined && third !== undefined) facts.push(factOf(third, pick(random, [first, second]), random));
  return { scene, first, place: second === undefined ? placeOf(first, random) : null, facts };
}

/** One of the relations that hold. */
function factOf(subject: Group, object: Group, random: Random): Fact {
  const holding = relationsOf(subject, object);
  return { subject, object, relation: depthOf(holding) ?? pick(random, holding) };
}

/** The same fact, told of the other. */
export function converse({ subject, relation, object }: Fact): Fact {
  return { subject: object, relation: CONVERSES[relation], object: subject };
}

/** Across rather than up or down: the sky is at the top anyway. */
function placeOf(group: Group, random: Random): Place {
  const places = placesOf(group);
  const across = places.find((place) => place === 'left' || place === 'middle' || place === 'right');
  return across !== undefined && chance(random, 0.8) ? across : pick(random, places);
}

/** One word a kind, for a whole sentence: a ship that is spoken of again is still a ship. */
export function wordsFor<T>(table: Readonly<Record<Kind, readonly T[]>>, { groups }: Scene, random: Random): (kind: Kind) => T {
  const chosen = new Map(groups.map(({ kind }) => [kind, pick(random, table[kind])]));
  return (kind) => chosen.get(kind) ?? pick(random, table[kind]);
}
