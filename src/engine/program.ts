/**
 * The decoder as one graph: the family's network, a key/value cache, and the adapter bank.
 * The same graph serves prefill and decode; only the sizes of its inputs differ.
 *
 * The bank's arithmetic for one projection, all adapters of the batch at once (G = rows, or 1 where all rows share one group):
 *     h = x · A                    [rows, tokens, rank]      A [G, in, rank]
 *     h = gate ? h : offset        [rows, tokens, rank]      gate: which columns a token sees; offset: BitFit's constant column, else 0
 *     y = W x + b + h · B          [rows, tokens, out]       B [G, rank, out]
 * and IA3's, where the method occurs:  y ← y + y ⊙ (scaleGate · S), S [G, scales, out], or the same on x for the FFN's inner activation.
 * The gate chooses and does not multiply: an adapter of huge numbers may overflow in its columns, and infinity times zero would be NaN in other rows.
 *
 * Projections that read one input (q, k, v; gate, up) form a site and share one product with their A's side by side: fewer launches.
 * What a batch does not need costs a small model a good part of its step, so there are programs without it (`Variant`).
 */
import { type BackboneDescription, openWeights } from '../backbone/backbone.js';
import type { LanguageModel } from '../backbone/language/model.js';
import { frozenProjection, plainResidual, rotation } from '../backbone/language/model.js';
import type { LinearModule } from '../backbone/module.js';
import type { Weights } from '../backbone/weights.js';
import { AppError } from '../errors.js';
import { groupQueryAttention, HEAD_DIM_STEP } from '../onnx/attention.js';
import { Graph, type Value } from '../onnx/graph.js';
import { add, concat, gatherND, matmul, mul, scatterND, split, where } from '../onnx/ops.js';
import { narrowWeights, type Precision } from './weights.js';

/**
 * Which parts of the bank a program has. `plain`: none. `open`: rank columns without gates, where every token sees every column of its
 * group (a decode step of one adapter, or of a group a row). `rank`: with gates. `scale`: with IA3's products as well.
 */
export type Variant = 'plain' | 'open' | 'rank' | 'scale';

/** Projections that read one input. */
export type Site = readonly LinearModule[];

/** How the bank's inputs are laid out: what bank.ts fills. */
export interface BankShape {
  readonly sites: readonly Site[];
  readonly scalable: readonly LinearModule[];
}

export interface Program {
  readonly model: Uint8Array;
  readonly bank: BankShape;
}

/** Names of the graph's inputs, in one place for whoever feeds them. */
export const names = {
  ids: 'ids',
  imageEmbeddings: 'image_embeddings',
  imagePositions: 'image_positions',
  logitPositions: 'logit_positions',
  lengths: 'lengths',
  total: 'total',
  logits: 'logits',
  past: (layer: number, part: 'k' | 'v') => `past.${layer}.${part}`,
  positions: 'positions',
  /** Keys (rotated, where positions rotate) and values of the run's tokens, [rows, tokens, layers · (k, v) · kvHeads · headDim]. */
  fresh: 'fresh',
  /** Gate and offset for a site of `parts` projections: the columns repeated as often. */
  gate: (parts: number) => `gate.${parts}`,
  offset: (parts: number) => `offset.${parts}`,
  a: (site: Site) => `a.${(site[0] as LinearModule).name}`,
  b: (module: LinearModule) => `b.${module.name}`,
  scaleGate: 'scale_gate',
  scale: (module: LinearModule) => `scale.${module.name}`,
} as const;

/** A program on a checkpoint's own weights. */
export interface OpenedProgram extends Program {
  readonly weights: Weights;
}

export interface ProgramOptions {
  /** Tokens of the longest row. */
  readonly maxLength: number;
  /** What the weights are multiplied in: float32 unless told. */
  readonly weights?: Precision | undefined;
  /** Folder that weights of fewer bits are kept in. */
  readonly weightsCache?: string | undefined;
}

/**
 * The program of a backbone, from its checkpoint's headers. Throws `unsupported_model` for heads that the runtime cannot do, `invalid_file` with
 * every fault of the checkpoint.
 */
export async function openProgram(
  { language, languageFolder }: Pick<BackboneDescription, 'language' | 'languageFolder'>,
  variant: Variant,
  { maxLength, weights: precision = 'float32', weightsCache: cache }: ProgramOptions,
): Promise<OpenedProgram> {
  const { headDim } = language;
  if (headDim % HEAD_DIM_STEP !== 0) {
    throw new AppError(
      'unsupported_model',
      `${languageFolder}/config.json: Expected attention heads of a multiple of ${HEAD_DIM_STEP} dimensions but received ${headDim}`,
    );
  }
  if (precision !== 'float32' && cache === undefined) throw new TypeError(`Expected a folder to keep ${precision} weights in`);
  const { checkpoint, weights: own } = await openWeights(languageFolder, language);
  try {
    const build = (weights: Weights): Program => buildProgram(language, weights, variant, maxLength);
    const weights =
      precision === 'float32' || cache === undefined ? own : await narrowWeights(checkpoint, { precision, cache }, build);
    return { ...build(weights), weights };
  } finally {
    await checkpoint.close();
  }
}

