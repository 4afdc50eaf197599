/**
 * What shapes are drawn with. A shape says what goes where (points in a field 100 high and 100 times its aspect wide) and of what it is;
 * the pen makes that one picture's strokes: tones, outline, texture, and the tremble of a hand.
 */
import { between, type Random } from '../dice.js';
import type { Colour } from '../world.js';
import { linesFor, type Style } from './style.js';
import { css, lighter, named, shadeOf, type Tone, tone } from './tone.js';

export type Point = readonly [x: number, y: number];
/** Points, or as SVG writes them: `10,20 30,40`. */
export type Points = string | readonly Point[];

/** What a part is made of. `body`, `shade` and `tint` are the thing's own colour; nothing else has a colour that has a name here. */
export type Stuff = 'body' | 'shade' | 'tint' | 'ink' | 'paper' | 'wood' | 'leaf' | 'skin' | 'rubber' | 'glass' | 'beak';

/** A shape: its parts, from back to front. */
export type Shape = (pen: Pen, random: Random) => void;

interface PenOptions {
  readonly style: Style;
  readonly colour: Colour;
  /** What the thing stands out from. */
  readonly ground: Tone;
  /** Hundredths of the picture's edge in one unit of the field. */
  readonly unit: number;
  /** Of this pen's definitions: no other pen of the picture has it. */
  readonly id: string;
  readonly random: Random;
}

export class Pen {
  readonly aspect: number;
  readonly #options: PenOptions;
  readonly #tones: Readonly<Record<Stuff, Tone>>;
  readonly #line: Tone | null;
  readonly #halo: Tone | null;
  readonly #parts: string[] = [];
  readonly #outlines: string[] = [];

  constructor(options: PenOptions, aspect: number) {
    const { colour, ground, style, random } = options;
    const body = named(colour, random);
    this.aspect = aspect;
    this.#options = options;
    this.#tones = {
      body,
      shade: shadeOf(body, body.l < 18 ? 9 : 13),
      tint: body.l > 90 ? tone(220, 10, 90) : body.l < 18 ? lighter(body, 20) : lighter(body, 12),
      ink: body.l < 30 ? tone(40, 20, 88) : style.ink,
      paper: body.l > 90 ? tone(35, 22, 86) : tone(40, 30, 95),
      wood: tone(between(random, 22, 30), 34, between(random, 30, 40)),
      leaf: tone(between(random, 85, 100), 30, between(random, 30, 38)),
      // A shirt must not look like no shirt.
      skin: tone(
        between(random, 20, 28),
        between(random, 38, 52),
        colour === 'orange' ? 86 : between(random, colour === 'black' ? 62 : 45, 82),
      ),
      rubber: tone(230, 8, body.l < 30 ? 38 : 18),
      glass: tone(200, 30, body.l > 90 ? 72 : 86),
      beak: tone(38, 55, 52),
    };
    const { line, halo } = linesFor(body, ground, style);
    this.#line = line;
    this.#halo = halo;
  }

  polygon(points: Points, stuff: Stuff): void {
    this.#area(`${this.#shaky(points).map(command).join('')}Z`, stuff);
  }

  rect(x: number, y: number, width: number, height: number, stuff: Stuff): void {
    this.polygon(
      [
        [x, y],
        [x + width, y],
        [x + width, y + height],
        [x, y + height],
      ],
      stuff,
    );
  }

  /** A closed smooth line through the points. */
  blob(points: Points, stuff: Stuff): void {
    this.#area(smooth(this.#shaky(points), true), stuff);
  }

  ellipse(x: number, y: number, rx: number, ry: number, stuff: Stuff, turn = 0): void {
    this.blob(ring(x, y, rx, ry, 10, turn), stuff);
  }

  /** A line through the points, `width` units thick: a limb, a stem. */
  limb(points: Points, width: number, stuff: Stuff): void {
    const d = smooth(this.#shaky(points), false);
    this.#outlines.push(`<path d="${d}" fill="none" stroke-width="${number(width + this.#width(4))}"/>`);
    if (this.#line !== null) this.#parts.push(path(d, 'none', { stroke: css(this.#line), width: width + this.#width(2) }));
    this.#parts.push(path(d, 'none', { stroke: css(this.#tones[stuff]), width }));
  }

  /** Detail without an outline: eyes, seams, whiskers. */
  stroke(points: Points, width = 3, stuff: Stuff = 'ink'): void {
    this.#parts.push(path(smooth(this.#shaky(points), false), 'none', { stroke: css(this.#tones[stuff]), width }));
  }

  dot(x: number, y: number, radius: number, stuff: Stuff = 'ink'): void {
    this.#parts.push(
      `<circle cx="${number(x)}" cy="${number(y)}" r="${number(radius)}" fill="${css(this.#tones[stuff])}" stroke="none"/>`,
    );
  }

  /** All that was drawn, in the shape's own field. */
  svg(): string {
    const { style } = this.#options;
    const line = this.#line === null ? 'none' : css(this.#line);
    const dash = style.dashed ? ` stroke-dasharray="${number(this.#width(3.5))} ${number(this.#width(1.8))}"` : '';
    const halo =
      this.#halo === null
        ? ''
        : `<g fill="none" stroke="${css(this.#halo)}" stroke-width="${number(this.#width(5))}">${this.#outlines.join('')}</g>`;
    const lines = `<g stroke="${line}" stroke-width="${number(this.#width(1))}"${dash}>${this.#parts.join('')}</g>`;
    return `<defs>${this.#definitions()}</defs><g stroke-linejoin="round" stroke-linecap="round">${halo}${lines}</g>`;
  }

  #area(d: string, stuff: Stuff): void {
    this.#outlines.push(`<path d="${d}"/>`);
    const own = stuff === 'body' && this.#options.style.fill !== 'flat';
    this.#parts.push(`<path d="${d}" fill="${own ? `url(#${this.#options.id})` : css(this.#tones[stuff])}"/>`);
  }

  #width(lines: number): number {
    return (lines * this.#options.style.lineWidth) / this.#options.unit;
  }

  #shaky(points: Points): Point[] {
    const { random, style, unit } = this.#options;
    const reach = style.jitter / unit;
    return pointsOf(points).map(([x, y]) => [x + between(random, -reach, reach), y + between(random, -reach, reach)]);
  }

  /** The paint of the body. Textures stay close to its tone, for it has to keep its name. */
  #definitions(): string {
    const { id, style, random, unit } = this.#options;
    const { body, shade } = this.#tones;
    const deep = css(shade);
    const stops = (from: Tone, to: Tone): string =>
      `<stop offset="0" stop-color="${css(from)}"/><stop offset="1" stop-color="${css(to)}"/>`;
    const bright = body.l > 90 ? body : lighter(body, body.l < 18 ? 4 : 9);
    const step = between(random, 2.2, 3.4) / unit;
    const tile = (content: string): string =>
      `<pattern id="${id}" patternUnits="userSpaceOnUse" width="${number(step)}" height="${number(step)}" patternTransform="rotate(${number(between(random, 15, 75))})"><rect width="${number(step)}" height="${number(step)}" fill="${css(body)}"/>${content}</pattern>`;
    switch (style.fill) {
      case 'gradient':
        return `<linearGradient id="${id}" x1="0" y1="0" x2="${number(random())}" y2="1">${stops(bright, shade)}</linearGradient>`;
      case 'glow':
        return `<radialGradient id="${id}" cx="0.35" cy="0.3" r="0.8">${stops(bright, shade)}</radialGradient>`;
      case 'hatch':
        return tile(`<rect width="${number(step * 0.3)}" height="${number(step)}" fill="${deep}"/>`);
      case 'dots':
        return tile(`<circle cx="${number(step / 2)}" cy="${number(step / 2)}" r="${number(step * 0.22)}" fill="${deep}"/>`);
      case 'crayon':
        return tile(
          `<rect width="${number(step * 0.22)}" height="${number(step)}" fill="${css(bright)}"/><rect x="${number(step * 0.6)}" width="${number(step * 0.14)}" height="${number(step)}" fill="${deep}"/>`,
        );
      default:
        return '';
    }
  }
}

