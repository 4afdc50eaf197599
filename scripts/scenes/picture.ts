/**
 * A drawing taken with a bad camera: blur, noise, JPEG. The scene of a seed stays the same for ever; its pixels are those of the librsvg
 * that draws them.
 */
import sharp from 'sharp';
import { between, chance, type Random } from '../../src/scenes/dice.js';
import { sceneSvg, type View } from '../../src/scenes/drawing.js';
import type { Scene } from '../../src/scenes/world.js';

export interface Picture {
  readonly jpeg: Uint8Array;
  readonly view: View;
}

/** The scene as a JPEG of `size` pixels an edge. */
export async function takePicture(scene: Scene, random: Random, size: number): Promise<Picture> {
  // Whoever decodes photos in this process has shut this door (images/decode.ts): it is for strangers' files, and this is our own.
  sharp.unblock({ operation: ['VipsForeignLoadSvgBuffer'] });
  const { svg, view } = sceneSvg(scene, random, size);
  const blur = chance(random, 0.3) ? between(random, 0.35, 0.8) * (size / 128) : 0;
  const noise = chance(random, 0.6) ? between(random, 2, 12) : 0;
  const quality = Math.round(between(random, 58, 94));
  const drawing = sharp(Buffer.from(svg)).removeAlpha();
  const { data, info } = await (blur >= 0.3 ? drawing.blur(blur) : drawing).raw().toBuffer({ resolveWithObject: true });
  if (noise > 0) addNoise(data, noise, random);
  const jpeg = await sharp(data, { raw: { width: info.width, height: info.height, channels: info.channels } })
    .jpeg({ quality })
    .toBuffer();
  return { jpeg, view };
}

/** The same for all three channels, as film has it. Sums of two draws lie about the middle. */
function addNoise(pixels: Uint8Array, strength: number, random: Random): void {
  for (let at = 0; at < pixels.length; at += 3) {
    const change = (random() + random() - 1) * strength;
    for (let channel = at; channel < at + 3; channel++)
      pixels[channel] = Math.min(255, Math.max(0, Math.round((pixels[channel] as number) + change)));
  }
}
