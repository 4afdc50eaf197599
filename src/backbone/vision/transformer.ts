/**
 * What the vision transformers share (Dosovitskiy et al. 2021): patches with learned tokens before them, learned positions, blocks that
 * normalise first, and a last norm. A family's file says what its config.json means and how its checkpoint names things; the network is
 * here, once. Attention is plain products: onnxruntime's fused one has no gradient, and is little of the work.
 */
import { z } from 'zod';
import { AppError } from '../../errors.js';
import type { Graph, Value } from '../../onnx/graph.js';
import { layerNorm } from '../../onnx/norm.js';
import { add, concat, float32, linear, matmul, mul, repeatRows, reshape, split, transpose } from '../../onnx/ops.js';
import { softmax } from '../../onnx/reduce.js';
import type { Dim } from '../../onnx/shape.js';
import { activation } from '../activation.js';
import { bicubic } from './bicubic.js';
import type { Features } from './features.js';
import type { VisionModel, VisionWeights } from './model.js';

/** Bounds that no real model comes near, so that a config.json cannot ask for more than arithmetic and memory hold. */
export const size = z
  .int()
  .positive()
  .max(2 ** 24);
const MAX_EDGE = 4096;

/** Height and width. */
export type Edges = readonly [number, number];

const edge = z.int().positive().max(MAX_EDGE);
const edgesInput = z.union([edge, z.tuple([edge, edge])]);

/** A number for both, or [height, width]. */
export const edges = z
  .custom<z.output<typeof edgesInput>>((value) => edgesInput.safeParse(value).success, {
    error: ({ input }) =>
      `Expected a number or [height, width], each from 1 to ${MAX_EDGE}, but received ${JSON.stringify(input) ?? 'nothing'}`,
  })
  .transform((value): Edges => (typeof value === 'number' ? [value, value] : value));

/** For positions that transformers knows the number of, and not the grid: it takes that for a square. */
export const square = edges.refine(([height, width]) => height === width, {
  error: ({ input }) => `Expected equal height and width but received ${JSON.stringify(input)}`,
});

/** What every family's config.json says in the same words. */
export const sharedFields = {
  hidden_size: size.default(768),
  num_hidden_layers: z.int().positive().max(4096).default(12),
  num_attention_heads: size.default(12),
  hidden_act: activation.prefault('gelu'),
  image_size: edges.prefault(224),
  num_channels: z.literal(3).default(3),
  qkv_bias: z.boolean().default(true),
};

type Shared = z.output<z.ZodObject<typeof sharedFields>> & { readonly patch_size: Edges };
type Sizes = Pick<Shared, 'hidden_size' | 'num_attention_heads' | 'image_size' | 'patch_size'>;

/** The faults of settings that are each in order, but not together. */
export function checkSizes(c: Sizes, context: z.RefinementCtx): void {
  const refuse = (field: keyof Sizes, message: string) => context.addIssue({ code: 'custom', path: [field], message });
  const { hidden_size: d, num_attention_heads: heads, image_size: image, patch_size: patch } = c;
  if (d % heads !== 0) refuse('num_attention_heads', `Expected a divisor of hidden_size ${d} but received ${heads}`);
  if (gridOf(image, patch).includes(0))
    refuse('image_size', `Expected at least one patch of ${format(patch)} but received ${format(image)}`);
}

/** The tensors below one name of a checkpoint, for one graph. */
export interface Tensors {
  readonly g: Graph;
  readonly weights: VisionWeights;
  readonly prefix: string;
}

/** x · Wᵀ + b over the last axis. */
export function dense({ g, weights, prefix }: Tensors, name: string, x: Value, outFeatures: number, hasBias = true): Value {
  const y = linear(g, x, weights.value(g, `${prefix}${name}.weight`, [outFeatures, Number(x.shape.at(-1))]));
  return hasBias ? add(g, y, weights.value(g, `${prefix}${name}.bias`, [outFeatures])) : y;
}

/** How a checkpoint names what is not in a block, and a block's attention. */
export interface Names {
  /** Before all others, unless the checkpoint was saved from the bare model. */
  readonly prefix: string;
  readonly patches: string;
  /** The learned tokens before the patches, in order. */
  readonly tokens: readonly string[];
  readonly positions: string;
  /** Whether tokens and positions are plain vectors and tables, without axes of one before them. */
  readonly areTables: boolean;
  /** Before the number of a block. */
  readonly layers: string;
  /** Queries, keys, values, and what is done to their result. */
  readonly attention: readonly [string, string, string, string];
  /** Before the first block; null where there is none. */
  readonly firstNorm: string | null;
  readonly lastNorm: string;
}