/** Points on an ellipse, clockwise from its right; `turn` in degrees. */
export function ring(x: number, y: number, rx: number, ry: number, count: number, turn = 0): Point[] {
  const [cos, sin] = [Math.cos((turn * Math.PI) / 180), Math.sin((turn * Math.PI) / 180)];
  return Array.from({ length: count }, (_, index) => {
    const angle = (2 * Math.PI * index) / count;
    const [dx, dy] = [rx * Math.cos(angle), ry * Math.sin(angle)];
    return [x + dx * cos - dy * sin, y + dx * sin + dy * cos];
  });
}

/** A Catmull-Rom spline as Bezier curves. */
export function smooth(points: readonly Point[], closed: boolean): string {
  const count = points.length;
  const at = (index: number): Point =>
    points[closed ? (index + count) % count : Math.min(count - 1, Math.max(0, index))] as Point;
  const curves = Array.from({ length: closed ? count : count - 1 }, (_, index) => {
    const [[ax, ay], [bx, by], [cx, cy], [dx, dy]] = [at(index - 1), at(index), at(index + 1), at(index + 2)];
    const bend = [bx + (cx - ax) / 6, by + (cy - ay) / 6, cx - (dx - bx) / 6, cy - (dy - by) / 6, cx, cy];
    return `C${bend.map(number).join(' ')}`;
  });
  return `${command(at(0), 0)}${curves.join('')}${closed ? 'Z' : ''}`;
}

function command([x, y]: Point, index: number): string {
  return `${index === 0 ? 'M' : 'L'}${number(x)} ${number(y)}`;
}

/** Two digits are a hundredth of a pixel at least, and make short files. */
export function number(value: number): string {
  return String(Math.round(value * 100) / 100);
}

function path(d: string, fill: string, { stroke, width }: { stroke: string; width: number }): string {
  return `<path d="${d}" fill="${fill}" stroke="${stroke}" stroke-width="${number(width)}"/>`;
}

function pointsOf(points: Points): readonly Point[] {
  if (typeof points !== 'string') return points;
  return points.split(' ').map((pair) => pair.split(',').map(Number) as [number, number]);
}
