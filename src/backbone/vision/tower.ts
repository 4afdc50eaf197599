/**
 * The image towers of models that learned to tell which text goes with an image: alone in a checkpoint, or within the whole model, whose
 * config.json describes the tower in a field of its own and whose other tensors are not read. CLIP and SigLIP name everything alike.
 */
import { z } from 'zod';
import { activation } from '../activation.js';
import { parseWith } from '../config.js';
import { chooseFeatures, type FeatureChoice, type FeatureOffer } from './features.js';
import type { VisionModel } from './model.js';
import { checkSizes, dense, sharedFields, size, square, transformer } from './transformer.js';

/** How one kind of tower differs from another, beyond its configuration. */
export interface Tower extends Pick<FeatureOffer, 'family' | 'lastIsNormed' | 'layer'> {
  /** The model_type of the whole model, and where its config.json describes the tower. */
  readonly whole: { readonly type: string; readonly field: string };
  /** What a config.json means that says nothing of these. */
  readonly defaults: { readonly hidden_act: string; readonly layer_norm_eps: number; readonly patch_size: number };
  readonly classToken: string | null;
  /** Before the first block. */
  readonly firstNorm: string | null;
  readonly hasPatchBias: boolean;
}

const { hidden_size, num_hidden_layers, num_attention_heads, num_channels } = sharedFields;

const fieldsOf = ({ hidden_act, layer_norm_eps, patch_size }: Tower['defaults']) => ({
  hidden_size,
  num_hidden_layers,
  num_attention_heads,
  num_channels,
  hidden_act: activation.prefault(hidden_act),
  layer_norm_eps: z.number().positive().default(layer_norm_eps),
  intermediate_size: size.default(3072),
  image_size: square.prefault(224),
  patch_size: square.prefault(patch_size),
});

const isWhole = (config: unknown, type: string): boolean =>
  z.looseObject({ model_type: z.literal(type) }).safeParse(config).success;

/** The tower that a config.json describes, and the features that are chosen of it. Throws `invalid_file`: every fault of the one, or of the other. */
export function readTower(tower: Tower, config: unknown, file: string, choice?: FeatureChoice): VisionModel {
  const { family, whole, defaults, classToken, firstNorm, hasPatchBias } = tower;
  const schema = z.object(fieldsOf(defaults)).superRefine(checkSizes);
  const c = isWhole(config, whole.type)
    ? (parseWith(z.object({ [whole.field]: schema }), config, file)[whole.field] as z.output<typeof schema>)
    : parseWith(schema, config, file);
  const { label, ...features } = chooseFeatures(choice, {
    ...tower,
    layerCount: c.num_hidden_layers,
    hasClassToken: classToken !== null,
  });
  const model = transformer({
    family,
    config: { ...c, qkv_bias: true },
    subject: file,
    names: {
      prefix: 'vision_model.',
      patches: 'embeddings.patch_embedding',
      tokens: classToken === null ? [] : [classToken],
      positions: 'embeddings.position_embedding.weight',
      areTables: true,
      layers: 'encoder.layers',
      attention: ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.out_proj'],
      firstNorm,
      lastNorm: 'post_layernorm',
    },
    hasPatchBias,
    anySize: false,
    block: {
      norms: ['layer_norm1', 'layer_norm2'],
      scales: null,
      mlp: (tensors, x) =>
        dense(tensors, 'mlp.fc2', c.hidden_act(tensors.g, dense(tensors, 'mlp.fc1', x, c.intermediate_size)), c.hidden_size),
    },
    features,
  });
  return label === undefined ? model : { ...model, features: label };
}
