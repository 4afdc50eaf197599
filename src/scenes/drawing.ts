/**
 * A scene drawn as SVG, by one hand of many and seen a little askew, so that no two drawings of one scene are alike. Plain text: whoever has
 * something that shows SVG can have pictures, a browser as well as a script.
 */
import { between, chance, type Random } from './dice.js';
import { bottom } from './geometry.js';
import { drawBackdrop } from './shapes/backdrop.js';
import { number, Pen } from './shapes/pen.js';
import { SHAPES } from './shapes/shapes.js';
import { drawStyle, type Style } from './shapes/style.js';
import type { Tone } from './shapes/tone.js';
import { type Box, type Group, NATURES, type Scene } from './world.js';

/** What part of the scene the picture shows: from a corner and so wide, in the scene's own units, after a turn about its middle. */
export interface View {
  readonly left: number;
  readonly top: number;
  readonly edge: number;
  /** Degrees, clockwise. */
  readonly tilt: number;
}

/** The scene as SVG of `size` pixels an edge. */
export function sceneSvg(scene: Scene, random: Random, size: number): { readonly svg: string; readonly view: View } {
  const style = drawStyle(random);
  const { svg, sky, ground } = drawBackdrop(scene.background, scene.horizon, random);
  const things = scene.groups
    .flatMap((group) => group.items.map((box) => ({ group, box })))
    // What stands lower is nearer. The sky is behind all that stands.
    .sort((a, b) => Number(b.group.stand === 'sky') - Number(a.group.stand === 'sky') || bottom(a.box) - bottom(b.box));
  const drawn = things.map(({ group, box }, index) => {
    const middle = box.top + box.height / 2;
    return thing(group, box, { style, ground: middle < scene.horizon ? sky : ground, id: `paint${index}`, random });
  });
  const view = drawView(random);
  const box = [view.left, view.top, view.edge, view.edge].map((length) => number(100 * length)).join(' ');
  const whole = `<svg xmlns="http://www.w3.org/2000/svg" width="${size}" height="${size}" viewBox="${box}"><g transform="rotate(${number(view.tilt)} 50 50)">${svg}${drawn.join('')}</g></svg>`;
  return { svg: whole, view };
}

function drawView(random: Random): View {
  const edge = between(random, 0.96, 1);
  const shift = (): number => between(random, -0.015, 0.015) + (1 - edge) / 2;
  return { left: shift(), top: shift(), edge, tilt: between(random, -1.2, 1.2) };
}

interface Surroundings {
  readonly style: Style;
  readonly ground: Tone;
  readonly id: string;
  readonly random: Random;
}

function thing({ kind, colour, stand }: Group, box: Box, { style, ground, id, random }: Surroundings): string {
  const { aspect, lean } = NATURES[kind];
  const [x, y] = [(100 * box.width) / (100 * aspect), box.height];
  const pen = new Pen({ style, colour, ground, unit: Math.sqrt(x * y), id, random }, aspect);
  SHAPES[kind](pen, random);
  const mirror = chance(random, 0.5) ? -1 : 1;
  const turn = number(between(random, -lean, lean));
  const [cx, cy] = [100 * (box.left + box.width / 2), 100 * (box.top + box.height / 2)];
  const place = `translate(${number(cx)} ${number(cy)}) rotate(${turn}) scale(${(mirror * x).toFixed(4)} ${y.toFixed(4)}) translate(${number(-50 * aspect)} -50)`;
  const shadow =
    style.shadows && stand === 'ground'
      ? `<ellipse cx="${number(cx + 0.6)}" cy="${number(100 * bottom(box) - 0.4)}" rx="${number(46 * box.width)}" ry="${number(100 * box.height * 0.05)}" fill="#101428" fill-opacity=".22"/>`
      : '';
  return `${shadow}<g transform="${place}">${pen.svg()}</g>`;
}
