/**
 * What is behind everything: pale or dull tones that none of the named colours has, and details too faint to be taken for a thing.
 * All in hundredths of the picture's edge, with some to spare on every side for the shift when the picture is taken.
 */
import { between, chance, pick, type Random } from '../dice.js';
import type { Background } from '../world.js';
import { number, type Point, smooth } from './pen.js';
import { css, lighter, type Tone, tint, tintOf, tone } from './tone.js';

export interface Backdrop {
  readonly svg: string;
  readonly sky: Tone;
  readonly ground: Tone;
}

type Painter = (random: Random, horizon: number) => Backdrop;

/** Beyond the edges. */
const [LOW, HIGH] = [-6, 106];
const WIDTH = HIGH - LOW;

export function drawBackdrop(background: Background, horizon: number, random: Random): Backdrop {
  return PAINTERS[background](random, horizon * 100);
}

const DAY = [
  [
    [198, 212],
    [40, 60],
    [82, 89],
  ],
  [
    [198, 212],
    [40, 60],
    [82, 89],
  ],
  [
    [15, 35],
    [50, 70],
    [84, 90],
  ],
  [
    [205, 230],
    [6, 14],
    [80, 88],
  ],
  [
    [46, 54],
    [45, 60],
    [88, 92],
  ],
] as const;

const PAINTERS: Readonly<Record<Background, Painter>> = {
  sea(random, horizon) {
    const [sky, ground] = [tintOf(random, DAY), tint(random, [186, 204], [28, 44], [56, 68])];
    const waves = lines(random, horizon + 4, HIGH, between(random, 5, 8), 8, lighter(ground, pick(random, [10, 14, -8])));
    return { sky, ground, svg: heaven(sky, random) + rect(horizon, ground) + waves };
  },
  meadow(random, horizon) {
    const [sky, ground] = [tintOf(random, DAY), tint(random, [82, 108], [30, 42], [66, 76])];
    const hills = chance(random, 0.6) ? ridge(random, horizon, 7, lighter(ground, -7)) : '';
    const blades = scatter(
      random,
      26,
      horizon + 4,
      (x, y) => `M${number(x)} ${number(y)}l-.6-2.2M${number(x + 1)} ${number(y)}l.5-2.4`,
    );
    const grass = `<path d="${blades}" stroke="${css(lighter(ground, -14))}" stroke-width=".5" fill="none"/>`;
    return { sky, ground, svg: heaven(sky, random) + hills + rect(horizon, ground) + grass };
  },
  city(random, horizon) {
    const [sky, ground] = [tintOf(random, DAY), tint(random, [210, 250], [3, 8], [58, 70])];
    const lane = (horizon + HIGH) / 2;
    const dashes = `<path d="M${LOW} ${number(lane)}H${HIGH}" stroke="${css(lighter(ground, 18))}" stroke-width="1.2" stroke-dasharray="8 6"/>`;
    const kerb = `<path d="M${LOW} ${number(horizon)}H${HIGH}" stroke="${css(lighter(ground, -12))}" stroke-width="1.2"/>`;
    return { sky, ground, svg: heaven(sky, random) + skyline(random, horizon, sky) + rect(horizon, ground) + kerb + dashes };
  },
  night(random, horizon) {
    const [sky, ground] = [tint(random, [225, 255], [28, 46], [15, 24]), tint(random, [200, 245], [14, 26], [26, 34])];
    const hills = chance(random, 0.5) ? ridge(random, horizon, 8, lighter(ground, -6)) : '';
    const sparks = scatter(random, 22, LOW, (x, y) => (y < horizon - 2 ? `M${number(x)} ${number(y)}h.01` : ''));
    const dust = `<path d="${sparks}" stroke="#cfd6ee" stroke-opacity=".6" stroke-width=".55" stroke-linecap="round"/>`;
    return { sky, ground, svg: heaven(sky, random) + dust + hills + rect(horizon, ground) };
  },
  snow(random, horizon) {
    const sky = tint(random, [205, 225], [14, 30], [70, 82]);
    const ground = tint(random, [200, 215], [16, 30], [90, 94]);
    const drifts =
      ridge(random, horizon, 5, lighter(ground, -6)) +
      rect(horizon, ground) +
      ridge(random, (horizon + 110) / 2, 4, lighter(ground, 3));
    const flakes = scatter(random, 34, LOW, (x, y) => `M${number(x)} ${number(y)}h.01`);
    const fall = `<path d="${flakes}" stroke="#fff" stroke-opacity=".9" stroke-width="1.3" stroke-linecap="round"/>`;
    return { sky, ground, svg: heaven(sky, random) + drifts + fall };
  },
  desert(random, horizon) {
    const [sky, ground] = [tintOf(random, DAY), tint(random, [34, 42], [42, 58], [70, 78])];
    const dunes =
      ridge(random, horizon, 9, lighter(ground, -6)) +
      rect(horizon, ground) +
      ridge(random, (horizon + 106) / 2, 6, lighter(ground, 4));
    return { sky, ground, svg: heaven(sky, random) + dunes + lines(random, horizon + 6, HIGH, 9, 5, lighter(ground, -8)) };
  },
  room(random, horizon) {
    const sky = tint(random, [0, 360], [10, 22], [80, 88]);
    const ground = tint(random, [24, 34], [24, 34], [52, 64]);
    const step = between(random, 7, 14);
    const stripes = Array.from(
      { length: Math.ceil(WIDTH / step) },
      (_, index) => `M${number(LOW + index * step)} ${LOW}V${number(horizon)}`,
    );
    const paper = chance(random, 0.55)
      ? `<path d="${stripes.join('')}" stroke="${css(lighter(sky, pick(random, [4, -5])))}" stroke-width="${number(step * pick(random, [0.12, 0.5]))}"/>`
      : '';
    const skirting = `<path d="M${LOW} ${number(horizon)}H${HIGH}" stroke="${css(tone(35, 20, 93))}" stroke-width="2.4"/>`;
    return { sky, ground, svg: heaven(sky, random) + paper + rect(horizon, ground) + boards(random, horizon, ground) + skirting };
  },
};