export interface Transformer {
  readonly family: string;
  readonly config: Shared & { readonly layer_norm_eps: number };
  /** Opens error messages. */
  readonly subject: string;
  readonly names: Names;
  readonly hasPatchBias: boolean;
  /** Whether positions are interpolated for an image of another size; where not, that image is refused. */
  readonly anySize: boolean;
  readonly block: {
    /** Names of the norms before attention and before the MLP. */
    readonly norms: readonly [string, string];
    /** Names of what multiplies each one's result, channel by channel; null where nothing does. */
    readonly scales: readonly [string, string] | null;
    readonly mlp: (tensors: Tensors, x: Value) => Value;
  };
  /** The patches' tokens after all blocks and the last norm, unless told. */
  readonly features?: Features;
}

/** The model of a family. */
export function transformer(it: Transformer): VisionModel {
  const { family, config: c, subject, names, hasPatchBias, anySize, block } = it;
  const { layers, normed, withTokens } = it.features ?? { layers: c.num_hidden_layers, normed: true, withTokens: false };
  const { tokens } = names;
  const { hidden_size: d, num_attention_heads: heads, image_size: own, patch_size: patch, layer_norm_eps: epsilon } = c;

  function grid(height: number, width: number): Edges {
    if (!anySize && (height !== own[0] || width !== own[1])) {
      throw new AppError(
        'unsupported_model',
        `${subject}: Expected images of image_size ${format(own)} but received ${format([height, width])}: positions of ${family} are not interpolated`,
      );
    }
    const cells = gridOf([height, width], patch);
    if (!cells.includes(0)) return cells;
    throw new AppError(
      'unsupported_model',
      `${subject}: Expected images of at least one patch of ${format(patch)} but received ${format([height, width])}`,
    );
  }

  /** A learned table as [1, rows, d]; of one row, its shape may be [d]. */
  function table({ g, weights, prefix }: Tensors, name: string, shape: readonly number[]): Value {
    const whole = [1, shape.length === 1 ? 1 : Number(shape[0]), d];
    const value = weights.value(g, `${prefix}${name}`, names.areTables ? shape : whole);
    return names.areTables ? reshape(g, value, whole) : value;
  }

  /** Learned positions of the tokens and of a grid of patches: [1, tokens + rows · columns, d]. */
  function positions(tensors: Tensors, [rows, columns]: Edges): Value {
    const { g } = tensors;
    const [ownRows, ownColumns] = gridOf(own, patch);
    const cells = ownRows * ownColumns;
    const learned = table(tensors, names.positions, [tokens.length + cells, d]);
    if (rows === ownRows && columns === ownColumns) return learned;
    const [before, map] = split(g, learned, [tokens.length, cells], 1) as [Value, Value];
    const along = (from: number, to: number): Value => float32(g, null, [to, from], bicubic(from, to));
    const tall = matmul(g, along(ownRows, rows), reshape(g, map, [ownRows, ownColumns * d]));
    const both = matmul(g, along(ownColumns, columns), reshape(g, tall, [rows, ownColumns, d])); // [rows, columns, d]
    return concat(g, [before, reshape(g, both, [1, rows * columns, d])], 1);
  }

  function embed(tensors: Tensors, pixels: Value): Value {
    const { g } = tensors;
    const [, , height, width] = pixels.shape as [Dim, Dim, number, number];
    const cells = grid(height, width);
    const patches = embedPatches(tensors, pixels, cells, { name: names.patches, patch, size: d, hasBias: hasPatchBias });
    const learned = tokens.map((name) => table(tensors, name, [d]));
    const before = learned.length === 0 ? [] : [repeatRows(g, concat(g, learned, 1), patches)];
    const x = add(g, concat(g, [...before, patches], 1), positions(tensors, cells));
    return names.firstNorm === null ? x : norm(tensors, names.firstNorm, x);
  }

  function norm({ g, weights, prefix }: Tensors, name: string, x: Value): Value {
    const vector = (part: string): Value => weights.value(g, `${prefix}${name}.${part}`, [d]);
    return layerNorm(g, x, vector('weight'), vector('bias'), epsilon);
  }

  function attend(tensors: Tensors, x: Value): Value {
    const { g } = tensors;
    const [images, count] = x.shape as [Dim, Dim];
    const [q, k, v] = names.attention.slice(0, 3).map((name) => {
      const y = dense(tensors, name, x, d, c.qkv_bias);
      return transpose(g, reshape(g, y, [images, count, heads, d / heads]), [0, 2, 1, 3]);
    }) as [Value, Value, Value]; // [images, heads, tokens, d / heads]
    const scores = matmul(g, q, k, { transB: true, alpha: (d / heads) ** -0.5 });
    const mixed = transpose(g, matmul(g, softmax(g, scores), v), [0, 2, 1, 3]);
    return dense(tensors, names.attention[3], reshape(g, mixed, [images, count, d]), d);
  }

  function layer(tensors: Tensors, x: Value): Value {
    const { g, weights, prefix } = tensors;
    const scaled = (part: 0 | 1, y: Value): Value =>
      block.scales ? mul(g, y, weights.value(g, `${prefix}${block.scales[part]}`, [d])) : y;
    const middle = add(g, x, scaled(0, attend(tensors, norm(tensors, block.norms[0], x))));
    return add(g, middle, scaled(1, block.mlp(tensors, norm(tensors, block.norms[1], middle))));
  }

  return {
    family,
    imageDim: d,
    imageSize: own,
    imageTokens(height, width) {
      const [rows, columns] = grid(height, width);
      return rows * columns + (withTokens ? tokens.length : 0);
    },
    async build(g, weights, pixels) {
      const prefix = weights.has(`${names.patches}.weight`) ? '' : names.prefix;
      const tensors = { g, weights, prefix };
      let x = embed(tensors, pixels);
      for (let index = 0; index < layers; index++) x = layer({ ...tensors, prefix: `${prefix}${names.layers}.${index}.` }, x);
      if (tokens.length > 0 && !withTokens) x = split(g, x, [tokens.length, Number(x.shape[1]) - tokens.length], 1)[1] as Value;
      if (normed) x = norm(tensors, names.lastNorm, x);
      weights.check();
      return x;
    },
  };
}

