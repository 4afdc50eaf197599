/**
 * A scene as a picture: the truth drawn as SVG by one hand of many, then taken with a bad camera (shift, tilt, blur, noise, JPEG), so that
 * no two pictures of one scene are alike. The scene of a seed stays the same for ever; its pixels are those of the librsvg that draws them.
 */
import sharp from 'sharp';
import { between, chance, type Random } from './dice.js';
import { bottom } from './geometry.js';
import { drawBackdrop } from './shapes/backdrop.js';
import { number, Pen } from './shapes/pen.js';
import { SHAPES } from './shapes/shapes.js';
import { drawStyle, type Style } from './shapes/style.js';
import type { Tone } from './shapes/tone.js';
import { type Box, type Group, NATURES, type Scene } from './world.js';

/** The scene as SVG of `size` pixels an edge. */
export function sceneSvg(scene: Scene, random: Random, size: number): string {
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
  const zoom = between(random, 0.96, 1);
  const shift = (): string => number(between(random, -1.5, 1.5) + (100 - 100 * zoom) / 2);
  const view = `${shift()} ${shift()} ${number(100 * zoom)} ${number(100 * zoom)}`;
  const tilt = number(between(random, -1.2, 1.2));
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${size}" height="${size}" viewBox="${view}"><g transform="rotate(${tilt} 50 50)">${svg}${drawn.join('')}</g></svg>`;
}

/** The scene as a JPEG of `size` pixels an edge. */
export async function takePicture(scene: Scene, random: Random, size: number): Promise<Uint8Array> {
  const svg = sceneSvg(scene, random, size);
  const blur = chance(random, 0.3) ? between(random, 0.35, 0.8) * (size / 128) : 0;
  const noise = chance(random, 0.6) ? between(random, 2, 12) : 0;
  const quality = Math.round(between(random, 58, 94));
  const drawing = sharp(Buffer.from(svg)).removeAlpha();
  const { data, info } = await (blur >= 0.3 ? drawing.blur(blur) : drawing).raw().toBuffer({ resolveWithObject: true });
  if (noise > 0) addNoise(data, noise, random);
  return sharp(data, { raw: { width: info.width, height: info.height, channels: info.channels } })
    .jpeg({ quality })
    .toBuffer();
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

/** The same for all three channels, as film has it. Sums of two draws lie about the middle. */
function addNoise(pixels: Uint8Array, strength: number, random: Random): void {
  for (let at = 0; at < pixels.length; at += 3) {
    const change = (random() + random() - 1) * strength;
    for (let channel = at; channel < at + 3; channel++)
      pixels[channel] = Math.min(255, Math.max(0, Math.round((pixels[channel] as number) + change)));
  }
}