/** Builds the decoder for rows of at most `maxLength` tokens. Throws `invalid_file` with every fault of the checkpoint. */
function buildProgram(language: LanguageModel, weights: Weights, variant: Variant, maxLength: number): Program {
  const g = new Graph();
  const sites: Site[] = [];
  const ids = g.input(names.ids, 'int64', ['rows', 'tokens']);
  const imageEmbeddings = g.input(names.imageEmbeddings, 'float32', ['image_tokens', language.hiddenSize]);
  const imagePositions = g.input(names.imagePositions, 'int64', ['image_tokens', 2]);
  const logitPositions = g.input(names.logitPositions, 'int64', ['logit_rows', 2]);
  const positions = g.input(names.positions, 'int64', ['rows', 'tokens']);

  const attend = cachedAttention(g, language, rotation(g, language, maxLength, positions));
  const bank = variant === 'plain' ? undefined : new BankInputs(g, variant);
  const project = (site: Site, x: Value): Value[] => {
    sites.push(site);
    const scaled = bank?.scaleInput(site, x) ?? x;
    const y = site.map((module) => frozenProjection(g, weights, module, scaled));
    return bank ? bank.adapt(site, scaled, y) : y;
  };

  const embedded = scatterND(g, language.embed(g, weights, ids), imagePositions, imageEmbeddings);
  const hidden = language.layers(g, weights, embedded, { project, attend: attend.apply, residual: plainResidual(g), positions });
  // Only the rows that a token is drawn from go through the vocabulary, the largest product of a small model.
  const logits = language.logits(g, weights, gatherND(g, hidden, logitPositions));
  g.output(names.logits, logits);
  attend.declareOutputs();
  weights.check();
  return {
    model: g.toModel(),
    bank: { sites, scalable: language.modules.filter((module) => module.scalable) },
  };
}

/**
 * Attention over rows of a cache that the graph only reads; the new keys and values are a result, which the caller adds to the cache.
 * (The operator could append in place, but the binding then copies the whole cache out of every run: see kv.ts.)
 */
function cachedAttention(g: Graph, { heads, kvHeads, headDim }: LanguageModel, rotate: (x: Value) => Value) {
  const lengths = g.input(names.lengths, 'int32', ['rows']);
  const total = g.input(names.total, 'int32', [1]);
  const fresh: Value[] = [];
  return {
    apply: (layer: number, q: Value, k: Value, v: Value): Value => {
      const shape = ['rows', kvHeads, 'capacity', headDim];
      const pastK = g.input(names.past(layer, 'k'), 'float32', shape);
      const pastV = g.input(names.past(layer, 'v'), 'float32', shape);
      const key = rotate(k);
      fresh.push(key, v);
      return groupQueryAttention(g, { q: rotate(q), k: key, v, pastK, pastV, lengths, total }, heads, kvHeads);
    },
    declareOutputs: (): void => {
      // One result for all layers: every result costs the binding an allocation.
      g.output(names.fresh, concat(g, fresh));
    },
  };
}

/** The bank's side of the graph. */
class BankInputs {
  readonly #g: Graph;
  readonly #variant: Variant;
  readonly #gates = new Map<number, { gate: Value; offset: Value }>();
  #scaleGate: Value | undefined;

  constructor(g: Graph, variant: Variant) {
    this.#g = g;
    this.#variant = variant;
  }

  /** IA3 on the FFN's inner activation: x scaled before the projection that reads it. */
  scaleInput(site: Site, x: Value): Value {
    const [module] = site;
    return site.length === 1 && module?.scalable === 'input' ? this.#scale(module, x) : x;
  }

  /** Adds the rank columns to a site's outputs, then scales them. */
  adapt(site: Site, x: Value, outputs: readonly Value[]): Value[] {
    const g = this.#g;
    const parts = site.length;
    const a = g.input(names.a(site), 'float32', ['rows?', (site[0] as LinearModule).inFeatures, rankOf(parts)]);
    const h = this.#gate(parts, matmul(g, x, a));
    const columns = split(g, h, Array<string>(parts).fill('rank'));
    return site.map((module, index) => {
      const b = g.input(names.b(module), 'float32', ['rows?', 'rank', module.outFeatures]);
      const y = add(g, outputs[index] as Value, matmul(g, columns[index] as Value, b));
      return module.scalable === 'output' ? this.#scale(module, y) : y;
    });
  }

  #gate(parts: number, h: Value): Value {
    if (this.#variant === 'open') return h;
    const { gate, offset } = this.#gatesFor(parts);
    return where(this.#g, gate, h, offset);
  }

  #gatesFor(parts: number): { gate: Value; offset: Value } {
    const known = this.#gates.get(parts);
    if (known) return known;
    const shape = ['rows', 'tokens', rankOf(parts)];
    const gates = {
      gate: this.#g.input(names.gate(parts), 'bool', shape),
      offset: this.#g.input(names.offset(parts), 'float32', shape),
    };
    this.#gates.set(parts, gates);
    return gates;
  }

  #scale(module: LinearModule, x: Value): Value {
    if (this.#variant !== 'scale') return x;
    const g = this.#g;
    this.#scaleGate ??= g.input(names.scaleGate, 'float32', ['rows', 'tokens', 'scales']);
    const width = module.scalable === 'input' ? module.inFeatures : module.outFeatures;
    const factor = matmul(g, this.#scaleGate, g.input(names.scale(module), 'float32', ['rows?', 'scales', width]));
    return add(g, x, mul(g, x, factor));
  }
}

function rankOf(parts: number): string {
  return parts === 1 ? 'rank' : `rank*${parts}`;
}
