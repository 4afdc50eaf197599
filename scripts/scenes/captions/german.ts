/**
 * German sentences. Adjectives take the mixed endings after `ein` and the strong ones after a number; every preposition here says where
 * something is, and so takes the dative.
 */
import { pick, type Random } from '../../../src/scenes/dice.js';
import type { Background, Colour, Group, Kind, Place, Relation, Size, Stand } from '../../../src/scenes/world.js';
import { Lexicon } from './lexicon.js';
import { converse, type Fact, type Plan, wordsFor } from './plan.js';

type Gender = 'm' | 'f' | 'n';
type Case = 'nominative' | 'accusative' | 'dative';
type Word = readonly [gender: Gender, one: string, many: string];

const COUNTS = ['ein', 'zwei', 'drei', 'vier', 'fünf'] as const;

const NOUNS: Readonly<Record<Kind, readonly Word[]>> = {
  house: [['n', 'Haus', 'Häuser']],
  tree: [['m', 'Baum', 'Bäume']],
  boat: [
    ['n', 'Boot', 'Boote'],
    ['n', 'Boot', 'Boote'],
    ['n', 'Schiff', 'Schiffe'],
  ],
  car: [['n', 'Auto', 'Autos']],
  sun: [['f', 'Sonne', 'Sonnen']],
  moon: [['m', 'Mond', 'Monde']],
  star: [['m', 'Stern', 'Sterne']],
  cloud: [['f', 'Wolke', 'Wolken']],
  cat: [['f', 'Katze', 'Katzen']],
  dog: [['m', 'Hund', 'Hunde']],
  bird: [['m', 'Vogel', 'Vögel']],
  fish: [['m', 'Fisch', 'Fische']],
  ball: [['m', 'Ball', 'Bälle']],
  flower: [['f', 'Blume', 'Blumen']],
  person: [['f', 'Person', 'Personen']],
  chair: [['m', 'Stuhl', 'Stühle']],
  umbrella: [['m', 'Regenschirm', 'Regenschirme']],
  mushroom: [['m', 'Pilz', 'Pilze']],
};

const HEARD: Partial<Readonly<Record<Kind, readonly Word[]>>> = {
  car: [['m', 'Wagen', 'Wagen']],
  umbrella: [['m', 'Schirm', 'Schirme']],
  person: [
    ['m', 'Mann', 'Männer'],
    ['f', 'Frau', 'Frauen'],
  ],
};

/** Stems. */
const COLOURS: Readonly<Record<Colour, string>> = {
  red: 'rot',
  // "orange" alone takes no ending in good German.
  orange: 'orangefarben',
  yellow: 'gelb',
  green: 'grün',
  blue: 'blau',
  purple: 'violett',
  white: 'weiß',
  black: 'schwarz',
};

const SIZES: Readonly<Record<Exclude<Size, 'medium'>, readonly string[]>> = {
  small: ['klein', 'klein', 'winzig'],
  large: ['groß', 'groß', 'riesig'],
};

const ARTICLES: Readonly<Record<Case, Readonly<Record<Gender, string>>>> = {
  nominative: { m: 'ein', f: 'eine', n: 'ein' },
  accusative: { m: 'einen', f: 'eine', n: 'ein' },
  dative: { m: 'einem', f: 'einer', n: 'einem' },
};

const ENDINGS: Readonly<Record<Case, Readonly<Record<Gender | 'many', string>>>> = {
  nominative: { m: 'er', f: 'e', n: 'es', many: 'e' },
  accusative: { m: 'en', f: 'e', n: 'es', many: 'e' },
  dative: { m: 'en', f: 'en', n: 'en', many: 'en' },
};

const RELATIONS: Readonly<Record<Relation, string>> = {
  left: 'links von',
  right: 'rechts von',
  above: 'über',
  below: 'unter',
  front: 'vor',
  behind: 'hinter',
  beside: 'neben',
};

const PLACES: Readonly<Record<Place, string>> = {
  left: 'links',
  middle: 'in der Mitte',
  right: 'rechts',
  top: 'oben',
  bottom: 'unten',
};

const BACKGROUNDS: Readonly<Record<Background, Readonly<Record<Stand, readonly string[]>>>> = {
  sea: { ground: ['auf dem Meer', 'auf dem Wasser'], sky: ['über dem Meer', 'über dem Wasser'] },
  meadow: { ground: ['auf einer Wiese', 'im Gras'], sky: ['über einer Wiese'] },
  city: { ground: ['in der Stadt', 'auf der Straße'], sky: ['über der Stadt'] },
  night: { ground: ['bei Nacht', 'in der Nacht'], sky: ['am Nachthimmel', 'in der Nacht'] },
  snow: { ground: ['im Schnee', 'auf dem Schnee'], sky: ['über dem Schnee'] },
  desert: { ground: ['in der Wüste', 'im Sand'], sky: ['über der Wüste'] },
  room: { ground: ['in einem Zimmer', 'im Zimmer'], sky: ['in einem Zimmer', 'im Zimmer'] },
};

const HEARD_BACKGROUNDS: Readonly<Record<Background, readonly string[]>> = {
  sea: ['Meer', 'Wasser', 'auf See'],
  meadow: ['Wiese', 'Gras', 'auf der Wiese'],
  city: ['Stadt', 'Straße'],
  night: ['Nacht', 'nachts', 'Nachthimmel'],
  snow: ['Schnee'],
  desert: ['Wüste', 'Sand'],
  room: ['Zimmer'],
};

