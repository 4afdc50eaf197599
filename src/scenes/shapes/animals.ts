/** Cat, dog, bird, fish. The cat sits and looks at you, the dog stands and looks aside: at a glance nobody takes one for the other. */
import { chance } from '../dice.js';
import type { Shape } from './pen.js';

export const cat: Shape = (pen, random) => {
  pen.limb('58,92 78,88 80,70 74,60', 8, 'body');
  pen.blob('42,38 60,56 68,86 60,98 24,98 16,86 24,56', 'body');
  pen.polygon('16,28 13,2 34,14', 'body');
  pen.polygon('68,28 71,2 50,14', 'body');
  pen.ellipse(42, 31, 29, 24, 'body');
  if (chance(random, 0.5)) pen.ellipse(42, 78, 11, 15, 'tint');
  for (const x of [31, 53]) pen.dot(x, 28, 4.2);
  pen.polygon('38,36 46,36 42,41', 'ink');
  for (const side of [-1, 1]) for (const y of [36, 42]) pen.stroke(`${42 + side * 14},39 ${42 + side * 40},${y}`, 2);
  pen.stroke('34,97 34,84', 2.5, 'shade');
  pen.stroke('50,97 50,84', 2.5, 'shade');
};

export const dog: Shape = (pen, random) => {
  pen.limb(chance(random, 0.5) ? '18,48 8,34 10,16' : '18,48 8,34 3,22', 8, 'body');
  for (const x of [32, 78]) pen.limb(`${x},66 ${x},95`, 11, 'shade');
  for (const x of [22, 88]) pen.limb(`${x},66 ${x},95`, 11, 'body');
  pen.blob('14,46 50,42 88,40 98,56 92,72 54,70 20,76 12,62', 'body');
  pen.blob('80,48 82,20 96,10 108,20 122,30 122,40 106,44 100,58', 'body');
  pen.blob('84,14 95,14 93,38 83,46 77,34', 'shade');
  pen.dot(104, 24, 3.8);
  pen.ellipse(121, 31, 4.5, 4, 'ink');
  if (chance(random, 0.5)) pen.stroke('84,50 92,55 101,54', 5, 'paper');
};

export const bird: Shape = (pen, random) => {
  const flies = chance(random, 0.4);
  pen.polygon('26,56 2,42 4,66', 'shade');
  if (!flies) for (const x of [56, 68]) pen.stroke(`${x},78 ${x + 2},97 ${x + 9},97`, 4, 'beak');
  pen.polygon('104,28 124,36 104,42', 'beak');
  pen.blob('18,52 44,40 74,30 80,14 98,10 110,24 106,44 98,66 74,84 44,80 26,66', 'body');
  if (flies) pen.blob('78,48 60,26 28,2 34,32 46,56 62,64', 'shade');
  else pen.blob('78,48 56,48 28,62 44,70 66,68', 'shade');
  pen.dot(96, 25, 4.4);
};

export const fish: Shape = (pen, random) => {
  pen.polygon('44,50 4,12 14,50 4,88', 'shade');
  pen.blob('70,26 84,4 108,6 112,24', 'shade');
  pen.blob('34,50 62,24 104,12 144,28 162,50 144,72 104,88 62,76', 'body');
  pen.stroke('122,26 114,50 122,74', 4, 'shade');
  if (chance(random, 0.5)) for (const x of [66, 86]) pen.stroke(`${x},34 ${x - 6},50 ${x},66`, 4, 'tint');
  pen.dot(140, 42, 7.5, 'paper');
  pen.dot(141, 42, 4.2, 'rubber');
  pen.stroke('158,58 148,60', 3);
};
