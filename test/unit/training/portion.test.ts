/** What names the data of a run: whatever changes what a step sees changes the name. */
import { expect, it } from 'vitest';
import { digestPortions, type Portion } from '../../../src/training/portion.js';
import { Sequences } from '../../../src/training/sequence.js';

const IDS = [
  [1, 5, 2],
  [1, 6, 2],
  [1, 7, 8, 2],
];
const KEYS = [['a', 'a mirrored'], ['b']];

function portion(ids: readonly number[][], owners: readonly number[], keys: Portion['keys']): Portion {
  return { examples: [], sequences: new Sequences(ids, owners, 1), keys };
}
const digest = (...portions: readonly Portion[]): string => digestPortions(portions);
const PLAIN = portion(IDS, [0, 0, 1], KEYS);

it('is the same for the same', () => {
  expect(digest(PLAIN)).toBe(digest(portion(IDS, [0, 0, 1], KEYS)));
  expect(digest(PLAIN)).toMatch(/^sha256:[0-9a-f]{64}$/);
});

it.each<[string, readonly Portion[]]>([
  ['a caption of another image', [portion(IDS, [0, 1, 1], KEYS)]],
  [
    'another token',
    [
      portion(
        [
          [1, 5, 2],
          [1, 6, 2],
          [1, 7, 9, 2],
        ],
        [0, 0, 1],
        KEYS,
      ),
    ],
  ],
  [
    'captions cut elsewhere',
    [
      portion(
        [
          [1, 5, 2, 1],
          [6, 2],
          [1, 7, 8, 2],
        ],
        [0, 0, 1],
        KEYS,
      ),
    ],
  ],
  ['captions in another order', [portion(IDS.toReversed(), [0, 0, 1], KEYS)]],
  ['another image', [portion(IDS, [0, 0, 1], [['a', 'a mirrored'], ['c']])]],
  ['fewer views', [portion(IDS, [0, 0, 1], [['a'], ['b']])]],
  ['views of another image', [portion(IDS, [0, 0, 1], [['a'], ['a mirrored', 'b']])]],
  ['another part', [PLAIN, portion(IDS.slice(0, 1), [0], [['a']])]],
  ['nothing', []],
])('is another one for %s', (_, portions) => {
  expect(digest(...portions)).not.toBe(digest(PLAIN));
});
