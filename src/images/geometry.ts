/**
 * From a decoded image to the size that the encoder wants: resize, then centre crop, with the roundings of transformers' PIL backend.
 */
import type { PixelRecipe, Resize } from '../backbone/vision/recipe.js';
import { type Raster, resample, type Span } from './resample.js';

/** What the recipe makes of the image: RGB, [recipe.height, recipe.width, 3]. Throws RangeError for a recipe that does not lead to its own size. */
export function shape(image: Raster, recipe: PixelRecipe): Uint8Array {
  const [height, width] = resizedSize(image, recipe.resize);
  const crop = recipe.crop ?? { height, width };
  if (crop.height !== recipe.height || crop.width !== recipe.width) {
    const expected = `${recipe.height} × ${recipe.width}`;
    throw new RangeError(`Expected a recipe that leads to ${expected} pixels but it leads to ${crop.height} × ${crop.width}`);
  }
  const top = Math.floor((height - crop.height) / 2);
  const left = Math.floor((width - crop.width) / 2);
  const rows = inside(top, crop.height, height);
  const columns = inside(left, crop.width, width);
  const part = resample(image, height, width, recipe.resample, rows, columns);
  return pad(part, rows.start - top, columns.start - left, crop.height, crop.width);
}

/** [height, width] after the resize; the longer edge is truncated, not rounded (transformers' get_resize_output_image_size). */
function resizedSize(image: Raster, resize: Resize | null): [height: number, width: number] {
  const { height, width } = image;
  if (resize === null) return [height, width];
  if (resize.kind === 'exact') return [resize.height, resize.width];
  const { edge } = resize;
  const longer = Math.trunc((edge * Math.max(height, width)) / Math.min(height, width));
  return width <= height ? [longer, edge] : [edge, longer];
}

/** The part of a crop that lies inside the image. */
function inside(start: number, length: number, size: number): Span {
  const first = Math.max(0, start);
  return { start: first, length: Math.min(size, start + length) - first };
}

/** The image at [top, left] of a black one. */
function pad(image: Raster, top: number, left: number, height: number, width: number): Uint8Array {
  if (image.height === height && image.width === width) return image.data;
  const out = new Uint8Array(height * width * 3);
  const bytes = image.width * 3;
  for (let y = 0; y < image.height; y++) {
    out.set(image.data.subarray(y * bytes, (y + 1) * bytes), ((top + y) * width + left) * 3);
  }
  return out;
}
