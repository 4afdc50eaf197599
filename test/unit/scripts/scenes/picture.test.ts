/** Pictures show the truth: where a thing should be there is its colour, whatever the style, the noise and the ground. */
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { takePicture } from '../../../../scripts/scenes/picture.js';
import { sceneSvg } from '../../../../src/scenes/drawing.js';
import { drawScene } from '../../../../src/scenes/scene.js';
import { BACKGROUNDS, type Box, COLOURS, type Colour, KINDS, NATURES, type Scene } from '../../../../src/scenes/world.js';
import { stream } from '../../../../src/training/random.js';

const SIZE = 128;

/** What each name means on paper, for want of a person to ask. */
const MEANT: Readonly<Record<Colour, readonly [number, number, number]>> = {
  red: [220, 20, 20],
  orange: [255, 140, 0],
  yellow: [255, 225, 0],
  green: [30, 140, 50],
  blue: [30, 80, 220],
  purple: [130, 40, 170],
  white: [255, 255, 255],
  black: [20, 20, 20],
};

async function pixels(picture: Uint8Array): Promise<Uint8Array> {
  return sharp(picture).raw().toBuffer();
}

/** The middle value of each channel in a part of the picture: strokes and noise do not count. */
function middleOf(raster: Uint8Array, box: Box): [number, number, number] {
  const [left, top] = [Math.round(box.left * SIZE), Math.round(box.top * SIZE)];
  const [right, bottom] = [Math.round((box.left + box.width) * SIZE), Math.round((box.top + box.height) * SIZE)];
  const channel = (offset: number): number => {
    const values: number[] = [];
    for (let y = top; y < bottom; y++)
      for (let x = left; x < right; x++) values.push(raster[(y * SIZE + x) * 3 + offset] as number);
    return values.sort((a, b) => a - b)[values.length >> 1] as number;
  };
  return [channel(0), channel(1), channel(2)];
}

function nearest(colour: readonly [number, number, number]): Colour {
  const distance = (name: Colour): number => Math.hypot(...MEANT[name].map((value, index) => value - (colour[index] as number)));
  return COLOURS.reduce((best, name) => (distance(name) < distance(best) ? name : best));
}

const whole: Box = { left: 0.3, top: 0.3, width: 0.4, height: 0.4 };
const inner: Box = { left: 0.36, top: 0.36, width: 0.28, height: 0.28 };

function ball(colour: Colour, background: Scene['background']): Scene {
  const group = { kind: 'ball', colour, size: 'large', stand: 'ground', count: 1, box: whole, items: [whole] } as const;
  return { background, horizon: 0.5, groups: [group] };
}

describe('takePicture', () => {
  it('is a JPEG of the size, the same for the same stream and another for another', async () => {
    const scene = drawScene(stream(3, 'scene'));
    const pictures = await Promise.all([1, 1, 2].map((seed) => takePicture(scene, stream(seed), SIZE)));
    const [one, again, other] = pictures.map(({ jpeg }) => jpeg);
    const { format, width, height, channels } = await sharp(one).metadata();
    expect({ format, width, height, channels }).toEqual({ format: 'jpeg', width: SIZE, height: SIZE, channels: 3 });
    expect(again).toEqual(one);
    expect(other).not.toEqual(one);
  });

  it.each(COLOURS)('shows %s as a person would call it', async (colour) => {
    const seen: Colour[] = [];
    for (const [index, background] of [...BACKGROUNDS, ...BACKGROUNDS].entries()) {
      const raster = await pixels((await takePicture(ball(colour, background), stream(index, colour), SIZE)).jpeg);
      seen.push(nearest(middleOf(raster, inner)));
    }
    expect(seen).toEqual(seen.map(() => colour));
  });

  it.each(KINDS)('draws a %s that stands out from its ground, inside of its box', async (kind) => {
    const { aspect, stands } = NATURES[kind];
    const box: Box = { left: 0.3, top: 0.3, width: 0.3 * Math.sqrt(aspect), height: 0.3 / Math.sqrt(aspect) };
    const group = { kind, colour: 'blue', size: 'medium', stand: stands[0] ?? 'ground', count: 1, box, items: [box] } as const;
    const scene: Scene = { background: 'desert', horizon: 0.2, groups: [group] };
    const { svg } = sceneSvg(scene, stream(1, 'kind'), SIZE);
    // The same hand, before it drew the thing: its group is the last one of the picture.
    const empty = `${svg.slice(0, svg.lastIndexOf('<g transform="translate'))}</g></svg>`;
    const [drawn, ground] = await Promise.all(
      [svg, empty].map(async (text) => sharp(Buffer.from(text)).removeAlpha().raw().toBuffer()),
    );
    let [inside, outside] = [0, 0];
    for (let at = 0; at < SIZE * SIZE; at++) {
      const change = [0, 1, 2].some(
        (channel) => Math.abs((drawn?.[at * 3 + channel] ?? 0) - (ground?.[at * 3 + channel] ?? 0)) > 24,
      );
      const [x, y] = [(at % SIZE) / SIZE, Math.floor(at / SIZE) / SIZE];
      const spare = 0.05;
      const near =
        x > box.left - spare && x < box.left + box.width + spare && y > box.top - spare && y < box.top + box.height + spare;
      if (change && near) inside++;
      else if (change) outside++;
    }
    expect(outside).toBe(0);
    expect(inside / (box.width * box.height * SIZE * SIZE)).toBeGreaterThan(0.2);
  });
});
