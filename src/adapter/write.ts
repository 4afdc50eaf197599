/**
 * Writes an adapter's folder in the format that format.ts reads and PEFT opens: what the trainer publishes, and what tests load.
 * It appears whole or not at all (`publishFolder`).
 */
import { basename, join, resolve } from 'node:path';
import type { BackboneDescription } from '../backbone/backbone.js';
import { fromFloat32, type WrittenDType } from '../tensor/convert.js';
import { publishFolder, writeSynced } from '../tensor/folder.js';
import { quote } from '../tensor/json.js';
import { encodeSafetensors } from '../tensor/safetensors.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Method } from './adapter.js';
import { encoderFingerprint } from './fingerprint.js';
import { ALL_CONTEXTS, CONFIG_FILE, CONTEXT, FORMAT, MANIFEST_FILE, PROJECTOR_FILE, TENSORS_FILE } from './manifest.js';
import { PEFT_TYPES } from './peft.js';
import { hasSuffix } from './targets.js';

/** One module's LoRA, in PEFT's layout. */
export interface LoraDraft {
  readonly rank: number;
  readonly alpha: number;
  readonly a: Float32Array; // [rank, in]
  readonly b: Float32Array; // [out, rank]
}

/** One module's IA3: what its input or output is multiplied by. */
export interface Ia3Draft {
  readonly side: 'input' | 'output';
  readonly factor: Float32Array; // [in] or [out]
}

/** One context's parameters, by full module name. */
export interface GroupDraft<T> {
  readonly modules: ReadonlyMap<string, T>;
  /** Names or suffixes that mean exactly these modules; the full names where absent. */
  readonly targetModules?: readonly string[];
  /** LoRA only: the scale is alpha/sqrt(rank). */
  readonly rankStabilized?: boolean;
  /** The weights of these modules lie [in, out]. */
  readonly fanInFanOut?: boolean;
}

type Groups<T> = ReadonlyMap<string, GroupDraft<T>>;

export type AdapterDraft = AdapterNotes &
  (
    | { readonly method: 'lora'; readonly groups: Groups<LoraDraft> }
    | { readonly method: 'ia3'; readonly groups: Groups<Ia3Draft> }
    /** The bias, [out]. */
    | { readonly method: 'bitfit'; readonly groups: Groups<Float32Array> }
    | { readonly method: 'none'; readonly groups?: undefined }
  );

/** What an adapter of any method has. */
export interface AdapterNotes {
  /** weight [hiddenSize, imageDim], bias [hiddenSize]. */
  readonly projector: { readonly weight: Float32Array; readonly bias: Float32Array } | null;
  readonly task?: string;
  readonly prompt?: string;
  readonly imageTokens?: number;
  /** Names of the two checkpoints; with a fingerprint, only that one is accepted. */
  readonly backbone?: { readonly language: CheckpointName; readonly vision: CheckpointName | null };
  readonly metrics?: Readonly<Record<string, unknown>>;
  readonly training?: Readonly<Record<string, unknown>>;
  /** What the parameters are written as; float32 unless told. */
  readonly dtype?: WrittenDType;
}

export interface CheckpointName {
  readonly name: string;
  readonly fingerprint?: string;
}

/**
 * Writes the adapter. Throws RangeError, before anything is written, where the draft contradicts itself; the system's own errors
 * where the disk does, with the folder as it was before.
 */
export async function writeAdapter(folder: string, draft: AdapterDraft): Promise<void> {
  await publishFiles(folder, encodeDraft(basename(resolve(folder)), draft));
}

/** Writes an adapter whose files are made already, by relative path. */
export async function publishFiles(folder: string, files: ReadonlyMap<string, Uint8Array>): Promise<void> {
  await publishFolder(resolve(folder), async (temporary) => {
    for (const [path, content] of files) await writeSynced(join(temporary, path), content);
  });
}

