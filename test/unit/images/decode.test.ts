import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import type { PixelRecipe } from '../../../src/backbone/vision/recipe.js';
import { decodePixels, digestPixels } from '../../../src/images/decode.js';
import { makePng } from '../../fixtures/images/png.js';

const file = (name: string) => readFileSync(new URL(`../../fixtures/images/${name}`, import.meta.url));
const exact = (height: number, width: number): PixelRecipe => ({
  resize: { kind: 'exact', height, width },
  resample: 'bilinear',
  crop: null,
  height,
  width,
});
const recipe = exact(8, 8);
const limits = { maxPixels: 1_000_000, timeoutMs: 10_000 };
const decode = (bytes: Uint8Array) => decodePixels(bytes, recipe, limits);

describe('decodePixels refuses', () => {
  const svg = '<?xml version="1.0"?><!-- > --><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/hostname"/></svg>';
  const png = file('rgb.png');
  const others: [string, string | Buffer, string, string][] = [
    ['an SVG with an external reference', svg, 'unsupported_image', 'Expected a JPEG, PNG or WebP image but received an SVG'],
    ['a GIF', 'GIF89a\x01\0\x01\0', 'unsupported_image', 'Expected a JPEG, PNG or WebP image but received a GIF'],
    ['nothing', '', 'invalid_image', 'Expected a JPEG, PNG or WebP image but received an empty file'],
    ['text', 'hello', 'invalid_image', 'Expected a JPEG, PNG or WebP image but received 5 bytes of something else'],
  ];
  it.each(others)('%s', async (_, bytes, code, message) => {
    await expect(decode(Buffer.from(bytes))).rejects.toMatchObject({ name: 'AppError', code, message, param: 'image' });
  });

  const jpeg = file('rgb.jpg');
  const webp = file('lossless.webp');
  const damaged: [string, Buffer, string][] = [
    ['a JPEG cut in its header', jpeg.subarray(0, 100), 'JPEG'],
    ['a JPEG cut in the middle', jpeg.subarray(0, jpeg.length - 200), 'JPEG'],
    ['a JPEG without its last byte', jpeg.subarray(0, -1), 'JPEG'],
    ['a PNG cut in the middle', png.subarray(0, png.length / 2), 'PNG'],
    ['a PNG of which a bit is wrong', flip(png, 200), 'PNG'],
    ['a PNG that holds half its rows', makePng(100, 100, new Uint8Array(50 * 301)), 'PNG'],
    ['a PNG without pixels', makePng(0, 5, new Uint8Array()), 'PNG'],
    ['a WebP cut in the middle', webp.subarray(0, webp.length / 2), 'WebP'],
    ['the first bytes of a JPEG before an SVG', Buffer.concat([Buffer.from([0xff, 0xd8, 0xff]), Buffer.from(svg)]), 'JPEG'],
  ];
  it.each(damaged)('%s', async (_, bytes, format) => {
    const message = `Expected a complete ${format} image but received one that is damaged or cut short`;
    await expect(decode(bytes)).rejects.toMatchObject({ code: 'invalid_image', message });
  });

  it('a small file that promises 2.5 gigapixels, before decoding any', async () => {
    const bomb = makePng(50_000, 50_000, new Uint8Array());
    expect(bomb.length).toBeLessThan(100);
    const message = 'Expected at most 1000000 pixels but received 2500000000 (50000 × 50000)';
    await expect(decode(bomb)).rejects.toMatchObject({ code: 'image_too_large', message });
  });

  it('an animation of which only all frames together are too large', async () => {
    const animation = file('animated.webp'); // 37 × 23, 3 frames
    const message = 'Expected at most 1000 pixels but received 2553 (37 × 23 × 3 frames)';
    await expect(decodePixels(animation, recipe, { ...limits, maxPixels: 1000 })).rejects.toMatchObject({
      code: 'image_too_large',
      message,
    });
    await expect(decodePixels(animation, recipe, { ...limits, maxPixels: 2553 })).resolves.toMatchObject({ height: 8 });
  });

  it('an edge that no JPEG could have', async () => {
    const message = 'Expected at most 65535 pixels along an edge but received 100000 × 2';
    await expect(decode(makePng(2, 100_000, new Uint8Array()))).rejects.toMatchObject({ code: 'image_too_large', message });
  });

  it('with a fixed sentence, whatever was changed in a file', async () => {
    const codes = ['invalid_image', 'unsupported_image', 'image_too_large'];
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(jpeg, png, webp, file('cmyk.jpg'), file('palette-alpha.png'), file('animated.webp')),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 8 }),
        async (bytes, changes) => {
          const changed = Buffer.from(bytes);
          for (const [at, mask] of changes) changed[at % changed.length] = (changed[at % changed.length] ?? 0) ^ mask;
          try {
            expect((await decode(changed)).data.length).toBe(8 * 8 * 3);
          } catch (error) {
            expect(error).toMatchObject({ name: 'AppError', message: expect.stringMatching(/^Expected /) });
            expect(codes).toContain((error as { code: string }).code);
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  it('a recipe that contradicts itself, as a mistake of ours', async () => {
    await expect(decodePixels(png, { ...recipe, height: 9 }, limits)).rejects.toThrow(RangeError);
  });
});

describe('the process that decodes', () => {
  it('can read no other format and no file, even where somebody asks sharp directly', async () => {
    const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="5" height="5"/>');
    await expect(sharp(svg).png().toBuffer()).rejects.toThrow('unsupported image format');
    const path = new URL('../../fixtures/images/rgb.png', import.meta.url).pathname;
    await expect(sharp(path).png().toBuffer()).rejects.toThrow('unsupported image format');
  });
});

describe('the digest', () => {
  it('is sha-256 over length-prefixed size and pixels', async () => {
    const { data, digest } = await decode(file('rgb.png'));
    const prefix = Buffer.from(['0800000000000000', '08000000', '08000000', 'c000000000000000'].join(''), 'hex');
    expect(digest).toBe(createHash('sha256').update(prefix).update(data).digest('hex'));
  });

  it('is equal for equal pixels in different files, and differs with one value or with the shape', async () => {
    const [png, webp] = await Promise.all([decode(file('rgb.png')), decode(file('lossless.webp'))]);
    expect(webp.digest).toBe(png.digest);
    const changed = Uint8Array.from(png.data);
    changed[0] = (changed[0] ?? 0) ^ 1;
    expect(digestPixels(changed, 8, 8)).not.toBe(png.digest);
    expect(digestPixels(png.data, 4, 16)).not.toBe(png.digest);
  });
});

function flip(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}
