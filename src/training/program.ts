/**
 * One model, two graphs: the loss and its gradients for training, the loss of every position for evaluation. The network is the family's
 * own; what is trained enters as inputs, what is frozen stays in the checkpoint's file.
 *
 * A row is [BOS][image tokens][prompt][caption], padded at its end: causal attention never looks there. Only the positions that predict a
 * caption token go through the vocabulary (`predicting`, rows of the flattened hidden states), and only for those there is a loss.
 */
import { type AdapterPlan, gatedContexts } from '../adapter/plan.js';
import { gradients } from '../autodiff/gradients.js';
import { type Blocks, frozenProjection, type LanguageModel, rotation, type WeightSource } from '../backbone/language/model.js';
import { Graph, type Value } from '../onnx/graph.js';
import { add, cast, div, flatten, gather, linear, mul, scalar, scatterND, where } from '../onnx/ops.js';
import { crossEntropy, sum } from '../onnx/reduce.js';
import { Adaptation, adapterShapes } from './adapt.js';
import { plainAttention, stackedTokens } from './attention.js';
import type { ParameterShape } from './parameters.js';

export interface Recipe {
  readonly language: LanguageModel;
  /** Tokens and feature size of an image; null for text alone. */
  readonly image: { readonly tokens: number; readonly dim: number; readonly dtype: 'float16' | 'float32' } | null;
  /** null: every weight of the language model is trained. */
  readonly plan: AdapterPlan | null;
  /** Where full training begins: the checkpoint, or random numbers of this deviation. */
  readonly begin: 'checkpoint' | { readonly deviation: number };
  /** Of the features before their projection, and of every branch before it joins the residual stream. */
  readonly dropout: number;
  readonly residualDropout: number;
  /** Whether what lies between two residual sums is computed again on the way back. */
  readonly recompute: boolean;
  /** The longest row. */
  readonly maxTokens: number;
}

export interface Program {
  readonly model: Uint8Array;
  readonly parameters: readonly ParameterShape[];
  /** Input names of the masks of dropout, with the shape of each: what is kept. */
  readonly masks: readonly { readonly name: string; readonly of: 'features' | 'hidden' }[];
}

export const names = {
  ids: 'ids',
  features: 'features',
  imagePositions: 'image_positions',
  positions: 'positions',
  mask: 'mask',
  gate: 'gate',
  predicting: 'predicting',
  targets: 'targets',
  /** By what the sum of losses is divided: the caption tokens of the whole step, so that accumulation gives the same as one large batch. */
  divisor: 'divisor',
  loss: 'loss',
  losses: 'losses',
  gradient: (parameter: string) => `gradient.${parameter}`,
} as const;

/** Names of the projector's parameters. */
export const PROJECTOR = { weight: 'projector.weight', bias: 'projector.bias' } as const;

/** The loss and the gradient of every parameter. */
export function buildTraining(recipe: Recipe, weights: WeightSource): Program {
  const network = new Network(recipe, weights);
  const { g } = network;
  const divisor = g.input(names.divisor, 'float32', []);
  const loss = div(g, sum(g, network.losses, [0]), divisor);
  const trained = network.trained();
  const slopes = gradients(g, loss, [...trained.values()], { checkpoints: recipe.recompute ? network.stream : [] });
  g.output(names.loss, loss);
  [...trained.keys()].forEach((name, index) => {
    g.output(names.gradient(name), slopes[index] as Value);
  });
  return network.program();
}

/** The loss of every predicting position, without dropout. */
export function buildEvaluation(recipe: Recipe, weights: WeightSource): Program {
  const network = new Network({ ...recipe, dropout: 0, residualDropout: 0 }, weights);
  network.g.output(names.losses, network.losses);
  return network.program();
}

/** The forward graph. */
class Network implements WeightSource {
  readonly g = new Graph();
  readonly losses: Value;
  /** The residual stream after the embedding and after every sum. */
  readonly stream: Value[] = [];
  readonly #recipe: Recipe;
  readonly #weights: WeightSource;
  readonly #parameters = new Map<string, { readonly shape: ParameterShape; readonly value: Value }>();
  readonly #masks: Program['masks'][number][] = [];

