/** House, boat, car, ball, chair, umbrella. */
import { chance, pick } from '../dice.js';
import { ring, type Shape } from './pen.js';

export const house: Shape = (pen, random) => {
  const steep = chance(random, 0.5);
  if (chance(random, 0.5)) pen.rect(70, steep ? 10 : 20, 11, 32, 'shade');
  pen.rect(11, 44, 78, 55, 'body');
  pen.polygon(`2,48 ${steep ? 50 : 24},6 ${steep ? 50 : 76},6 98,48`, 'shade');
  const door = pick(random, [20, 41, 60]);
  pen.rect(door, 64, 19, 35, 'wood');
  for (const x of [20, 42, 64]) if (Math.abs(x - door) > 10) pen.rect(x, 58, 15, 16, 'glass');
};

export const boat: Shape = (pen, random) => {
  if (chance(random, 0.6)) {
    pen.limb('53,70 53,5', 4, 'wood');
    pen.polygon('58,8 58,62 98,62', 'body');
    if (chance(random, 0.7)) pen.polygon('47,16 47,62 16,62', 'tint');
  } else {
    pen.rect(60, 14, 15, 34, 'body');
    pen.rect(34, 42, 46, 22, 'paper');
    for (const x of [44, 57, 70]) pen.dot(x, 52, 4);
  }
  pen.polygon('2,62 108,62 91,97 20,97', 'body');
  if (chance(random, 0.5)) pen.stroke('10,77 102,77', 4, 'paper');
};

export const car: Shape = (pen, random) => {
  const van = chance(random, 0.3);
  const roof = van ? '8,24 22,10 112,10 138,42' : '8,48 34,44 54,12 108,12 134,44';
  pen.polygon(`4,80 4,56 ${roof} 160,52 166,62 166,80`, 'body');
  pen.polygon(van ? '84,20 108,20 124,42 84,42' : '84,20 104,20 122,44 84,44', 'glass');
  pen.polygon(van ? '26,20 74,20 74,42 26,42' : '58,20 76,20 76,44 46,44', 'glass');
  for (const x of [40, 128]) {
    pen.ellipse(x, 80, 18, 18, 'rubber');
    pen.dot(x, 80, 7, 'paper');
  }
};

export const ball: Shape = (pen, random) => {
  pen.ellipse(50, 50, 48, 48, 'body');
  switch (pick(random, ['stripe', 'seams', 'panels', 'belt'])) {
    case 'stripe':
      pen.stroke('5,42 50,54 95,42', 8, 'paper');
      pen.stroke('8,64 50,76 92,64', 8, 'paper');
      break;
    case 'seams':
      pen.stroke('50,4 50,96');
      pen.stroke('20,14 36,50 20,86');
      pen.stroke('80,14 64,50 80,86');
      break;
    case 'panels':
      for (const [x, y] of ring(50, 50, 46, 46, 3, 20))
        pen.stroke(`50,50 ${(50 + x) / 2 + 6},${(50 + y) / 2} ${x},${y}`, 5, 'paper');
      break;
    default:
      pen.stroke('5,50 50,58 95,50', 13, 'shade');
      pen.dot(34, 28, 6, 'paper');
  }
};

export const chair: Shape = (pen, random) => {
  // Front legs, seat and one tall back: from the side, as everybody draws it.
  pen.limb('8,98 12,56', 7, 'body');
  pen.limb('62,98 60,56', 7, 'body');
  pen.limb('24,88 24,56', 5, 'shade');
  pen.limb('50,88 50,56', 5, 'shade');
  if (chance(random, 0.5)) pen.polygon('4,4 20,4 20,54 8,54', 'body');
  else {
    pen.limb('8,6 12,56', 8, 'body');
    pen.limb('8,8 30,4 30,50', 6, 'body');
    pen.stroke('10,20 30,18', 5, 'body');
    pen.stroke('10,34 30,32', 5, 'body');
  }
  pen.polygon('4,50 60,50 68,62 6,62', 'body');
};

export const umbrella: Shape = (pen, random) => {
  const hook = chance(random, 0.5) ? '55,97 63,95 65,87' : '45,97 37,95 35,87';
  pen.limb(`50,6 50,50 50,90 ${hook}`, 4, 'wood');
  pen.blob('2,54 10,30 28,13 50,8 72,13 90,30 98,54 82,47 66,54 50,47 34,54 18,47', 'body');
  pen.stroke('50,9 40,26 34,52', 3, 'shade');
  pen.stroke('50,9 60,26 66,52', 3, 'shade');
};
