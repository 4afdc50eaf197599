/**
 * French sentences. Articles and adjectives agree with gender and number, `de` melts into what follows, small and large stand before
 * their noun and colours behind it.
 */
import { chance, pick, type Random } from '../../../src/scenes/dice.js';
import type { Background, Colour, Group, Kind, Place, Relation, Size, Stand } from '../../../src/scenes/world.js';
import { Lexicon } from './lexicon.js';
import { converse, type Fact, type Plan, wordsFor } from './plan.js';

type Gender = 'm' | 'f';
type Word = readonly [gender: Gender, one: string, many: string];
/** Masculine and feminine, then the same in the plural. */
type Adjective = readonly [m: string, f: string, ms: string, fs: string];

const COUNTS = ['un', 'deux', 'trois', 'quatre', 'cinq'] as const;

const NOUNS: Readonly<Record<Kind, readonly Word[]>> = {
  house: [['f', 'maison', 'maisons']],
  tree: [['m', 'arbre', 'arbres']],
  boat: [['m', 'bateau', 'bateaux']],
  car: [['f', 'voiture', 'voitures']],
  sun: [['m', 'soleil', 'soleils']],
  moon: [['f', 'lune', 'lunes']],
  star: [['f', 'étoile', 'étoiles']],
  cloud: [['m', 'nuage', 'nuages']],
  cat: [['m', 'chat', 'chats']],
  dog: [['m', 'chien', 'chiens']],
  bird: [['m', 'oiseau', 'oiseaux']],
  fish: [['m', 'poisson', 'poissons']],
  ball: [
    ['m', 'ballon', 'ballons'],
    ['f', 'balle', 'balles'],
  ],
  flower: [['f', 'fleur', 'fleurs']],
  person: [['f', 'personne', 'personnes']],
  chair: [['f', 'chaise', 'chaises']],
  umbrella: [['m', 'parapluie', 'parapluies']],
  mushroom: [['m', 'champignon', 'champignons']],
};

const HEARD: Partial<Readonly<Record<Kind, readonly Word[]>>> = {
  boat: [['m', 'navire', 'navires']],
  car: [['f', 'auto', 'autos']],
  cat: [['m', 'chaton', 'chatons']],
  dog: [['m', 'chiot', 'chiots']],
  person: [
    ['m', 'homme', 'hommes'],
    ['f', 'femme', 'femmes'],
  ],
};

const COLOURS: Readonly<Record<Colour, Adjective>> = {
  red: ['rouge', 'rouge', 'rouges', 'rouges'],
  // Named after the fruit, and so without any ending.
  orange: ['orange', 'orange', 'orange', 'orange'],
  yellow: ['jaune', 'jaune', 'jaunes', 'jaunes'],
  green: ['vert', 'verte', 'verts', 'vertes'],
  blue: ['bleu', 'bleue', 'bleus', 'bleues'],
  purple: ['violet', 'violette', 'violets', 'violettes'],
  white: ['blanc', 'blanche', 'blancs', 'blanches'],
  black: ['noir', 'noire', 'noirs', 'noires'],
};

const SIZES: Readonly<Record<Exclude<Size, 'medium'>, Adjective>> = {
  small: ['petit', 'petite', 'petits', 'petites'],
  large: ['grand', 'grande', 'grands', 'grandes'],
};

/** `de` where the relation needs it before its object. */
const RELATIONS: Readonly<Record<Relation, readonly (readonly [words: string, joint: 'de' | ''])[]>> = {
  left: [['à gauche', 'de']],
  right: [['à droite', 'de']],
  above: [['au-dessus', 'de']],
  below: [
    ['sous', ''],
    ['au-dessous', 'de'],
  ],
  front: [['devant', '']],
  behind: [['derrière', '']],
  beside: [['à côté', 'de']],
};

const PLACES: Readonly<Record<Place, readonly string[]>> = {
  left: ['à gauche', 'sur la gauche'],
  middle: ['au milieu', 'au centre'],
  right: ['à droite', 'sur la droite'],
  top: ['en haut'],
  bottom: ['en bas'],
};

const BACKGROUNDS: Readonly<Record<Background, Readonly<Record<Stand, readonly string[]>>>> = {
  sea: { ground: ['sur la mer', 'en mer', "sur l'eau"], sky: ['au-dessus de la mer'] },
  meadow: { ground: ['dans un pré', 'dans une prairie', "dans l'herbe"], sky: ["au-dessus d'un pré", "au-dessus d'une prairie"] },
  city: { ground: ['en ville', 'dans la rue'], sky: ['au-dessus de la ville'] },
  night: { ground: ['la nuit', 'dans la nuit'], sky: ['la nuit', 'dans le ciel nocturne'] },
  snow: { ground: ['dans la neige', 'sur la neige'], sky: ['au-dessus de la neige'] },
  desert: { ground: ['dans le désert', 'sur le sable'], sky: ['au-dessus du désert'] },
  room: { ground: ['dans une pièce', 'dans une chambre'], sky: ['dans une pièce', 'dans une chambre'] },
};

