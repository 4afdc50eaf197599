/** An adapter's projector: vision features to token embeddings, e = W f + b. One session for all; the weights are its inputs. */
import type { Projector } from '../adapter/adapter.js';
import { Graph } from '../onnx/graph.js';
import { add, linear } from '../onnx/ops.js';
import { float32, Session, type Tensor } from '../runtime/session.js';

export class Projection {
  readonly #session: Session;
  readonly #imageDim: number;
  readonly #hiddenSize: number;

  private constructor(session: Session, imageDim: number, hiddenSize: number) {
    this.#session = session;
    this.#imageDim = imageDim;
    this.#hiddenSize = hiddenSize;
  }

  static async open(imageDim: number, hiddenSize: number, threads: number): Promise<Projection> {
    const g = new Graph();
    const features = g.input('features', 'float32', ['tokens', imageDim]);
    const weight = g.input('weight', 'float32', [hiddenSize, imageDim]);
    const bias = g.input('bias', 'float32', [hiddenSize]);
    g.output('embeddings', add(g, linear(g, features, weight), bias));
    return new Projection(await Session.open(g.toModel(), { folder: null, threads }), imageDim, hiddenSize);
  }

  /** features [tokens, imageDim] → [tokens, hiddenSize]. */
  async project(projector: Projector, features: Float32Array): Promise<Float32Array> {
    const result = await this.#session.run(
      {
        features: float32(features, [features.length / this.#imageDim, this.#imageDim]),
        weight: float32(projector.weight, [this.#hiddenSize, this.#imageDim]),
        bias: float32(projector.bias, [this.#hiddenSize]),
      },
      { embeddings: null },
    );
    return (result['embeddings'] as Tensor).data as Float32Array;
  }

  close(): Promise<void> {
    return this.#session.close();
  }
}
