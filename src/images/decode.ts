/**
 * Bytes that somebody sent, decoded to the pixels that the encoder was trained on. The one file that hands untrusted bytes to native code.
 *
 * "Trained on" means what transformers does to a file with its PIL backend: `load_image` (EXIF orientation, then `convert("RGB")`) and the
 * image processor. So: no colour profile is applied; transparency is dropped, not blended, and what colour a transparent pixel has is what
 * its file says; an animation is its first frame; 16-bit values keep their upper byte; CMYK becomes RGB by Pillow's arithmetic.
 * One exception: Pillow clips a 16-bit grey image to white, which no model was meant to see; here it keeps its upper byte like the others.
 */
import { createHash } from 'node:crypto';
import sharp from 'sharp';
import type { PixelRecipe } from '../backbone/vision/recipe.js';
import type { AppError } from '../errors.js';
import { type Alteration, alter } from './alter.js';
import { type Format, sniff } from './format.js';
import { shape } from './geometry.js';
import type { ImageLimits, Pixels } from './protocol.js';
import { damaged, notAnImage, tooLarge, tooLong, tooSlow, unsupported } from './refusal.js';
import type { Raster } from './resample.js';

// Everything that can read an image, and then the three that may, from memory: SVG, PDF and raw formats parse far too much.
sharp.block({ operation: ['VipsForeignLoad'] });
sharp.unblock({ operation: ['VipsForeignLoadJpegBuffer', 'VipsForeignLoadPngBuffer', 'VipsForeignLoadWebpBuffer'] });

/** The longest edge of a JPEG. A PNG may say more, but a row of sixty million pixels costs the decoder 800 MB before it fails. */
const MAX_EDGE = 65_535;

/**
 * Decodes a JPEG, PNG or WebP and brings it to the recipe's size. Throws AppError `unsupported_image` (another format), `invalid_image`
 * (no image, a damaged one, or one that takes longer than `limits.timeoutMs`, counted in whole seconds) or `image_too_large`.
 * An alteration, for training, comes before the recipe.
 */
export async function decodePixels(
  bytes: Uint8Array,
  recipe: PixelRecipe,
  limits: ImageLimits,
  alteration?: Alteration,
): Promise<Pixels> {
  const format = sniff(bytes);
  if (typeof format === 'object') throw format.refused === null ? notAnImage(bytes.length) : unsupported(format.refused);
  const { space } = await readHeader(bytes, format, limits);
  const image = await readPixels(bytes, format, space === 'cmyk', limits);
  const data = shape(alteration ? alter(image, alteration) : image, recipe);
  const { height, width } = recipe;
  return { data, height, width, digest: digestPixels(data, height, width) };
}

/** The header alone, no pixel decoded; throws where it cannot be read or promises too much. */
async function readHeader(bytes: Uint8Array, format: Format, limits: ImageLimits): Promise<{ space: string }> {
  // The limit is checked below: the decoder's own check would not say by how much it was passed, and knows nothing of frames.
  const header = await sharp(bytes, { limitInputPixels: false })
    .metadata()
    .catch(() => Promise.reject(damaged(format)));
  const size = { width: header.width, height: header.height, pages: header.pages ?? 1 };
  if (size.width * size.height * size.pages > limits.maxPixels) throw tooLarge(size, limits);
  if (Math.max(size.width, size.height) > MAX_EDGE) throw tooLong(size, MAX_EDGE);
  return { space: header.space };
}

async function readPixels(bytes: Uint8Array, format: Format, cmyk: boolean, limits: ImageLimits): Promise<Raster> {
  const image = sharp(bytes, {
    // 'error' refuses what is cut short, and like Pillow bears with a JPEG that only draws a warning.
    failOn: 'error',
    limitInputPixels: limits.maxPixels,
    sequentialRead: true,
    ignoreIcc: true,
    autoOrient: true,
  }).timeout({ seconds: Math.ceil(limits.timeoutMs / 1000) });
  // libvips would convert CMYK through a colour profile.
  if (cmyk) image.pipelineColourspace('cmyk').toColourspace('cmyk');
  const { data, info } = await image
    .raw()
    .toBuffer({ resolveWithObject: true })
    .catch((error: unknown) => Promise.reject(failure(error, format, limits)));
  const raster = { data, height: info.height, width: info.width, channels: info.channels };
  if (cmyk) cmykToRgb(raster);
  return raster;
}

function failure(error: unknown, format: Format, limits: ImageLimits): AppError {
  return error instanceof Error && error.message.startsWith('timeout:') ? tooSlow(limits) : damaged(format);
}

/** In place, as Pillow's cmyk2rgb: the black is subtracted from what the other inks leave, with its rounded division by 255. */
function cmykToRgb({ data, channels }: Raster): void {
  for (let p = 0; p < data.length; p += channels) {
    const light = 255 - (data[p + 3] ?? 0);
    for (let ink = p; ink < p + 3; ink++) {
      const product = (data[ink] ?? 0) * light + 128;
      data[ink] = Math.max(0, light - (((product >> 8) + product) >> 8));
    }
  }
}

/** Hex sha-256 over each part's length and the part: the size (two uint32), then the pixels. Lengths are uint64; all is little-endian. */
export function digestPixels(data: Uint8Array, height: number, width: number): string {
  const head = Buffer.alloc(24);
  head.writeBigUInt64LE(8n, 0);
  head.writeUInt32LE(height, 8);
  head.writeUInt32LE(width, 12);
  head.writeBigUInt64LE(BigInt(data.length), 16);
  return createHash('sha256').update(head).update(data).digest('hex');
}
