/**
 * A vision encoder as a whole graph: bytes of pixels in, features out, normalisation included. Serving and training run the same one, so
 * that an adapter sees the features that it was trained on.
 */
import { Graph, type Value } from '../../onnx/graph.js';
import { add, cast, float32, mul, transpose } from '../../onnx/ops.js';
import { openWeights, type VisionPart } from '../backbone.js';
import type { Weights } from '../weights.js';
import type { Normalisation } from './recipe.js';

/** Names of the graph's input, uint8 [1, height, width, 3], and of its output, float32 [1, imageTokens, imageDim]. */
export const PIXELS = 'pixels';
export const FEATURES = 'features';

/** The encoder of a checkpoint folder, from its headers. Throws `invalid_file` with every fault of the checkpoint. */
export async function openEncoder(part: VisionPart): Promise<{ readonly graph: Graph; readonly weights: Weights }> {
  const { checkpoint, weights } = await openWeights(part.folder);
  try {
    return { graph: await buildEncoder(part, weights), weights };
  } finally {
    await checkpoint.close();
  }
}

/** Builds the encoder of one image at a time. Throws `invalid_file` with every fault of the checkpoint. */
export async function buildEncoder({ model, recipe, normalisation }: VisionPart, weights: Weights): Promise<Graph> {
  const g = new Graph();
  const pixels = g.input(PIXELS, 'uint8', [1, recipe.height, recipe.width, 3]);
  g.output(FEATURES, await model.build(g, weights, normalise(g, pixels, normalisation)));
  weights.check();
  return g;
}

/** Bytes [images, height, width, 3] → what an encoder reads, [images, 3, height, width]. */
export function normalise(g: Graph, pixels: Value, { rescale, mean, std }: Normalisation): Value {
  // (x · rescale − mean) / std as one product and one sum a channel.
  const factors = std.map((deviation) => rescale / deviation);
  const shifts = std.map((deviation, channel) => -(mean[channel] as number) / deviation);
  // A channel at a time, as the encoder reads them: three numbers that turn with every pixel are no work for vectors.
  const channels = cast(g, transpose(g, pixels, [0, 3, 1, 2]), 'float32');
  const scale = float32(g, 'pixels.scale', [3, 1, 1], factors);
  const shift = float32(g, 'pixels.shift', [3, 1, 1], shifts);
  return add(g, mul(g, channels, scale), shift);
}