/** What ViT and others call their patches. */
export const PATCHES = 'embeddings.patch_embeddings.projection';

export interface Patches {
  readonly name: string;
  readonly patch: Edges;
  /** Of a patch's vector. */
  readonly size: number;
  readonly hasBias: boolean;
}

/** Every patch as a vector: [images, rows · columns, size]. */
export function embedPatches(
  { g, weights, prefix }: Tensors,
  pixels: Value,
  grid: Edges,
  { name, patch, size: d, hasBias }: Patches,
): Value {
  const kernel = weights.value(g, `${prefix}${name}.weight`, [d, 3, ...patch]);
  const y = linear(g, patchify(g, pixels, grid, patch), reshape(g, kernel, [d, 3 * patch[0] * patch[1]]));
  return hasBias ? add(g, y, weights.value(g, `${prefix}${name}.bias`, [d])) : y;
}

/**
 * Pixels [images, 3, height, width] → patches [images, rows · columns, 3 · down · across], row by row. A product with the kernel is then the
 * convolution whose steps are as long as its kernel, and it has a gradient.
 */
function patchify(g: Graph, pixels: Value, [rows, columns]: Edges, [down, across]: Edges): Value {
  const [images, channels] = pixels.shape as [Dim, number];
  let whole = pixels;
  for (const [axis, size] of [rows * down, columns * across].entries()) {
    const rest = Number(whole.shape[axis + 2]) - size;
    if (rest > 0) whole = split(g, whole, [size, rest], axis + 2)[0] as Value;
  }
  const cells = transpose(g, reshape(g, whole, [images, channels, rows, down, columns, across]), [0, 2, 4, 1, 3, 5]);
  return reshape(g, cells, [images, rows * columns, channels * down * across]);
}

/** Whole patches down and across; what is left over at the end is not looked at. */
function gridOf([height, width]: Edges, [down, across]: Edges): Edges {
  return [Math.floor(height / down), Math.floor(width / across)];
}

function format([height, width]: Edges): string {
  return `${height} × ${width}`;
}