/** The sky or the wall, down to the bottom edge. */
function heaven(sky: Tone, random: Random): string {
  if (chance(random, 0.4)) return rect(LOW, sky);
  const stops = [lighter(sky, -5), lighter(sky, 5)].map(
    (colour, index) => `<stop offset="${index}" stop-color="${css(colour)}"/>`,
  );
  return `<defs><linearGradient id="heaven" x2="0" y2="1">${stops.join('')}</linearGradient></defs><rect x="${LOW}" y="${LOW}" width="${WIDTH}" height="${WIDTH}" fill="url(#heaven)"/>`;
}

function rect(top: number, fill: Tone): string {
  return `<rect x="${LOW}" y="${number(top)}" width="${WIDTH}" height="${number(HIGH - top)}" fill="${css(fill)}"/>`;
}

/** Hills, dunes, drifts: a soft edge about a height, filled below. */
function ridge(random: Random, height: number, swing: number, fill: Tone): string {
  const points = Array.from({ length: 6 }, (_, index): Point => [LOW + (index * WIDTH) / 5, height - between(random, 0, swing)]);
  return `<path d="${smooth(points, false)}V${HIGH}H${LOW}Z" fill="${css(fill)}"/>`;
}

/** Short level strokes: waves, ripples. */
function lines(random: Random, top: number, bottom: number, step: number, length: number, colour: Tone): string {
  const strokes: string[] = [];
  for (let y = top; y < bottom; y += step)
    for (let x = LOW + between(random, 0, 14); x < HIGH; x += between(random, length * 1.6, length * 4))
      strokes.push(`M${number(x)} ${number(y)}q${length / 4}-1.6 ${length / 2} 0t${length / 2} 0`);
  return `<path d="${strokes.join('')}" stroke="${css(colour)}" stroke-width=".8" fill="none" stroke-linecap="round"/>`;
}

function scatter(random: Random, count: number, top: number, mark: (x: number, y: number) => string): string {
  return Array.from({ length: count }, () => mark(between(random, LOW, HIGH), between(random, top, HIGH))).join('');
}

/** Far blocks, hardly darker than the sky. */
function skyline(random: Random, horizon: number, sky: Tone): string {
  const blocks: string[] = [];
  const fill = css(tone(sky.h, Math.min(14, sky.s), sky.l - between(random, 9, 14)));
  const lit = css(tone(sky.h, Math.min(14, sky.s), sky.l - 4));
  for (let x = LOW; x < HIGH; ) {
    const [width, height] = [between(random, 9, 16), between(random, 10, 30)];
    blocks.push(
      `<rect x="${number(x)}" y="${number(horizon - height)}" width="${number(width + 0.3)}" height="${number(height)}" fill="${fill}"/>`,
    );
    const windows = `M${number(x + width * 0.3)} ${number(horizon - height + 3)}V${number(horizon)}M${number(x + width * 0.7)} ${number(horizon - height + 3)}V${number(horizon)}`;
    blocks.push(`<path d="${windows}" stroke="${lit}" stroke-width="${number(width * 0.16)}" stroke-dasharray="1.8 2"/>`);
    x += width + (chance(random, 0.3) ? between(random, 1, 4) : 0);
  }
  return blocks.join('');
}

/** Floor boards that run to a vanishing point. */
function boards(random: Random, horizon: number, ground: Tone): string {
  if (chance(random, 0.3)) return '';
  const seams = Array.from(
    { length: 13 },
    (_, index) => `M${number(50 + (index - 6) * 11)} ${number(horizon)}L${number(50 + (index - 6) * 24)} ${HIGH}`,
  );
  return `<path d="${seams.join('')}" stroke="${css(lighter(ground, -7))}" stroke-width=".6"/>`;
}
