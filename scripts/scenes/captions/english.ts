/** English sentences. The words are a table, so that another way of speaking is another table. */
import { chance, pick, type Random } from '../../../src/scenes/dice.js';
import type { Background, Colour, Group, Kind, Place, Relation, Size, Stand } from '../../../src/scenes/world.js';
import { Lexicon, type Noun } from './lexicon.js';
import { converse, type Fact, type Plan, wordsFor } from './plan.js';

export interface Dialect {
  /** What it says; one of them is drawn each time. */
  readonly nouns: Readonly<Record<Kind, readonly Noun[]>>;
  readonly colours: Readonly<Record<Colour, readonly string[]>>;
  readonly sizes: Readonly<Record<Exclude<Size, 'medium'>, readonly string[]>>;
  readonly relations: Readonly<Record<Relation, readonly string[]>>;
  readonly places: Readonly<Record<Place, readonly string[]>>;
  /** Where things are that stand in a background, and those above it. */
  readonly backgrounds: Readonly<Record<Background, Readonly<Record<Stand, readonly string[]>>>>;
  /** What a sentence begins with, with its comma. */
  readonly openers: readonly string[];
  readonly end: string;
  /** What it never says, and the judge understands all the same. */
  readonly heard: {
    readonly nouns: Partial<Readonly<Record<Kind, readonly Noun[]>>>;
    readonly sizes: Dialect['sizes'];
    readonly relations: Partial<Dialect['relations']>;
    readonly places: Partial<Dialect['places']>;
    readonly backgrounds: Readonly<Record<Background, readonly string[]>>;
    readonly fillers: readonly string[];
  };
}

export const COUNTS = ['one', 'two', 'three', 'four', 'five'] as const;

export const ENGLISH: Dialect = {
  nouns: {
    house: [['house', 'houses']],
    tree: [['tree', 'trees']],
    boat: [
      ['boat', 'boats'],
      ['boat', 'boats'],
      ['ship', 'ships'],
    ],
    car: [['car', 'cars']],
    sun: [['sun', 'suns']],
    moon: [['moon', 'moons']],
    star: [['star', 'stars']],
    cloud: [['cloud', 'clouds']],
    cat: [['cat', 'cats']],
    dog: [['dog', 'dogs']],
    bird: [['bird', 'birds']],
    fish: [['fish', 'fish']],
    ball: [['ball', 'balls']],
    flower: [['flower', 'flowers']],
    person: [['person', 'people']],
    chair: [['chair', 'chairs']],
    umbrella: [['umbrella', 'umbrellas']],
    mushroom: [['mushroom', 'mushrooms']],
  },
  colours: {
    red: ['red'],
    orange: ['orange'],
    yellow: ['yellow'],
    green: ['green'],
    blue: ['blue'],
    purple: ['purple'],
    white: ['white'],
    black: ['black'],
  },
  sizes: { small: ['small', 'small', 'little', 'tiny'], large: ['big', 'large'] },
  relations: {
    left: ['to the left of', 'left of'],
    right: ['to the right of', 'right of'],
    above: ['above', 'over'],
    below: ['below', 'under', 'beneath'],
    front: ['in front of'],
    behind: ['behind'],
    beside: ['beside', 'next to'],
  },
  places: {
    left: ['on the left'],
    middle: ['in the middle'],
    right: ['on the right'],
    top: ['at the top'],
    bottom: ['at the bottom'],
  },
  backgrounds: {
    sea: { ground: ['on the sea', 'at sea', 'on the water'], sky: ['over the sea', 'above the sea'] },
    meadow: { ground: ['in a meadow', 'on the grass'], sky: ['over a meadow', 'above a meadow'] },
    city: { ground: ['in the city', 'in town', 'in a street'], sky: ['over the city', 'above the city'] },
    night: { ground: ['at night', 'in the dark'], sky: ['at night', 'in the night sky'] },
    snow: { ground: ['in the snow', 'on the snow'], sky: ['over the snow', 'above the snow'] },
    desert: { ground: ['in the desert', 'on the sand'], sky: ['over the desert', 'above the desert'] },
    room: { ground: ['in a room', 'indoors'], sky: ['in a room', 'indoors'] },
  },
  openers: [''],
  end: '.',
  heard: {
    nouns: {
      house: [
        ['home', 'homes'],
        ['hut', 'huts'],
        ['cottage', 'cottages'],
        ['building', 'buildings'],
      ],
      boat: [
        ['ship', 'ships'],
        ['sailboat', 'sailboats'],
      ],
      cat: [['kitten', 'kittens']],
      dog: [['puppy', 'puppies']],
      fish: [['fish', 'fishes']],
      person: [
        ['man', 'men'],
        ['woman', 'women'],
        ['figure', 'figures'],
        ['human', 'humans'],
        ['person', 'persons'],
      ],
      umbrella: [['parasol', 'parasols']],
      mushroom: [['toadstool', 'toadstools']],
    },
    sizes: { small: ['wee'], large: ['huge', 'great', 'giant'] },
    relations: {
      left: ['on the left of', 'on the left side of'],
      right: ['on the right of', 'on the right side of'],
      above: ['on top of'],
      below: ['underneath'],
      beside: ['by', 'near', 'at the side of'],
    },
    places: { left: ['at the left'], middle: ['in the center', 'in the centre'], right: ['at the right'] },
    backgrounds: {
      sea: ['sea', 'the sea', 'ocean', 'water'],
      meadow: ['meadow', 'grass', 'field'],
      city: ['city', 'town', 'street', 'over the town'],
      night: ['night', 'dark', 'by night'],
      snow: ['snow'],
      desert: ['desert', 'sand'],
      room: ['room', 'in the room', 'inside'],
    },
    fillers: ['the', 'there', 'is', 'are', 'with', 'it', 'its', 'of', 'in', 'on', 'at', 'we', 'see', 'i'],
  },
};

