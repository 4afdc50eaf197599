/** Other views of one image, for training: a mirror image, a part of it. They are taken from the decoded pixels, before the encoder's recipe. */
import type { Raster } from './resample.js';

export interface Alteration {
  readonly mirror: boolean;
  /** The part that is kept, each number a fraction of the edge; null for the whole. */
  readonly crop: { readonly top: number; readonly left: number; readonly height: number; readonly width: number } | null;
}

/** The altered image, with pixels of its own where it differs. Keeps at least one pixel. */
export function alter(image: Raster, { mirror, crop }: Alteration): Raster {
  const part = crop ?? { top: 0, left: 0, height: 1, width: 1 };
  if (!mirror && crop === null) return image;
  const { channels } = image;
  const height = Math.max(1, Math.round(image.height * part.height));
  const width = Math.max(1, Math.round(image.width * part.width));
  const top = Math.min(Math.round(image.height * part.top), image.height - height);
  const left = Math.min(Math.round(image.width * part.left), image.width - width);
  const data = new Uint8Array(height * width * channels);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * image.width + left) * channels;
    const row = image.data.subarray(from, from + width * channels);
    const to = y * width * channels;
    if (!mirror) data.set(row, to);
    else
      for (let x = 0; x < width; x++) data.set(row.subarray(x * channels, (x + 1) * channels), to + (width - 1 - x) * channels);
  }
  return { data, height, width, channels };
}
