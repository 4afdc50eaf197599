/**
 * MobileNetV2 (Sandler et al. 2018; transformers' modeling_mobilenet_v2.py): the feature map before pooling, one token a cell.
 * BatchNorm is folded into the convolution before it, in float64, so the graph holds convolutions only.
 */
import { z } from 'zod';
import type { Graph, Value } from '../../onnx/graph.js';
import { add, clip, conv2d, float32, reshape, transpose } from '../../onnx/ops.js';
import { parseWith } from '../config.js';
import type { VisionModel, VisionWeights } from './model.js';

const schema = z.object({
  model_type: z.literal('mobilenet_v2'),
  num_channels: z.literal(3).default(3),
  depth_multiplier: z.number().positive().max(16).default(1),
  depth_divisible_by: z.int().positive().max(1024).default(8),
  min_depth: z.int().positive().max(1024).default(8),
  expand_ratio: z.number().positive().max(64).default(6),
  output_stride: z.literal([8, 16, 32]).default(32),
  first_layer_is_expansion: z.boolean().default(true),
  finegrained_output: z.boolean().default(true),
  hidden_act: z.literal('relu6').default('relu6'),
  tf_padding: z.boolean().default(true),
  layer_norm_eps: z.number().positive().default(0.001),
});

/** It takes images of any size, and config.json need not name one. */
const OWN_SIZE = [224, 224] as const;

/** Stands before every tensor's name, unless the checkpoint was saved from the bare model. */
const PREFIX = 'mobilenet_v2.';

/** Channels of the stem and the sixteen blocks, and the blocks' strides, before the depth multiplier. */
const CHANNELS = [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320];
const STRIDES = [2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1];

interface Layer {
  readonly name: string;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernel: 1 | 3;
  readonly stride: number;
  readonly dilation: number;
  readonly depthwise: boolean;
  readonly activation: boolean;
}

/** Of relu6. */
interface Bounds {
  readonly low: Value;
  readonly high: Value;
}

interface Block {
  readonly layers: readonly Layer[];
  readonly residual: boolean;
}

