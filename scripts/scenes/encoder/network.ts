/**
 * The encoder in training: the family's own graph with its weights as inputs, one linear answer to all questions on top of every token, and
 * the loss. What is trained here is thrown away but for the encoder.
 */
import { gradients } from '../../../src/autodiff/gradients.js';
import { normalise } from '../../../src/backbone/vision/encoder.js';
import type { VisionModel, VisionWeights } from '../../../src/backbone/vision/model.js';
import type { Normalisation } from '../../../src/backbone/vision/recipe.js';
import { Graph, type Value } from '../../../src/onnx/graph.js';
import { add, div, flatten, linear, mul, scalar, split } from '../../../src/onnx/ops.js';
import { crossEntropy, sum } from '../../../src/onnx/reduce.js';
import type { ParameterShape } from '../../../src/training/parameters.js';
import { QUESTION_NAMES, QUESTIONS, type Question, WEIGHTS } from './cells.js';
import { startOf } from './start.js';

export const names = {
  pixels: 'pixels',
  /** By what the sum of losses is divided: the cells of a batch. */
  divisor: 'divisor',
  loss: 'loss',
  targets: (question: string) => `targets.${question}`,
  answers: (question: string) => `answers.${question}`,
  gradient: (parameter: string) => `gradient.${parameter}`,
} as const;

/** Parameters of the answers, not of the encoder. */
const HEAD = { weight: 'head.weight', bias: 'head.bias' } as const;

export function isOfEncoder(name: string): boolean {
  return name !== HEAD.weight && name !== HEAD.bias;
}

export interface EncoderProgram {
  /** Pixels and targets to the loss and its gradients. */
  readonly training: Uint8Array;
  /** Pixels to the answers' logits, question by question. */
  readonly reading: Uint8Array;
  readonly parameters: readonly ParameterShape[];
}

export interface EncoderTask {
  readonly model: VisionModel;
  readonly normalisation: Normalisation;
  /** Pixels an edge. */
  readonly edge: number;
}

export async function buildPrograms(task: EncoderTask): Promise<EncoderProgram> {
  const trained = await Network.build(task);
  const { g } = trained;
  const losses = trained.logits.map((logits, index) => {
    const question = QUESTION_NAMES[index] as Question;
    const targets = g.input(names.targets(question), 'int64', logits.shape.slice(0, 1));
    return mul(g, sum(g, crossEntropy(g, logits, targets), [0]), scalar(g, 'float32', WEIGHTS[question]));
  });
  const total = losses.reduce((one, other) => add(g, one, other));
  const loss = div(g, total, g.input(names.divisor, 'float32', []));
  const parameters = [...trained.parameters.values()];
  const slopes = gradients(
    g,
    loss,
    parameters.map(({ value }) => value),
  );
  g.output(names.loss, loss);
  for (const [index, { shape }] of parameters.entries()) g.output(names.gradient(shape.name), slopes[index] as Value);

  const read = await Network.build(task);
  for (const [index, logits] of read.logits.entries()) read.g.output(names.answers(QUESTION_NAMES[index] as string), logits);
  return { training: g.toModel(), reading: read.g.toModel(), parameters: parameters.map(({ shape }) => shape) };
}

class Network implements VisionWeights {
  readonly g = new Graph();
  readonly parameters = new Map<string, { readonly shape: ParameterShape; readonly value: Value }>();
  /** [images · cells, answers], one a question. */
  logits: readonly Value[] = [];

  static async build({ model, normalisation, edge }: EncoderTask): Promise<Network> {
    const network = new Network();
    const { g } = network;
    const pixels = g.input(names.pixels, 'uint8', ['images', edge, edge, 3]);
    const features = await model.build(g, network, normalise(g, pixels, normalisation));
    const answers = QUESTION_NAMES.map((name) => QUESTIONS[name]);
    const total = answers.reduce((one, other) => one + other, 0);
    const weight = network.value(g, HEAD.weight, [total, model.imageDim]);
    const all = add(g, linear(g, features, weight), network.value(g, HEAD.bias, [total]));
    network.logits = split(g, all, answers).map((logits) => flatten(g, logits, 1));
    return network;
  }

  value(g: Graph, name: string, shape: readonly number[]): Value {
    const known = this.parameters.get(name);
    if (known) return known.value;
    const value = g.input(name, 'float32', shape);
    this.parameters.set(name, { value, shape: { name, shape, start: startOf(name, shape) } });
    return value;
  }

  has(): boolean {
    return true;
  }

  expect(): void {}

  read(name: string): never {
    throw new TypeError(`Expected a family whose weights enter the graph as they are but ${name} was to be read`);
  }

  check(): void {}
}

/** Matrices decay; what is added, what scales, and what knows of places do not. */
export function decays({ name, shape }: ParameterShape): boolean {
  return shape.length > 1 && !/_token|position|logit_scale/.test(name);
}
