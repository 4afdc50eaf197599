/**
 * The model being trained: its parameters, and the two sessions that compute with them. A session is opened when it is first needed, and
 * the backbone's weights stay in their file, mapped, however many sessions there are.
 */
import type { WeightSource } from '../backbone/language/model.js';
import { float32, Session, type Tensor } from '../runtime/session.js';
import type { Batch } from './batch.js';
import { Parameters } from './parameters.js';
import { buildEvaluation, buildTraining, names, type Program, type Recipe } from './program.js';

export interface ModelOptions {
  /** The language checkpoint's. */
  readonly folder: string;
  readonly threads: number;
  /** Where onnxruntime writes how long each operator took: the beginning of a file's name. */
  readonly profile?: string;
}

export class TrainedModel {
  readonly parameters: Parameters;
  readonly program: Program;
  /** Laid out like the parameters' values. */
  readonly gradients: Float32Array;
  readonly #recipe: Recipe;
  readonly #evaluation: Uint8Array;
  readonly #options: ModelOptions;
  readonly #feeds: Readonly<Record<string, Tensor>>;
  readonly #fetches: Readonly<Record<string, Tensor | null>>;
  #training: Promise<Session> | undefined;
  #scoring: Promise<Session> | undefined;

  constructor(recipe: Recipe, weights: WeightSource, options: ModelOptions) {
    this.#recipe = recipe;
    this.#options = options;
    this.program = buildTraining(recipe, weights);
    this.#evaluation = buildEvaluation(recipe, weights).model;
    this.parameters = new Parameters(this.program.parameters);
    const { values } = this.parameters;
    this.gradients = new Float32Array(values.length);
    const tensors = (of: Float32Array, name: (parameter: string) => string) =>
      Object.fromEntries(
        this.program.parameters.map((each) => [name(each.name), float32(this.parameters.view(each.name, of), each.shape)]),
      );
    this.#feeds = tensors(values, (name) => name);
    this.#fetches = { [names.loss]: null, ...tensors(this.gradients, names.gradient) };
  }

  /** Loss of a batch, its sum divided by `divisor`; the gradients are then in `gradients`. */
  async differentiate(batch: Batch, extra: Readonly<Record<string, Tensor>>, divisor: number): Promise<number> {
    this.#training ??= this.#open(this.program.model);
    const feeds = { ...batch.feeds, ...extra, ...this.#feeds, [names.divisor]: float32(Float32Array.of(divisor), []) };
    const results = await (await this.#training).run(feeds, this.#fetches);
    return Number((results[names.loss] as Tensor).data[0]);
  }

  /** Loss of every predicting position of a batch, without dropout. */
  async score(batch: Batch, extra: Readonly<Record<string, Tensor>>): Promise<Float32Array> {
    this.#scoring ??= this.#open(this.#evaluation);
    const results = await (await this.#scoring).run({ ...batch.feeds, ...extra, ...this.#feeds }, { [names.losses]: null });
    return results[names.losses]?.data as Float32Array;
  }

  get recipe(): Recipe {
    return this.#recipe;
  }

  async close(): Promise<void> {
    await (await this.#training)?.close();
    await (await this.#scoring)?.close();
  }

  #open(model: Uint8Array): Promise<Session> {
    return Session.open(model, { ...this.#options, training: true });
  }
}