/** What a manifest states of a backbone: of its encoder only where the adapter sees images. Reads every weight, for the fingerprints. */
export async function backboneNotes(
  { languageFolder, vision }: BackboneDescription,
  hasProjector: boolean,
): Promise<Pick<AdapterNotes, 'backbone' | 'imageTokens'>> {
  const named = async (at: string, features?: string): Promise<CheckpointName> => ({
    name: basename(at),
    fingerprint: await encoderFingerprint(at, features),
  });
  const seen = hasProjector ? vision : null;
  return {
    ...(seen && { imageTokens: seen.imageTokens }),
    backbone: { language: await named(languageFolder), vision: seen && (await named(seen.folder, seen.model.features)) },
  };
}

/** The files of a draft, by relative path. */
function encodeDraft(name: string, draft: AdapterDraft): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const contexts = draft.groups === undefined ? [] : [...draft.groups.keys()];
  for (const context of contexts)
    if (!CONTEXT.is(context)) throw new RangeError(`Expected a context to be ${CONTEXT.words} but received ${quote(context)}`);
  if (contexts.length > 1 && contexts.includes(ALL_CONTEXTS))
    throw new RangeError(`Expected "${ALL_CONTEXTS}" to be the only context`);
  if (draft.method !== 'none' && contexts.length === 0)
    throw new RangeError(`Expected a context at least for method ${draft.method}`);
  const { method, projector, ...notes } = draft;
  files.set(MANIFEST_FILE, encodeManifest(name, { ...notes, method, contexts, hasProjector: projector !== null }));
  for (const group of encodeGroups(draft)) {
    const { config, tensors } = filesOf(group);
    files.set(`${group.context}/${CONFIG_FILE}`, config);
    files.set(`${group.context}/${TENSORS_FILE}`, tensors);
  }
  if (draft.projector !== null) files.set(PROJECTOR_FILE, encodeProjector(draft.projector, draft.dtype));
  return files;
}

/** What a manifest is made of. */
export type ManifestNotes = Omit<AdapterNotes, 'projector' | 'dtype'> & {
  readonly method: Method;
  readonly contexts: readonly string[];
  readonly hasProjector: boolean;
};

/** `adapter.json` of the adapter of a name. */
export function encodeManifest(name: string, notes: ManifestNotes): Uint8Array {
  const { backbone, task, imageTokens, prompt = '', metrics, training, method, contexts, hasProjector } = notes;
  return encodeJson({
    format: FORMAT,
    method,
    contexts,
    name,
    task,
    backbone: backbone && {
      language: backbone.language.name,
      language_fingerprint: backbone.language.fingerprint,
      vision: backbone.vision?.name ?? null,
      vision_fingerprint: backbone.vision?.fingerprint,
    },
    projector: hasProjector ? undefined : false,
    image_tokens: imageTokens,
    prompt,
    metrics,
    training,
  });
}

/** The two files of a PEFT folder. */
export interface PeftFiles {
  readonly config: Uint8Array;
  readonly tensors: Uint8Array;
}

/** One LoRA for the language model of a name, as PEFT's files. */
export function encodeLoraFiles(group: GroupDraft<LoraDraft>, language: string, dtype: WrittenDType): PeftFiles {
  const backbone = { language: { name: language }, vision: null };
  const groups = new Map([[ALL_CONTEXTS, group]]);
  const [encoded] = encodeGroups({ method: 'lora', groups, backbone, dtype, projector: null });
  if (encoded === undefined) throw new RangeError('Expected a group but received none');
  return filesOf(encoded);
}

function filesOf({ config, tensors }: EncodedGroup): PeftFiles {
  return { config: encodeJson(config), tensors: encodeSafetensors(tensors, [['format', 'pt']]) };
}

interface EncodedGroup {
  readonly context: string;
  readonly config: object;
  readonly tensors: readonly (readonly [string, Tensor])[];
}