export function readMobileNetV2(config: unknown, subject: string): VisionModel {
  const c = parseWith(schema, config, subject);
  const divisible = (value: number): number => {
    const rounded = Math.max(
      c.min_depth,
      Math.floor((value + c.depth_divisible_by / 2) / c.depth_divisible_by) * c.depth_divisible_by,
    );
    return rounded < 0.9 * value ? rounded + c.depth_divisible_by : rounded;
  };
  const scaled = (channels: number): number => divisible(roundHalfEven(channels * c.depth_multiplier));
  const imageDim = c.finegrained_output && c.depth_multiplier < 1 ? 1280 : scaled(1280);
  const blocks = plan();

  function layer(name: string, inChannels: number, outChannels: number, kernel: 1 | 3, rest: Partial<Layer> = {}): Layer {
    return {
      name,
      inChannels,
      outChannels,
      kernel,
      stride: 1,
      dilation: 1,
      depthwise: false,
      activation: true,
      ...rest,
    };
  }

  function plan(): Block[] {
    const channels = CHANNELS.map(scaled);
    const stemWidth = scaled(32);
    const stem = [
      layer('conv_stem.first_conv', 3, stemWidth, 3, { stride: 2 }),
      ...(c.first_layer_is_expansion ? [] : [layer('conv_stem.expand_1x1', stemWidth, stemWidth, 1)]),
      layer('conv_stem.conv_3x3', stemWidth, stemWidth, 3, { depthwise: true }),
      layer('conv_stem.reduce_1x1', stemWidth, channels[0] as number, 1, { activation: false }),
    ];
    let currentStride = 2;
    let dilation = 1;
    const inverted = STRIDES.map((wanted, index): Block => {
      // Past the output stride the map keeps its size, and the kernels widen instead.
      const atLimit = currentStride === c.output_stride;
      const stride = atLimit ? 1 : wanted;
      const layerDilation = atLimit ? dilation : 1;
      if (atLimit) dilation *= wanted;
      else currentStride *= wanted;
      const from = channels[index] as number;
      const to = channels[index + 1] as number;
      const expanded = divisible(roundHalfEven(from * c.expand_ratio));
      const layers = [
        layer(`layer.${index}.expand_1x1`, from, expanded, 1),
        layer(`layer.${index}.conv_3x3`, expanded, expanded, 3, { stride, dilation: layerDilation, depthwise: true }),
        layer(`layer.${index}.reduce_1x1`, expanded, to, 1, { activation: false }),
      ];
      return { layers, residual: stride === 1 && from === to };
    });
    const last = layer('conv_1x1', channels.at(-1) as number, imageDim, 1);
    return [{ layers: stem, residual: false }, ...inverted, { layers: [last], residual: false }];
  }

  /** TensorFlow's SAME pads after more than before, and by the input's size; PyTorch's pads evenly. */
  function padding({ kernel, stride, dilation }: Layer, height: number, width: number): [number, number, number, number] {
    const even = ((kernel - 1) / 2) * dilation;
    if (!c.tf_padding) return [even, even, even, even];
    const along = (size: number): number => Math.max(kernel - (size % stride === 0 ? stride : size % stride), 0);
    const before = (size: number): number => Math.floor(along(size) / 2) * dilation;
    const after = (size: number): number => (along(size) - Math.floor(along(size) / 2)) * dilation;
    return [before(height), before(width), after(height), after(width)];
  }

  async function apply(g: Graph, weights: VisionWeights, prefix: string, x: Value, layer: Layer, bounds: Bounds): Promise<Value> {
    const { weight, bias } = await foldBatchNorm(weights, prefix, layer, c.layer_norm_eps);
    const perGroup = layer.depthwise ? 1 : layer.inChannels;
    const y = conv2d(
      g,
      x,
      float32(g, `${layer.name}.weight`, [layer.outChannels, perGroup, layer.kernel, layer.kernel], weight),
      float32(g, `${layer.name}.bias`, [layer.outChannels], bias),
      {
        strides: [layer.stride, layer.stride],
        dilations: [layer.dilation, layer.dilation],
        pads: padding(layer, Number(x.shape[2]), Number(x.shape[3])),
        groups: layer.depthwise ? layer.inChannels : 1,
      },
    );
    return layer.activation ? clip(g, y, bounds.low, bounds.high) : y;
  }

  return {
    family: 'mobilenet_v2',
    imageDim,
    imageSize: OWN_SIZE,
    imageTokens(height, width) {
      const cells = (size: number): number =>
        blocks
          .flatMap((block) => block.layers)
          .reduce(
            (at, { kernel, stride, dilation }) =>
              c.tf_padding
                ? Math.ceil(at / stride)
                : Math.floor((at + 2 * ((kernel - 1) / 2) * dilation - dilation * (kernel - 1) - 1) / stride) + 1,
            size,
          );
      return cells(height) * cells(width);
    },
    async build(g, weights, pixels) {
      const layers = blocks.flatMap((block) => block.layers);
      const prefix = weights.has(`${layers[0]?.name}.convolution.weight`) ? '' : PREFIX;
      for (const layer of layers) {
        for (const [name, shape] of Object.values(tensorsOf(prefix, layer))) weights.expect(name, shape);
      }
      weights.check();
      const bounds = { low: float32(g, 'relu6.low', [], [0]), high: float32(g, 'relu6.high', [], [6]) };
      let x = pixels;
      for (const block of blocks) {
        let y = x;
        for (const layer of block.layers) y = await apply(g, weights, prefix, y, layer, bounds);
        x = block.residual ? add(g, x, y) : y;
      }
      const [images, , height, width] = x.shape;
      const flat = reshape(g, x, [images as string, imageDim, Number(height) * Number(width)]);
      return transpose(g, flat, [0, 2, 1]);
    },
  };
}

/** Name and shape of each tensor of a layer. */
function tensorsOf(prefix: string, { name, outChannels, inChannels, kernel, depthwise }: Layer) {
  const tensor = (part: string, ...shape: number[]) => [`${prefix}${name}.${part}`, shape] as const;
  return {
    weight: tensor('convolution.weight', outChannels, depthwise ? 1 : inChannels, kernel, kernel),
    gamma: tensor('normalization.weight', outChannels),
    beta: tensor('normalization.bias', outChannels),
    mean: tensor('normalization.running_mean', outChannels),
    variance: tensor('normalization.running_var', outChannels),
  };
}

/** BN(conv(x)) = conv'(x): w' = w · γ / √(σ² + ε), b' = β − μ · γ / √(σ² + ε). */
async function foldBatchNorm(
  weights: VisionWeights,
  prefix: string,
  layer: Layer,
  epsilon: number,
): Promise<{ weight: Float32Array; bias: Float32Array }> {
  const tensors = tensorsOf(prefix, layer);
  const [weight, gamma, beta, mean, variance] = await Promise.all([
    weights.read(...tensors.weight),
    weights.read(...tensors.gamma),
    weights.read(...tensors.beta),
    weights.read(...tensors.mean),
    weights.read(...tensors.variance),
  ]);
  const scale = Array.from(gamma, (value, channel) => value / Math.sqrt((variance[channel] as number) + epsilon));
  const perChannel = weight.length / layer.outChannels;
  return {
    weight: weight.map((value, index) => value * (scale[Math.floor(index / perChannel)] as number)),
    bias: beta.map((value, channel) => value - (mean[channel] as number) * (scale[channel] as number)),
  };
}

/** Python's round(): ties to even. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}
