/** Sun, moon, star, cloud. */
import { between, chance, pick } from '../dice.js';
import { type Point, ring, type Shape } from './pen.js';

export const sun: Shape = (pen, random) => {
  const rays = pick(random, [8, 9, 10, 12]);
  const outer = ring(50, 50, 49, 49, rays, 7);
  const narrow = chance(random, 0.5);
  if (narrow) {
    for (const [x, y] of outer) pen.limb(`${50 + (x - 50) * 0.62},${50 + (y - 50) * 0.62} ${x},${y}`, 6, 'body');
  } else {
    const inner = ring(50, 50, 31, 31, rays, 7 + 180 / rays);
    pen.polygon(
      outer.flatMap((point, index) => [point, inner[index] as Point]),
      'body',
    );
  }
  pen.ellipse(50, 50, narrow ? 25 : 27, narrow ? 25 : 27, 'body');
  if (chance(random, 0.4)) {
    pen.dot(41, 45, 3.4);
    pen.dot(59, 45, 3.4);
    pen.stroke('38,56 50,63 62,56', 3);
  }
};

/** Always a crescent: a full one is a ball. */
export const moon: Shape = (pen, random) => {
  const arc = (x: number, radius: number, from: number, to: number): Point[] =>
    Array.from({ length: 9 }, (_, index) => {
      const angle = ((from + ((to - from) * index) / 8) * Math.PI) / 180;
      return [x + radius * Math.cos(angle), 50 + radius * Math.sin(angle)];
    });
  // Two circles through the same horns.
  const inner = between(random, 42, 45);
  const horn = 48 * Math.sin((60 * Math.PI) / 180);
  const x = 50 + 48 * Math.cos((60 * Math.PI) / 180) + Math.sqrt(inner ** 2 - horn ** 2);
  const reach = (Math.asin(horn / inner) * 180) / Math.PI;
  pen.polygon([...arc(50, 48, 300, 60), ...arc(x, inner, 180 - reach, 180 + reach)], 'body');
  if (chance(random, 0.35)) pen.dot(17, 40, 3.2);
};

export const star: Shape = (pen, random) => {
  const outer = ring(50, 52, 50, 50, 5, -90);
  const reach = between(random, 20, 25);
  const inner = ring(50, 52, reach, reach, 5, -54);
  pen.polygon(
    outer.flatMap((point, index) => [point, inner[index] as Point]),
    'body',
  );
};

export const cloud: Shape = (pen, random) => {
  const bumps: readonly (readonly [x: number, y: number, radius: number])[] = [
    [27, 68, 25],
    [62, between(random, 40, 50), between(random, 30, 38)],
    [102, between(random, 44, 58), between(random, 26, 32)],
    [134, 71, 23],
  ];
  // The upper edge of the circles, sampled, over a flat base.
  const edge = Array.from({ length: 45 }, (_, index): Point => {
    const x = 2 + (index * 155) / 44;
    const tops = bumps.map(([cx, cy, r]) => (Math.abs(x - cx) < r ? cy - Math.sqrt(r ** 2 - (x - cx) ** 2) : 90));
    return [x, Math.max(3, Math.min(...tops))];
  });
  pen.polygon([[8, 94], ...edge, [152, 94]], 'body');
  if (chance(random, 0.5)) pen.stroke('46,72 58,64 72,68', 4, 'shade');
};
