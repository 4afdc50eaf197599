/** What a vision family gives: how many tokens of which size an image becomes, and the graph that makes them. */
import type { Graph, Value } from '../../onnx/graph.js';
import type { WeightSource } from '../language/model.js';

/** A checkpoint (`Weights`), or what a trainer makes of it. */
export interface VisionWeights extends WeightSource {
  has(name: string): boolean;
  /** Notes a fault where there is no such tensor. */
  expect(name: string, shape: readonly number[]): void;
  read(name: string, shape: readonly number[]): Promise<Float32Array>;
  /** Throws one error for all faults so far. */
  check(): void;
}

export interface VisionModel {
  readonly family: string;
  /** Names the features where they are not those that the family gives unless told: to an adapter, an encoder of others is another one. */
  readonly features?: string;
  /** Size of one feature vector. */
  readonly imageDim: number;
  /** Height and width of the images that it was made for. */
  readonly imageSize: readonly [number, number];
  /** Tokens that an input of this size becomes. */
  imageTokens(height: number, width: number): number;
  /** Normalised pixels [images, 3, height, width] → features [images, tokens, imageDim], row by row of the image (after the class token, where that was asked for). */
  build(g: Graph, weights: VisionWeights, pixels: Value): Promise<Value>;
}