/** A sentence that says all of the plan. */
export function sentence(dialect: Dialect, plan: Plan, random: Random): string {
  const { first, place, facts, scene } = plan;
  const where = pick(random, dialect.backgrounds[scene.background][first.stand]);
  const nouns = wordsFor(dialect.nouns, scene, random);
  const what = phrase(first);
  const [near, far] = facts;
  return `${pick(random, dialect.openers)}${near === undefined ? alone() : together(near)}${dialect.end}`;

  function alone(): string {
    const at = place === null ? '' : pick(random, dialect.places[place]);
    return pick(random, [
      `${what} ${where}, ${at}`,
      `${what} ${at}, ${where}`,
      `${at}, ${what} ${where}`,
      `${where}, there ${verb(first)} ${what} ${at}`,
    ]);
  }

  function together(fact: Fact): string {
    const beside = related(fact, phrase(fact.object));
    return `${pick(random, [
      `${what} ${where}, ${beside}`,
      `${where}, ${what} ${beside}`,
      `${where}, there ${verb(first)} ${what} ${beside}`,
      `${where}, ${related(converse(fact), what)}, ${verb(fact.object)} ${phrase(fact.object)}`,
    ])}${far === undefined ? '' : third(far)}`;
  }

  function third({ subject, relation, object }: Fact): string {
    const link = chance(random, 0.5) ? 'and' : 'with';
    return `, ${link} ${phrase(subject)} ${related({ relation }, definite(object, nouns(object.kind)))}`;
  }

  function related({ relation }: Pick<Fact, 'relation'>, object: string): string {
    return `${pick(random, dialect.relations[relation])} ${object}`;
  }

  /** "two small red boats". */
  function phrase({ kind, colour, size, count }: Group): string {
    const words = [pick(random, dialect.colours[colour]), numbered(nouns(kind), count)];
    if (size !== 'medium') words.unshift(pick(random, dialect.sizes[size]));
    return counted(count, words.join(' '));
  }
}

/** With its number, or with "a" or "an". */
export function counted(count: number, words: string): string {
  return count === 1 ? `${/^[aeiou]/.test(words) ? 'an' : 'a'} ${words}` : `${COUNTS[count - 1]} ${words}`;
}

export function numbered([one, many]: Noun, count: number): string {
  return count === 1 ? one : many;
}

export function definite({ count }: Group, noun: Noun): string {
  return `the ${numbered(noun, count)}`;
}

export const verb = ({ count }: Group): string => (count === 1 ? 'is' : 'are');

export function lexiconOf(dialect: Dialect): Lexicon {
  const lexicon = new Lexicon();
  const { heard } = dialect;
  lexicon.add({ is: 'filler' }, ...heard.fillers);
  lexicon.add({ is: 'break' }, 'and');
  for (const [index, word] of COUNTS.entries()) lexicon.add({ is: 'count', count: index + 1 }, word);
  lexicon.add({ is: 'count', count: 1 }, 'a', 'an', 'single');
  lexicon.add({ is: 'count', count: 2 }, 'a pair of', 'a couple of');
  lexicon.addAll(dialect.colours, (colour) => ({ is: 'colour', colour }));
  for (const sizes of [heard.sizes, dialect.sizes]) lexicon.addAll(sizes, (size) => ({ is: 'size', size }));
  for (const relations of [heard.relations, dialect.relations])
    lexicon.addAll(relations as Dialect['relations'], (relation) => ({ is: 'relation', relation }));
  for (const places of [heard.places, dialect.places])
    lexicon.addAll(places as Dialect['places'], (place) => ({ is: 'place', place }));
  lexicon.addAll(heard.backgrounds, (background) => ({ is: 'background', background }));
  for (const stand of ['sky', 'ground'] as const)
    for (const background of Object.keys(dialect.backgrounds) as Background[])
      lexicon.add({ is: 'background', background }, ...dialect.backgrounds[background][stand]);
  for (const nouns of [heard.nouns, dialect.nouns])
    for (const [kind, words] of Object.entries(nouns) as [Kind, readonly Noun[]][])
      for (const noun of words) lexicon.addNoun(kind, noun);
  return lexicon;
}
