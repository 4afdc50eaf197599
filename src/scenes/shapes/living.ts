/** Tree, flower, mushroom, person. */
import { chance, pick } from '../dice.js';
import { type Point, ring, type Shape } from './pen.js';

export const tree: Shape = (pen, random) => {
  pen.polygon('34,99 36,56 44,56 46,99', 'wood');
  switch (pick(random, ['fir', 'round', 'bushy'])) {
    case 'fir':
      pen.polygon('4,84 40,48 76,84', 'body');
      pen.polygon('10,60 40,24 70,60', 'body');
      pen.polygon('18,38 40,2 62,38', 'body');
      break;
    case 'round':
      pen.ellipse(40, 36, 37, 34, 'body');
      break;
    default: {
      const leaves = ring(40, 37, 37, 34, 16);
      pen.blob(
        leaves.map(([x, y], index): Point => (index % 2 === 0 ? [x, y] : [40 + (x - 40) * 0.84, 37 + (y - 37) * 0.84])),
        'body',
      );
    }
  }
};

export const flower: Shape = (pen, random) => {
  pen.limb('31,50 29,75 31,98', 5, 'leaf');
  const side = pick(random, [-1, 1]);
  pen.blob(`31,86 ${31 + side * 12},70 ${31 + side * 26},66 ${31 + side * 20},82`, 'leaf');
  if (chance(random, 0.3)) {
    pen.blob('10,8 21,20 31,5 41,20 52,8 55,34 44,52 31,56 18,52 7,34', 'body');
    return;
  }
  const petals = pick(random, [5, 6, 7]);
  for (const [index, [x, y]] of ring(31, 30, 18, 18, petals, -90).entries())
    pen.ellipse(x, y, 13, petals > 5 ? 8 : 10, 'body', -90 + (index * 360) / petals);
  pen.ellipse(31, 30, 9, 9, pick(random, ['paper', 'beak']));
};

export const mushroom: Shape = (pen, random) => {
  pen.blob('36,52 64,52 66,78 72,96 50,99 28,96 34,78', 'paper');
  pen.blob('2,54 8,28 28,9 50,4 72,9 92,28 98,54 74,60 50,61 26,60', 'body');
  if (chance(random, 0.25)) return;
  pen.dot(28, 32, 7, 'paper');
  pen.dot(55, 20, 8, 'paper');
  pen.dot(76, 40, 7, 'paper');
  pen.dot(48, 46, 6, 'paper');
};

export const person: Shape = (pen, random) => {
  const dress = chance(random, 0.45);
  for (const x of [19, 31]) pen.limb(`${x},64 ${x},95`, 8, dress ? 'skin' : 'shade');
  pen.limb('15,36 6,46 3,60', 7, 'body');
  pen.limb(chance(random, 0.3) ? '35,36 45,44 47,20' : '35,36 45,44 47,60', 7, 'body');
  pen.polygon(dress ? '16,30 34,30 46,78 4,78' : '11,31 39,31 38,70 12,70', 'body');
  if (chance(random, 0.4)) pen.blob('11,20 12,6 25,1 38,6 39,20 41,34 9,34', 'wood');
  pen.ellipse(25, 16, 12.5, 13.5, 'skin');
  if (chance(random, 0.7)) pen.blob('12,13 15,3 25,0 35,3 38,13 25,8', pick(random, ['wood', 'rubber', 'body']));
  for (const x of [20.5, 29.5]) pen.dot(x, 17, 1.9, 'rubber');
};
