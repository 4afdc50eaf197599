/**
 * Messages between the front end and an image process. Bytes in, pixels out: nothing else crosses.
 */
import type { PixelRecipe } from '../backbone/vision/recipe.js';
import type { ErrorData } from '../errors.js';

export interface ImageLimits {
  /** Pixels of all frames together, width × height × pages, checked from the header before anything is decoded. */
  readonly maxPixels: number;
  readonly timeoutMs: number;
}

/** The beginning of an image that is sent in pieces. */
export interface PartCommand {
  readonly type: 'part';
  readonly id: number;
  readonly bytes: Uint8Array;
}

export interface DecodeCommand {
  readonly type: 'decode';
  readonly id: number;
  /** The image, or what comes after its parts. */
  readonly bytes: Uint8Array;
  readonly recipe: PixelRecipe;
  readonly limits: ImageLimits;
}

export type ImageCommand = PartCommand | DecodeCommand;

/** RGB, row-major, [height, width, 3]. */
export interface Pixels {
  readonly data: Uint8Array;
  readonly height: number;
  readonly width: number;
  /** Hex sha-256 over size and pixels: equal pixels have equal features, whatever file they came in. */
  readonly digest: string;
}

export type ImageEvent =
  | { readonly type: 'ready' }
  | { readonly type: 'decoded'; readonly id: number; readonly pixels: Pixels }
  | { readonly type: 'failed'; readonly id: number; readonly error: ErrorData };