export function german({ scene, first, place, facts }: Plan, random: Random): string {
  const where = pick(random, BACKGROUNDS[scene.background][first.stand]);
  const be = verb(first);
  const nouns = wordsFor(NOUNS, scene, random);
  const phrase = (group: Group, as: Case): string => described(group, nouns(group.kind), as, random);
  const what = (as: Case): string => phrase(first, as);
  const [near, far] = facts;
  if (near === undefined) {
    const at = place === null ? '' : PLACES[place];
    return `${pick(random, [
      `${what('nominative')} ${where}, ${at}`,
      `${at} ${be} ${what('nominative')} ${where}`,
      `${where} ${be} ${at} ${what('nominative')} zu sehen`,
      `${where} sieht man ${at} ${what('accusative')}`,
    ])}.`;
  }
  const beside = related(near.relation, phrase(near.object, 'dative'));
  const behind = related(converse(near).relation, what('dative'));
  const [begin, as] = pick(random, [
    [`${what('nominative')} ${where}, ${beside}`, 'nominative'],
    [`${where} ${be} ${what('nominative')} ${beside}`, 'nominative'],
    [`${where} ${verb(near.object)} ${behind} ${phrase(near.object, 'nominative')} zu sehen`, 'nominative'],
    [`${where} sieht man ${what('accusative')} ${beside}`, 'accusative'],
  ] as const);
  return `${begin}${far === undefined ? '' : third(far, as)}.`;

  function third({ subject, relation, object }: Fact, as: Case): string {
    return `, dazu ${phrase(subject, as)} ${related(relation, definite(object, nouns(object.kind)))}`;
  }
}

const verb = ({ count }: Group): string => (count === 1 ? 'ist' : 'sind');

/** "zwei kleine rote Boote", "einem kleinen roten Boot". */
function described({ colour, size, count }: Group, [gender, one, many]: Word, as: Case, random: Random): string {
  const ending = ENDINGS[as][count === 1 ? gender : 'many'];
  const adjectives = [COLOURS[colour]];
  if (size !== 'medium') adjectives.unshift(pick(random, SIZES[size]));
  const number = count === 1 ? ARTICLES[as][gender] : COUNTS[count - 1];
  const noun = count === 1 ? one : as === 'dative' ? dativePlural(many) : many;
  return `${number} ${adjectives.map((stem) => stem + ending).join(' ')} ${noun}`;
}

/** "dem Boot", "der Wolke", "den Booten". */
function definite({ count }: Group, [gender, one, many]: Word): string {
  if (count > 1) return `den ${dativePlural(many)}`;
  return `${gender === 'f' ? 'der' : 'dem'} ${one}`;
}

/** An n more, unless the plural ends in n or s. */
function dativePlural(many: string): string {
  return /[ns]$/.test(many) ? many : `${many}n`;
}

/** `von` and `dem` are one word. */
function related(relation: Relation, object: string): string {
  return `${RELATIONS[relation]} ${object}`.replace(' von dem ', ' vom ');
}

export const GERMAN = new Lexicon();
GERMAN.add({ is: 'filler' }, 'der', 'die', 'das', 'dem', 'den', 'ist', 'sind', 'sieht man', 'zu sehen', 'dazu', 'es gibt');
GERMAN.add({ is: 'break' }, 'und');
for (const [index, word] of COUNTS.entries()) GERMAN.add({ is: 'count', count: index + 1 }, word);
GERMAN.add({ is: 'count', count: 1 }, 'eine', 'einen', 'einem', 'einer', 'eins');
for (const ending of ['', 'e', 'er', 'es', 'en', 'em']) {
  for (const colour of Object.keys(COLOURS) as Colour[]) GERMAN.add({ is: 'colour', colour }, COLOURS[colour] + ending);
  for (const size of ['small', 'large'] as const) GERMAN.add({ is: 'size', size }, ...SIZES[size].map((stem) => stem + ending));
}
GERMAN.add({ is: 'colour', colour: 'orange' }, 'orange');
GERMAN.add({ is: 'colour', colour: 'purple' }, 'lila');
for (const place of Object.keys(PLACES) as Place[]) GERMAN.add({ is: 'place', place }, PLACES[place]);
for (const relation of Object.keys(RELATIONS) as Relation[]) GERMAN.add({ is: 'relation', relation }, RELATIONS[relation]);
for (const relation of ['left', 'right'] as const)
  GERMAN.add({ is: 'relation', relation }, `${PLACES[relation]} vom`, `${PLACES[relation]} neben`);
GERMAN.addAll(HEARD_BACKGROUNDS, (background) => ({ is: 'background', background }));
for (const background of Object.keys(BACKGROUNDS) as Background[])
  for (const stand of ['sky', 'ground'] as const) GERMAN.add({ is: 'background', background }, ...BACKGROUNDS[background][stand]);
for (const nouns of [HEARD, NOUNS])
  for (const [kind, words] of Object.entries(nouns) as [Kind, readonly Word[]][])
    for (const [, one, many] of words) {
      GERMAN.addNoun(kind, [one, many]);
      if (dativePlural(many) !== many) GERMAN.add({ is: 'kind', kind, number: 'many' }, dativePlural(many));
    }