const HEARD_BACKGROUNDS: Readonly<Record<Background, readonly string[]>> = {
  sea: ['mer', 'eau'],
  meadow: ['pré', 'prairie', 'herbe'],
  city: ['ville', 'rue', 'dans la ville'],
  night: ['nuit', 'de nuit'],
  snow: ['neige'],
  desert: ['désert', 'sable'],
  room: ['pièce', 'chambre'],
};

export function french({ scene, first, place, facts }: Plan, random: Random): string {
  const where = pick(random, BACKGROUNDS[scene.background][first.stand]);
  const nouns = wordsFor(NOUNS, scene, random);
  const what = phrase(first, nouns(first.kind));
  const view = pick(random, ['il y a', 'on voit']);
  const [near, far] = facts;
  if (near === undefined) {
    const at = place === null ? '' : pick(random, PLACES[place]);
    return `${pick(random, [`${what} ${where}, ${at}`, `${at}, ${what} ${where}`, `${where}, ${view} ${what} ${at}`, `${at}, ${view} ${what} ${where}`])}.`;
  }
  const other = phrase(near.object, nouns(near.object.kind));
  const beside = related(near, other, random);
  const begin = pick(random, [
    `${what} ${where}, ${beside}`,
    `${where}, ${what} ${beside}`,
    `${where}, ${view} ${what} ${beside}`,
    `${where}, ${related(converse(near), what, random)}, ${view} ${other}`,
  ]);
  return `${begin}${far === undefined ? '' : third(far, nouns, random)}.`;
}

function third(fact: Fact, nouns: (kind: Kind) => Word, random: Random): string {
  const { subject, object } = fact;
  const link = chance(random, 0.5) ? 'et' : 'avec';
  return `, ${link} ${phrase(subject, nouns(subject.kind))} ${related(fact, definite(object, nouns(object.kind)), random)}`;
}

/** "deux petits bateaux rouges". */
function phrase({ colour, size, count }: Group, [gender, one, many]: Word): string {
  const number = count === 1 && gender === 'f' ? 'une' : (COUNTS[count - 1] as string);
  const before = size === 'medium' ? '' : `${agree(SIZES[size], gender, count)} `;
  return `${number} ${before}${count === 1 ? one : many} ${agree(COLOURS[colour], gender, count)}`;
}

function agree(adjective: Adjective, gender: Gender, count: number): string {
  return adjective[(count === 1 ? 0 : 2) + (gender === 'f' ? 1 : 0)] as string;
}

function definite({ count }: Group, [gender, one, many]: Word): string {
  if (count > 1) return `les ${many}`;
  if (/^[aeiouéèêhœ]/.test(one)) return `l'${one}`;
  return `${gender === 'f' ? 'la' : 'le'} ${one}`;
}

function related({ relation }: Fact, object: string, random: Random): string {
  const [words, joint] = pick(random, RELATIONS[relation]);
  return `${words} ${joint === '' ? object : melted(object)}`;
}

/** `de` and what follows: "d'un", "du", "des", "de la", "de l'", "de deux". */
function melted(object: string): string {
  if (object.startsWith('le ')) return `du ${object.slice(3)}`;
  if (object.startsWith('les ')) return `des ${object.slice(4)}`;
  return /^une? /.test(object) ? `d'${object}` : `de ${object}`;
}

export const FRENCH = new Lexicon({ colourFollows: true });
FRENCH.add({ is: 'filler' }, 'le', 'la', 'les', 'l', 'de', 'd', 'du', 'des', 'il y a', 'on voit', 'avec');
FRENCH.add({ is: 'break' }, 'et');
FRENCH.add({ is: 'count', count: 1 }, 'une');
for (const [index, word] of COUNTS.entries()) FRENCH.add({ is: 'count', count: index + 1 }, word);
FRENCH.addAll(COLOURS, (colour) => ({ is: 'colour', colour }));
FRENCH.addAll(SIZES, (size) => ({ is: 'size', size }));
FRENCH.add({ is: 'size', size: 'large' }, 'gros', 'grosse', 'grosses');
FRENCH.addAll(PLACES, (place) => ({ is: 'place', place }));
for (const relation of Object.keys(RELATIONS) as Relation[])
  for (const [words, joint] of RELATIONS[relation])
    FRENCH.add(
      { is: 'relation', relation },
      ...(joint === '' ? [words] : ['de', 'd', 'du', 'des'].map((form) => `${words} ${form}`)),
    );
FRENCH.addAll(HEARD_BACKGROUNDS, (background) => ({ is: 'background', background }));
for (const background of Object.keys(BACKGROUNDS) as Background[])
  for (const stand of ['sky', 'ground'] as const) FRENCH.add({ is: 'background', background }, ...BACKGROUNDS[background][stand]);
for (const nouns of [HEARD, NOUNS])
  for (const [kind, words] of Object.entries(nouns) as [Kind, readonly Word[]][])
    for (const [, one, many] of words) FRENCH.addNoun(kind, [one, many]);
