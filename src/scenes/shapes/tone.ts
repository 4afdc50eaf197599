/** Colours as painters speak of them: a hue in degrees, saturation and lightness in percent. */
import { between, pick, type Random } from '../dice.js';
import type { Colour } from '../world.js';

export interface Tone {
  readonly h: number;
  readonly s: number;
  readonly l: number;
}

export const tone = (h: number, s: number, l: number): Tone => ({ h, s, l });

type Range = readonly [low: number, high: number];

/** What a person still calls by the name. */
const NAMED: Readonly<Record<Colour, Readonly<Record<keyof Tone, Range>>>> = {
  red: { h: [-8, 4], s: [72, 90], l: [42, 51] },
  orange: { h: [24, 31], s: [88, 98], l: [50, 56] },
  yellow: { h: [48, 55], s: [88, 100], l: [54, 63] },
  green: { h: [112, 142], s: [48, 70], l: [31, 42] },
  blue: { h: [212, 228], s: [68, 88], l: [42, 54] },
  purple: { h: [274, 290], s: [45, 66], l: [38, 48] },
  white: { h: [30, 220], s: [0, 10], l: [95, 99] },
  black: { h: [0, 260], s: [0, 8], l: [5, 11] },
};

/** A shade that still goes by the name. */
export function named(colour: Colour, random: Random): Tone {
  const { h, s, l } = NAMED[colour];
  return tone(between(random, ...h), between(random, ...s), between(random, ...l));
}

export function tint(random: Random, h: Range, s: Range, l: Range): Tone {
  return tone(between(random, ...h), between(random, ...s), between(random, ...l));
}

/** The same, lighter or (below zero) darker. Black and white keep inside of what they are called. */
export function lighter({ h, s, l }: Tone, by: number): Tone {
  return tone(h, s, Math.min(99, Math.max(3, l + by)));
}

/** What stands out from a tone as its shade: darker, or of black a lighter one. */
export function shadeOf(base: Tone, by: number): Tone {
  if (base.l > 90) return tone(220, 12, base.l - by * 0.9);
  return base.l < 18 ? lighter(base, by) : lighter(base, -by);
}

export function css(colour: Tone): string {
  return `#${rgb(colour)
    .map((channel) =>
      Math.round(channel * 255)
        .toString(16)
        .padStart(2, '0'),
    )
    .join('')}`;
}

/** How different two look: about 1 from black to white (distance in Oklab, https://bottosson.github.io/posts/oklab). */
export function contrast(a: Tone, b: Tone): number {
  const [first, second] = [oklab(a), oklab(b)];
  return Math.hypot(...first.map((value, index) => value - (second[index] as number)));
}

/** Red, green, blue in [0, 1] (CSS Color 4, hslToRgb). */
function rgb({ h, s, l }: Tone): number[] {
  const [light, reach] = [l / 100, (s / 100) * Math.min(l / 100, 1 - l / 100)];
  return [0, 8, 4].map((offset) => {
    const turn = (((offset + h / 30) % 12) + 12) % 12;
    return light - reach * Math.max(-1, Math.min(turn - 3, 9 - turn, 1));
  });
}

function oklab(colour: Tone): number[] {
  const [r, g, b] = rgb(colour).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)) as [
    number,
    number,
    number,
  ];
  const long = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const medium = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const short = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * long + 0.793617785 * medium - 0.0040720468 * short,
    1.9779984951 * long - 2.428592205 * medium + 0.4505937099 * short,
    0.0259040371 * long + 0.7827717662 * medium - 0.808675766 * short,
  ];
}

/** One of several ranges: a sky is blue, or rosy, or grey. */
export function tintOf(random: Random, choices: readonly (readonly [h: Range, s: Range, l: Range])[]): Tone {
  return tint(random, ...pick(random, choices));
}
