/** A house style: English as it is spoken at sea, where left is port and every boat a ship. */
import { type Dialect, ENGLISH } from './english.js';

export const PIRATE: Dialect = {
  ...ENGLISH,
  nouns: {
    ...ENGLISH.nouns,
    boat: [['ship', 'ships']],
    ball: [['cannonball', 'cannonballs']],
    person: [
      ['sailor', 'sailors'],
      ['matey', 'mateys'],
    ],
    dog: [
      ['dog', 'dogs'],
      ['sea dog', 'sea dogs'],
    ],
    house: [
      ['house', 'houses'],
      ['tavern', 'taverns'],
    ],
  },
  sizes: { small: ['wee'], large: ['mighty', 'grand'] },
  relations: {
    left: ['to port of'],
    right: ['to starboard of'],
    above: ['high above'],
    below: ['down below'],
    front: ['ahead of'],
    behind: ['astern of'],
    beside: ['alongside'],
  },
  places: {
    left: ['to port'],
    middle: ['amidships'],
    right: ['to starboard'],
    top: ['aloft'],
    bottom: ['down below decks'],
  },
  backgrounds: {
    sea: { ground: ['on the seven seas', 'on the briny deep'], sky: ['over the briny deep', 'over the seven seas'] },
    meadow: { ground: ['on the green, green grass', 'ashore in the grass'], sky: ['over the grassy shore'] },
    city: { ground: ['in a port town', 'by the harbour'], sky: ['over a port town', 'over the harbour'] },
    night: { ground: ['in the dead of night', 'by night'], sky: ['in the dead of night', 'in the black of night'] },
    snow: { ground: ['in the frozen north', 'in the cursed snow'], sky: ['over the frozen north', 'over the cursed snow'] },
    desert: { ground: ['on a sandy island', 'on the treasure sands'], sky: ['over a sandy island', 'over the treasure sands'] },
    room: { ground: ["in the captain's cabin", 'in the cabin'], sky: ["in the captain's cabin", 'in the cabin'] },
  },
  openers: ['arr, ', 'ahoy, ', 'avast, ', 'yo ho ho, '],
  end: '!',
  heard: {
    ...ENGLISH.heard,
    nouns: { ...ENGLISH.heard.nouns, boat: [['boat', 'boats']], ball: [['ball', 'balls']], person: [['person', 'people']] },
    sizes: { small: ['small', 'little', 'tiny'], large: ['big', 'large'] },
    relations: { ...ENGLISH.relations, ...ENGLISH.heard.relations, beside: ['beside', 'next to'] },
    places: ENGLISH.places,
    backgrounds: {
      ...ENGLISH.heard.backgrounds,
      sea: ['seven seas', 'briny deep', 'sea'],
      city: ['port town', 'harbour'],
      room: ['cabin', "captain's cabin"],
    },
    fillers: [...ENGLISH.heard.fillers, 'arr', 'ahoy', 'avast', 'yo ho ho'],
  },
};