function encodeGroups(draft: AdapterDraft): EncodedGroup[] {
  const language = draft.backbone?.language.name ?? null;
  const encode = <T>(
    groups: Groups<T>,
    encodeGroup: (group: GroupDraft<T>, tensor: TensorOf, targets: readonly string[]) => Omit<EncodedGroup, 'context'>,
  ) =>
    [...groups].map(([context, group]): EncodedGroup => {
      const targets = group.targetModules ?? [...group.modules.keys()].sort();
      const { config, tensors } = encodeGroup(group, tensorOf(draft.dtype), targets);
      const common = { base_model_name_or_path: language, task_type: 'CAUSAL_LM', inference_mode: true, target_modules: targets };
      const layout = group.fanInFanOut === true ? { fan_in_fan_out: true } : {};
      return { context, config: { ...common, ...config, ...layout }, tensors };
    });
  switch (draft.method) {
    case 'lora':
      return encode(draft.groups, encodeLora);
    case 'ia3':
      return encode(draft.groups, encodeIa3);
    case 'bitfit':
      return encode(draft.groups, ({ modules }, tensor) => ({
        config: { peft_type: PEFT_TYPES.bitfit, bias: 'none' },
        tensors: [...modules].map(([module, bias]) => [`base_model.model.${module}.bias`, tensor([bias.length], bias)]),
      }));
    default:
      return [];
  }
}

function encodeLora({ modules, rankStabilized = false }: GroupDraft<LoraDraft>, tensor: TensorOf): Omit<EncodedGroup, 'context'> {
  const rank = mostFrequent([...modules.values()].map((module) => module.rank));
  const alpha = mostFrequent([...modules.values()].map((module) => module.alpha));
  const differing = (value: (module: LoraDraft) => number, usual: number) =>
    Object.fromEntries(
      [...modules]
        .filter(([, module]) => value(module) !== usual)
        .map(([name, module]) => [name.replaceAll('.', '\\.'), value(module)]),
    );
  return {
    config: {
      peft_type: PEFT_TYPES.lora,
      r: rank,
      lora_alpha: alpha,
      rank_pattern: differing((module) => module.rank, rank),
      alpha_pattern: differing((module) => module.alpha, alpha),
      use_rslora: rankStabilized,
      lora_dropout: 0,
      bias: 'none',
    },
    tensors: [...modules].flatMap(([name, module]) => [
      [`base_model.model.${name}.lora_A.weight`, tensor([module.rank, module.a.length / module.rank], module.a)] as const,
      [`base_model.model.${name}.lora_B.weight`, tensor([module.b.length / module.rank, module.rank], module.b)] as const,
    ]),
  };
}

function encodeIa3(
  { modules }: GroupDraft<Ia3Draft>,
  tensor: TensorOf,
  targets: readonly string[],
): Omit<EncodedGroup, 'context'> {
  const scalesInput = (target: string): boolean => {
    const sides = new Set([...modules].filter(([name]) => hasSuffix(name, target)).map(([, module]) => module.side));
    if (sides.size > 1) throw new RangeError(`Expected ${target} to scale one side but received both`);
    return sides.has('input');
  };
  return {
    config: { peft_type: PEFT_TYPES.ia3, feedforward_modules: targets.filter(scalesInput) },
    tensors: [...modules].map(([name, { side, factor }]) => [
      `base_model.model.${name}.ia3_l`,
      tensor(side === 'input' ? [1, factor.length] : [factor.length, 1], factor),
    ]),
  };
}

function encodeProjector(
  { weight, bias }: { weight: Float32Array; bias: Float32Array },
  dtype: WrittenDType | undefined,
): Uint8Array {
  const tensor = tensorOf(dtype);
  return encodeSafetensors([
    ['weight', tensor([bias.length, weight.length / bias.length], weight)],
    ['bias', tensor([bias.length], bias)],
  ]);
}

type TensorOf = (shape: readonly number[], values: Float32Array) => Tensor;

function tensorOf(dtype: WrittenDType = 'float32'): TensorOf {
  return (shape, values) => {
    if (!shape.every(Number.isSafeInteger))
      throw new RangeError(`Expected whole rows but received a tensor of [${shape.join(', ')}]`);
    return fromFloat32(values, shape, dtype);
  };
}

function encodeJson(value: object): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
}

/** The value that needs the fewest exceptions; the first of equals. */
function mostFrequent(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const [usual] = [...counts].sort(([, a], [, b]) => b - a);
  if (usual === undefined) throw new RangeError('Expected a module at least but received none');
  return usual[0];
}
