/** Tasks that ask for one thing each, in English: how many, which colours, what stands where, a text for those who cannot see, tags. */
import { chance, pick, type Random } from '../../../src/scenes/dice.js';
import { type Group, PLACES, type Scene } from '../../../src/scenes/world.js';
import { COUNTS, counted, definite, ENGLISH, lexiconOf, numbered, verb } from './english.js';
import { planFor, wordsFor } from './plan.js';

/** "two boats, one house." */
export function counting(scene: Scene, random: Random): string {
  const { groups } = scene;
  const nouns = wordsFor(ENGLISH.nouns, scene, random);
  const parts = groups.map(({ kind, count }) => `${COUNTS[count - 1]} ${numbered(nouns(kind), count)}`);
  const list = chance(random, 0.5) ? parts.join(', ') : listed(parts);
  return `${pick(random, ['', '', 'just ', `there ${verb(groups[0] as Group)} `])}${list}.`;
}

/** "red, yellow." */
export function colours({ groups }: Scene, random: Random): string {
  const names = [...new Set(groups.map(({ colour }) => colour))];
  const list = chance(random, 0.5) ? names.join(', ') : listed(names);
  if (names.length === 1) return pick(random, [`${list}.`, `only ${list}.`, `everything is ${list}.`]);
  return chance(random, 0.7) ? `${list}.` : `the colours are ${list}.`;
}

/** "the boats are left of the house." */
export function relations(scene: Scene, random: Random): string {
  const { first, place, facts } = planFor(scene, random);
  const nouns = wordsFor(ENGLISH.nouns, scene, random);
  const the = (group: Group): string => definite(group, nouns(group.kind));
  if (place !== null) {
    const at = pick(random, ENGLISH.places[place]);
    const is = `${the(first)} ${verb(first)} ${at}`;
    return pick(random, [`${is}.`, `${is} of the picture.`, `${at} ${verb(first)} ${the(first)}.`]);
  }
  const said = facts.map(
    ({ subject, relation, object }) =>
      `${the(subject)} ${verb(subject)} ${pick(random, ENGLISH.relations[relation])} ${the(object)}`,
  );
  return `${said.join(', and ')}.`;
}

/** "two red boats and a yellow house on the sea." */
export function alt(scene: Scene, random: Random): string {
  const { groups } = scene;
  const nouns = wordsFor(ENGLISH.nouns, scene, random);
  const parts = groups.map(({ kind, colour, count }) => counted(count, `${colour} ${numbered(nouns(kind), count)}`));
  const last = groups.at(-1) as Group;
  const where = pick(random, ENGLISH.backgrounds[scene.background][last.stand]);
  return `${pick(random, ['', 'a drawing of ', 'a picture of '])}${listed(parts)} ${where}.`;
}

/** "red boat, yellow house, sea". */
export function tags(scene: Scene, random: Random): string {
  const nouns = wordsFor(ENGLISH.nouns, scene, random);
  return [...scene.groups.map(({ kind, colour }) => `${colour} ${numbered(nouns(kind), 1)}`), scene.background].join(', ');
}

/** "a, b and c". */
function listed(parts: readonly string[]): string {
  return parts.length < 2 ? parts.join('') : `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}`;
}

export const LISTS = lexiconOf(ENGLISH);
LISTS.add({ is: 'filler' }, 'only', 'just', 'everything is', 'the colours are', 'a drawing of', 'a picture of');
for (const place of PLACES) LISTS.add({ is: 'place', place }, ...ENGLISH.places[place].map((words) => `${words} of the picture`));
