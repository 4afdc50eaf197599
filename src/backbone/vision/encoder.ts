/**
 * A vision encoder as a whole graph: bytes of pixels in, features out, normalisation included. Serving and training run the same one, so
 * that an adapter sees the features that it was trained on.
 */
import { Graph } from '../../onnx/graph.js';
import { add, cast, float32, mul, transpose } from '../../onnx/ops.js';
import type { VisionPart } from '../backbone.js';
import type { Weights } from '../weights.js';

/** Names of the graph's input, uint8 [1, height, width, 3], and of its output, float32 [1, imageTokens, imageDim]. */
export const PIXELS = 'pixels';
export const FEATURES = 'features';

/** Builds the encoder of one image at a time. Throws `invalid_file` with every fault of the checkpoint. */
export async function buildEncoder({ model, recipe, normalisation }: VisionPart, weights: Weights): Promise<Graph> {
  const { rescale, mean, std } = normalisation;
  const g = new Graph();
  const pixels = g.input(PIXELS, 'uint8', [1, recipe.height, recipe.width, 3]);
  // (x · rescale − mean) / std as one product and one sum a channel.
  const factors = std.map((deviation) => rescale / deviation);
  const shifts = std.map((deviation, channel) => -(mean[channel] as number) / deviation);
  const scale = float32(g, 'pixels.scale', [3], factors);
  const shift = float32(g, 'pixels.shift', [3], shifts);
  const normalised = add(g, mul(g, cast(g, pixels, 'float32'), scale), shift);
  g.output(FEATURES, await model.build(g, weights, transpose(g, normalised, [0, 3, 1, 2])));
  weights.check();
  return g;
}
