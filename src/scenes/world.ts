/**
 * What there is in the world of drawn scenes: the kinds of things, how they may look, where they may be, and how they stand to each other.
 * Every colour, count and size goes with every kind, and a background only leans towards the kinds that are at home there, so that
 * nothing can be guessed: whoever names a thing has seen it.
 */

/** What people speak of first comes first: who is there, then what was made, what grows, and what hangs in the sky. */
export const KINDS = [
  'person',
  'dog',
  'cat',
  'bird',
  'fish',
  'car',
  'boat',
  'house',
  'umbrella',
  'chair',
  'ball',
  'tree',
  'flower',
  'mushroom',
  'sun',
  'moon',
  'star',
  'cloud',
] as const;
export type Kind = (typeof KINDS)[number];

export const COLOURS = ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'white', 'black'] as const;
export type Colour = (typeof COLOURS)[number];

/** How much of the picture a thing fills; `medium` goes without saying. */
export const SIZES = ['small', 'medium', 'large'] as const;
export type Size = (typeof SIZES)[number];

export const BACKGROUNDS = ['sea', 'meadow', 'city', 'night', 'snow', 'desert', 'room'] as const;
export type Background = (typeof BACKGROUNDS)[number];

export const PLACES = ['left', 'middle', 'right', 'top', 'bottom'] as const;
export type Place = (typeof PLACES)[number];

/** The subject's to the object: `left` is "left of". */
export const RELATIONS = ['left', 'right', 'above', 'below', 'front', 'behind', 'beside'] as const;
export type Relation = (typeof RELATIONS)[number];

/** What carries a thing: the ground (in a room the floor, at sea the water), or nothing. */
export type Stand = 'ground' | 'sky';

/** Fractions of the picture's edge, from its top left corner. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** Things of one kind that are alike and together. */
export interface Group {
  readonly kind: Kind;
  readonly colour: Colour;
  readonly size: Size;
  readonly stand: Stand;
  /** As many as there are items. */
  readonly count: number;
  /** Around all items. */
  readonly box: Box;
  /** One a thing. */
  readonly items: readonly Box[];
}

/** All that is true of a picture. No two groups are of one kind; they stand in the order of `KINDS`. */
export interface Scene {
  readonly background: Background;
  /** Where sky and ground meet, as a fraction of the height. */
  readonly horizon: number;
  readonly groups: readonly Group[];
}

export const MAX_COUNT = 5;
export const MAX_GROUPS = 3;

export interface Nature {
  /** Width by height. */
  readonly aspect: number;
  readonly stands: readonly Stand[];
  /** Where it is met more often than elsewhere. */
  readonly homes: readonly Background[];
  /** Degrees by which it may lean. */
  readonly lean: number;
}

export const NATURES: Readonly<Record<Kind, Nature>> = {
  house: { aspect: 1, stands: ['ground'], homes: ['city', 'meadow', 'snow', 'night'], lean: 2 },
  tree: { aspect: 0.8, stands: ['ground'], homes: ['meadow', 'city', 'snow'], lean: 4 },
  boat: { aspect: 1.1, stands: ['ground'], homes: ['sea'], lean: 4 },
  car: { aspect: 1.7, stands: ['ground'], homes: ['city', 'desert', 'night'], lean: 3 },
  sun: { aspect: 1, stands: ['sky'], homes: ['desert', 'sea', 'meadow'], lean: 20 },
  moon: { aspect: 0.77, stands: ['sky'], homes: ['night', 'desert', 'sea'], lean: 8 },
  star: { aspect: 1, stands: ['sky'], homes: ['night', 'snow'], lean: 12 },
  cloud: { aspect: 1.6, stands: ['sky'], homes: ['sea', 'meadow', 'city'], lean: 3 },
  cat: { aspect: 0.85, stands: ['ground'], homes: ['room', 'city', 'night'], lean: 3 },
  dog: { aspect: 1.25, stands: ['ground'], homes: ['room', 'meadow', 'snow'], lean: 3 },
  bird: { aspect: 1.25, stands: ['ground', 'sky', 'sky'], homes: ['sea', 'city', 'snow'], lean: 6 },
  fish: { aspect: 1.65, stands: ['ground'], homes: ['sea'], lean: 6 },
  ball: { aspect: 1, stands: ['ground', 'ground', 'sky'], homes: ['room', 'meadow'], lean: 40 },
  flower: { aspect: 0.62, stands: ['ground'], homes: ['meadow', 'room', 'desert'], lean: 6 },
  person: { aspect: 0.5, stands: ['ground'], homes: ['city', 'snow', 'room', 'desert'], lean: 3 },
  chair: { aspect: 0.72, stands: ['ground'], homes: ['room'], lean: 2 },
  umbrella: { aspect: 1, stands: ['ground', 'sky'], homes: ['city', 'sea', 'desert'], lean: 8 },
  mushroom: { aspect: 1, stands: ['ground'], homes: ['meadow', 'night'], lean: 5 },
};
