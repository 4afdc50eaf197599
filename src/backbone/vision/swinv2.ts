/**
 * Swin Transformer V2 (Liu et al. 2022; transformers' modeling_swinv2.py): attention within windows, every other time of windows that are
 * shifted by half, and between stages four patches become one. Attention compares directions only, norms stand after what they normalise,
 * and positions are a small network of the distance between two tokens.
 *
 * Tokens lie row by row from the first to the last layer. One reordering takes a head's tokens to their windows, and one takes them back:
 * padding, shift, windows and heads are all in its list of places (windows.ts), and its gradient is the opposite one.
 */
import { z } from 'zod';
import { relu } from '../../onnx/activation.js';
import type { Graph, Value } from '../../onnx/graph.js';
import { layerNorm } from '../../onnx/norm.js';
import {
  add,
  clip,
  concat,
  exp,
  float32,
  gather,
  int64,
  matmul,
  mul,
  opposite,
  reorder,
  repeatRows,
  reshape,
  rmsNorm,
  scalar,
  sigmoid,
  split,
  transpose,
} from '../../onnx/ops.js';
import { softmax } from '../../onnx/reduce.js';
import type { Dim } from '../../onnx/shape.js';
import { parseWith } from '../config.js';
import type { VisionModel } from './model.js';
import { dense, type Edges, edges, embedPatches, PATCHES, sharedFields, size, type Tensors } from './transformer.js';
import { byHeads, distancesOf, foursOf, pairsOf, type Windows, windowsOf } from './windows.js';

/** Of the norms that have no setting: PyTorch's own. */
const EPSILON = 1e-5;
/** Added to the mean square of a direction, so that padding, which has none, stays zero. */
const NO_DIRECTION = 1e-12;
/** transformers subtracts 100 twice. */
const HIDDEN = -200;
const POSITION_WIDTH = 512;
const LARGEST_BIAS = 16;
const MAX_WINDOW = 64;
/** Of a layer's mask: all pairs of tokens in all windows. The largest real model has a fifth of it. */
const MAX_PAIRS = 2 ** 25;
const MAX_STAGES = 8;

const { hidden_act, image_size, num_channels, qkv_bias } = sharedFields;

const window = z.int().min(0).max(MAX_WINDOW);

const schema = z
  .object({
    model_type: z.literal('swinv2'),
    hidden_act,
    image_size,
    num_channels,
    qkv_bias,
    patch_size: edges.prefault(4),
    embed_dim: size.default(96),
    depths: z.array(z.int().positive().max(256)).min(1).max(MAX_STAGES).default([2, 2, 6, 2]),
    num_heads: z.array(size).default([3, 6, 12, 24]),
    window_size: window.min(1).default(7),
    pretrained_window_sizes: z
      .array(window.refine((edge) => edge !== 1, { error: 'Expected 0 or at least 2 but received 1' }))
      .default(Array<number>(MAX_STAGES).fill(0)),
    mlp_ratio: z.number().positive().max(1024).default(4),
    // transformers adds positions of one token too many, and fails: nothing says what they should mean.
    use_absolute_embeddings: z.literal(false).default(false),
    layer_norm_eps: z.number().positive().default(1e-5),
  })
  .superRefine(checkStages);

type Config = z.output<typeof schema>;

function checkStages(c: Config, context: z.RefinementCtx): void {
  const refuse = (path: (keyof Config | number)[], message: string) => context.addIssue({ code: 'custom', path, message });
  const { depths, num_heads: heads, pretrained_window_sizes: pretrained, embed_dim: d } = c;
  for (const [name, list] of Object.entries({ num_heads: heads, pretrained_window_sizes: pretrained }))
    if (list.length < depths.length)
      refuse([name as keyof Config], `Expected a number for each of ${depths.length} stages but received ${list.length}`);
  for (const stage of depths.keys())
    if ((d * 2 ** stage) % (heads[stage] ?? 1) !== 0)
      refuse(['num_heads', stage], `Expected a divisor of embed_dim ${d} · ${2 ** stage} but received ${heads[stage]}`);
  // The last stage's windows are as large as what whole patches leave of the image there.
  const rows = Math.floor(c.image_size[0] / c.patch_size[0]);
  const least = 2 ** (depths.length - 1);
  const pairs = pairsIn(c);
  if (pairs > MAX_PAIRS)
    refuse(['window_size'], `Expected windows of at most ${MAX_PAIRS} pairs of tokens in all but received ${pairs}`);
  if (rows < least)
    refuse(['image_size'], `Expected at least ${least} patches down for ${depths.length} stages but received ${rows}`);
}

