/**
 * What happens to an image before the graph sees it, read from `preprocessor_config.json`. Plain data: it crosses to the image process,
 * which does the geometry and hands back uint8; rescale and normalisation are arithmetic and belong to the graph.
 */

export type Resample = 'nearest' | 'bilinear' | 'bicubic' | 'lanczos';

export type Resize =
  /** To exactly this size, aspect ratio ignored. */
  | { readonly kind: 'exact'; readonly height: number; readonly width: number }
  /** The shorter edge to this many pixels, aspect ratio kept. */
  | { readonly kind: 'shortest_edge'; readonly edge: number };

export interface PixelRecipe {
  readonly resize: Resize | null;
  readonly resample: Resample;
  /** Centre crop after the resize (padded with zeros where the image is smaller, as transformers does). */
  readonly crop: { readonly height: number; readonly width: number } | null;
  /** Size of what comes out; the encoder's input. */
  readonly height: number;
  readonly width: number;
}

export interface Normalisation {
  /** Multiplies the uint8 value; 1/255 unless the processor says otherwise, 1 where it does not rescale. */
  readonly rescale: number;
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}
