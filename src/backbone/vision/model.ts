/** What a vision family gives: how many tokens of which size an image becomes, and the graph that makes them. */
import type { Graph, Value } from '../../onnx/graph.js';
import type { Weights } from '../weights.js';

export interface VisionModel {
  readonly family: string;
  /** Size of one feature vector. */
  readonly imageDim: number;
  /** Tokens that an input of this size becomes. */
  imageTokens(height: number, width: number): number;
  /** Normalised pixels [images, 3, height, width] → features [images, tokens, imageDim], row by row of the image. */
  build(g: Graph, weights: Weights, pixels: Value): Promise<Value>;
}