/** Pairs of tokens in all windows of the first stage, which has the most. */
function pairsIn({
  image_size: image,
  patch_size: patch,
  window_size: window,
}: Pick<Config, 'image_size' | 'patch_size' | 'window_size'>): number {
  const [rows, columns] = [Math.ceil(image[0] / patch[0]), Math.ceil(image[1] / patch[1])];
  const edge = Math.min(rows, window);
  return Math.ceil(rows / edge) * Math.ceil(columns / edge) * edge ** 4;
}

interface Stage {
  readonly grid: Edges;
  readonly d: number;
  readonly heads: number;
  readonly edge: number;
  readonly pretrainedEdge: number;
  /** Of even and of odd layers. */
  readonly windows: readonly [MaskedWindows, MaskedWindows];
}

interface MaskedWindows extends Windows {
  /** What is added to scores: [windows, 1, tokens, tokens]. */
  readonly mask: Value | null;
}

export function readSwinv2(config: unknown, subject: string): VisionModel {
  const c = parseWith(schema, config, subject);
  const last = c.depths.length - 1;

  /** Patches of an image; its end is padded to a whole one. */
  const gridOf = (height: number, width: number): Edges => [
    Math.ceil(height / c.patch_size[0]),
    Math.ceil(width / c.patch_size[1]),
  ];

  /** Half as many patches along each edge, stage by stage. */
  const gridAt = ([rows, columns]: Edges, stage: number): Edges => [
    Math.ceil(rows / 2 ** stage),
    Math.ceil(columns / 2 ** stage),
  ];

  function stageOf(g: Graph, whole: Edges, index: number): Stage {
    const grid = gridAt(whole, index);
    // Windows are of one size however large an image is: that of the image that the model was made for, told by its height.
    const ownRows = Math.floor(c.image_size[0] / c.patch_size[0] / 2 ** index);
    const edge = Math.min(ownRows, c.window_size);
    const shift = ownRows > c.window_size ? Math.floor(c.window_size / 2) : 0;
    return {
      grid,
      d: c.embed_dim * 2 ** index,
      heads: c.num_heads[index] as number,
      edge,
      pretrainedEdge: c.pretrained_window_sizes[index] as number,
      windows: [masked(g, windowsOf(grid, edge, 0)), masked(g, windowsOf(grid, edge, shift))],
    };
  }

  function embed(tensors: Tensors, pixels: Value, grid: Edges): Value {
    const tall = padTo(tensors.g, pixels, grid[0] * c.patch_size[0], 2);
    const whole = padTo(tensors.g, tall, grid[1] * c.patch_size[1], 3);
    const patches = { name: PATCHES, patch: c.patch_size, size: c.embed_dim, hasBias: true };
    return norm(tensors, 'embeddings.norm', embedPatches(tensors, whole, grid, patches), EPSILON);
  }

  /** What a pair of tokens adds to its score for where they are to each other: [heads, tokens, tokens]. */
  function positionBias(tensors: Tensors, { edge, pretrainedEdge, heads }: Stage): Value {
    const { g } = tensors;
    const tokens = edge * edge;
    const distances = float32(g, null, [(2 * edge - 1) ** 2, 2], distancesOf(edge, pretrainedEdge));
    const inner = relu(g, dense(tensors, 'continuous_position_bias_mlp.0', distances, POSITION_WIDTH));
    const raw = dense(tensors, 'continuous_position_bias_mlp.2', inner, heads, false);
    const table = mul(g, sigmoid(g, raw), scalar(g, 'float32', LARGEST_BIAS)); // [distances², heads]
    return reshape(g, transpose(g, gather(g, table, int64(g, pairsOf(edge))), [1, 0]), [heads, tokens, tokens]);
  }

  /** How much each head's cosines count, once for every channel of the head: [d]. */
  function scales({ g, weights, prefix }: Tensors, { d, heads }: Stage): Value {
    const logarithm = reshape(g, weights.value(g, `${prefix}logit_scale`, [heads, 1, 1]), [heads, 1]);
    const bounds = [Number.NEGATIVE_INFINITY, Math.log(100)].map((bound) => scalar(g, 'float32', bound)) as [Value, Value];
    return reshape(g, mul(g, exp(g, clip(g, logarithm, ...bounds)), ones(g, [heads, d / heads])), [d]);
  }

  function attend(outer: Tensors, x: Value, stage: Stage, windows: MaskedWindows): Value {
    const { g } = outer;
    const { d, heads } = stage;
    const { count, tokens, padding, mask } = windows;
    const width = d / heads;
    const [images] = x.shape as [Dim];
    const total = count * tokens;
    const inner = { ...outer, prefix: `${outer.prefix}self.` };
    const order = byHeads(windows, heads);
    const padded = padTo(g, x, total, 1);
    const byHead = (y: Value): Value => reshape(g, y, [images, total * heads, width]);
    const direction = (y: Value): Value => rmsNorm(g, byHead(y), ones(g, [width]), NO_DIRECTION);
    const toWindows = (y: Value): Value => reshape(g, reorder(g, y, order, 1), [images, count, heads, tokens, width]);

    const sharp = mul(
      g,
      reshape(g, direction(dense(inner, 'query', padded, d, c.qkv_bias)), [images, total, d]),
      scales(inner, stage),
    );
    const q = toWindows(byHead(sharp));
    const k = toWindows(direction(dense(inner, 'key', padded, d, false)));
    const v = toWindows(byHead(dense(inner, 'value', padded, d, c.qkv_bias)));
    // Each direction is √width long.
    const cosines = matmul(g, q, k, { transB: true, alpha: 1 / width });
    const bias = positionBias(inner, stage);
    const scores = add(g, cosines, mask ? add(g, bias, mask) : bias);
    const mixed = reshape(g, matmul(g, softmax(g, scores), v), [images, total * heads, width]);
    const rows = reshape(g, reorder(g, mixed, opposite(order), 1), [images, total, d]);
    const kept = padding === 0 ? rows : (split(g, rows, [total - padding, padding], 1)[0] as Value);
    return dense(outer, 'output.dense', kept, d);
  }

  function layer(tensors: Tensors, x: Value, stage: Stage, windows: MaskedWindows): Value {
    const { prefix } = tensors;
    const normed = (name: string, y: Value): Value => norm(tensors, name, y, c.layer_norm_eps);
    const mixed = attend({ ...tensors, prefix: `${prefix}attention.` }, x, stage, windows);
    const middle = add(tensors.g, x, normed('layernorm_before', mixed));
    const wide = c.hidden_act(tensors.g, dense(tensors, 'intermediate.dense', middle, Math.floor(stage.d * c.mlp_ratio)));
    return add(tensors.g, middle, normed('layernorm_after', dense(tensors, 'output.dense', wide, stage.d)));
  }

  /** Four patches become one of twice their channels. */
  function merge(tensors: Tensors, x: Value, { grid, d }: Stage): Value {
    const { g } = tensors;
    const fours = foursOf(grid);
    const [images] = x.shape as [Dim];
    const side = reshape(g, reorder(g, padTo(g, x, fours.order.length, 1), fours.order, 1), [
      images,
      fours.order.length / 4,
      4 * d,
    ]);
    return norm(tensors, 'downsample.norm', dense(tensors, 'downsample.reduction', side, 2 * d, false), EPSILON);
  }

  return {
    family: 'swinv2',
    imageDim: c.embed_dim * 2 ** last,
    imageSize: c.image_size,
    imageTokens(height, width) {
      const [rows, columns] = gridAt(gridOf(height, width), last);
      return rows * columns;
    },
    async build(g, weights, pixels) {
      const [, , height, width] = pixels.shape as [Dim, Dim, number, number];
      const grid = gridOf(height, width);
      // A checkpoint that was saved from the bare model has no prefix.
      const prefix = weights.has('embeddings.norm.weight') ? '' : 'swinv2.';
      const tensors = { g, weights, prefix };
      let x = embed(tensors, pixels, grid);
      for (const [index, depth] of c.depths.entries()) {
        const stage = stageOf(g, grid, index);
        const below = `${prefix}encoder.layers.${index}.`;
        for (let each = 0; each < depth; each++)
          x = layer({ ...tensors, prefix: `${below}blocks.${each}.` }, x, stage, stage.windows[each % 2] as MaskedWindows);
        if (index < last) x = merge({ ...tensors, prefix: below }, x, stage);
      }
      const features = norm(tensors, 'layernorm', x, c.layer_norm_eps);
      weights.check();
      return features;
    },
  };
}

function norm({ g, weights, prefix }: Tensors, name: string, x: Value, epsilon: number): Value {
  const vector = (part: string): Value => weights.value(g, `${prefix}${name}.${part}`, [Number(x.shape.at(-1))]);
  return layerNorm(g, x, vector('weight'), vector('bias'), epsilon);
}

/** x with zeros at the end of an axis, up to a size. */
function padTo(g: Graph, x: Value, total: number, axis: number): Value {
  const missing = total - Number(x.shape[axis]);
  if (missing === 0) return x;
  const shape = [1, ...x.shape.slice(1).map(Number)].with(axis, missing);
  return concat(g, [x, repeatRows(g, float32(g, null, shape, new Float32Array(shape.reduce((a, b) => a * b))), x)], axis);
}

function masked(g: Graph, windows: Windows): MaskedWindows {
  const { count, tokens, hidden } = windows;
  const mask =
    hidden &&
    float32(
      g,
      null,
      [count, 1, tokens, tokens],
      hidden.map((isHidden) => (isHidden ? HIDDEN : 0)),
    );
  return { ...windows, mask };
}

function ones(g: Graph, shape: readonly number[]): Value {
  return float32(g, null, shape, new Float32Array(shape.reduce((a, b) => a * b)).fill(1));
}