  constructor(recipe: Recipe, weights: WeightSource) {
    this.#recipe = recipe;
    this.#weights = weights;
    const { g } = this;
    const { language } = recipe;
    const hidden = language.layers(g, this, this.#embed(), this.#blocks());
    const predicting = g.input(names.predicting, 'int64', ['predicted']);
    const logits = language.logits(g, this, gather(g, flatten(g, hidden, 1), predicting));
    this.losses = crossEntropy(g, logits, g.input(names.targets, 'int64', ['predicted']));
  }

  /** A weight of the language model: the checkpoint's where it is frozen, a parameter where all are trained. */
  value(g: Graph, name: string, shape: readonly number[]): Value {
    const { plan, begin, language } = this.#recipe;
    if (plan) return this.#weights.value(g, name, shape);
    // A tied weight goes by two names and is trained once.
    const own = language.tiedNames?.includes(name) ? language.tiedNames[0] : name;
    if (begin === 'checkpoint') return this.#parameter({ name: own, shape, start: { kind: 'weight', name: own } });
    const isNorm = shape.length === 1;
    return this.#parameter({
      name: own,
      shape,
      start: isNorm ? { kind: 'constant', value: own.endsWith('.bias') ? 0 : 1 } : { kind: 'normal', deviation: begin.deviation },
    });
  }

  trained(): ReadonlyMap<string, Value> {
    return new Map([...this.#parameters].map(([name, { value }]) => [name, value]));
  }

  program(): Program {
    const parameters = [...this.#parameters.values()].map(({ shape }) => shape);
    return { model: this.g.toModel(), parameters, masks: this.#masks };
  }

  #parameter(shape: ParameterShape): Value {
    const known = this.#parameters.get(shape.name);
    if (known) return known.value;
    const value = this.g.input(shape.name, 'float32', shape.shape);
    this.#parameters.set(shape.name, { shape, value });
    return value;
  }

  #embed(): Value {
    const { g } = this;
    const { language, image, dropout } = this.#recipe;
    const words = language.embed(g, this, g.input(names.ids, 'int64', ['rows', 'tokens']));
    if (!image) return this.#note(words);
    const features = cast(g, g.input(names.features, image.dtype, ['rows', image.tokens, image.dim]), 'float32');
    const shown = this.#drop(features, dropout, 'features');
    const weight = this.#parameter({
      name: PROJECTOR.weight,
      shape: [language.hiddenSize, image.dim],
      start: { kind: 'uniform', bound: 1 / Math.sqrt(image.dim) },
    });
    const bias = this.#parameter({ name: PROJECTOR.bias, shape: [language.hiddenSize], start: { kind: 'constant', value: 0 } });
    const projected = flatten(g, add(g, linear(g, shown, weight), bias), 1);
    const positions = g.input(names.imagePositions, 'int64', [projected.shape[0] as string, 2]);
    return this.#note(scatterND(g, words, positions, projected));
  }

  #blocks(): Blocks {
    const { g } = this;
    const { language, plan, residualDropout, maxTokens } = this.#recipe;
    const positions = g.input(names.positions, 'int64', ['rows', 'tokens']);
    const mask = g.input(names.mask, 'float32', [stackedTokens(language), 'tokens']);
    const adaptation = plan && this.#adaptation(plan);
    return {
      project: (modules, x) => {
        const scaled = adaptation?.scaleInput(modules, x) ?? x;
        const outputs = modules.map((module) => frozenProjection(g, this, module, scaled));
        return adaptation?.adapt(modules, scaled, outputs) ?? outputs;
      },
      attend: plainAttention(g, language, rotation(g, language, maxTokens, positions), mask),
      residual: (hidden, branch) => this.#note(add(g, hidden, this.#drop(branch, residualDropout, 'hidden'))),
      positions,
    };
  }

  #adaptation(plan: AdapterPlan): Adaptation {
    const { g } = this;
    const shapes = new Map(adapterShapes(plan).map((shape) => [shape.name, shape]));
    const { length } = gatedContexts(plan);
    const gate = length > 0 ? g.input(names.gate, 'float32', ['rows', 'tokens', length]) : null;
    return new Adaptation(g, plan, gate, (name) => this.#parameter(shapes.get(name) as ParameterShape));
  }

  /** x with a part of it zero and the rest scaled up; which part, the caller of the graph says with a mask. */
  #drop(x: Value, rate: number, of: 'features' | 'hidden'): Value {
    if (rate === 0) return x;
    const { g } = this;
    const name = `keep.${this.#masks.length}`;
    this.#masks.push({ name, of });
    const kept = where(g, g.input(name, 'bool', x.shape), x, scalar(g, 'float32', 0));
    return mul(g, kept, scalar(g, 'float32', 1 / (1 - rate)));
  }

  #note(hidden: Value): Value {
    this.stream.push(hidden);
    return hidden;
  }
}
