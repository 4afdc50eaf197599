/**
 * A LoRA in llama.cpp's own file, as its convert_lora_to_gguf.py makes it of a PEFT folder: into the two files of that folder, and out of them.
 * Tensors have names of their own there (gguf-py's tensor_mapping.py), and of llamas the rows of queries and keys are moved, which llama.cpp
 * rotates in neighbouring pairs and transformers in halves. Numbers stay as they are: nothing is rounded.
 */
import { basename } from 'node:path';
import type { BackboneDescription } from '../backbone/backbone.js';
import type { LanguageModel } from '../backbone/language/model.js';
import { AppError } from '../errors.js';
import { fromFloat32, toFloat32, WRITTEN_DTYPES, type WrittenDType } from '../tensor/convert.js';
import type { Faults } from '../tensor/faults.js';
import { decodeGguf, encodeGguf, type Gguf, told } from '../tensor/gguf.js';
import { quote } from '../tensor/json.js';
import type { Tensor } from '../tensor/tensor.js';
import { namesOf } from './targets.js';
import { encodeLoraFiles, type LoraDraft, type PeftFiles } from './write.js';

interface Architecture {
  /** The families of ours that llama.cpp knows by its name. */
  readonly families: readonly string[];
  /** What the checkpoint calls a projection within its layer. */
  readonly names: Readonly<Record<string, string>>;
  /** Whether rows of queries and keys have been moved. */
  readonly isPermuted: boolean;
}

const SEPARATE = {
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};
const FUSED = {
  attn_qkv: 'self_attn.qkv_proj',
  attn_output: 'self_attn.o_proj',
  ffn_up: 'mlp.gate_up_proj',
  ffn_down: 'mlp.down_proj',
};

const ARCHITECTURES: ReadonlyMap<string, Architecture> = new Map([
  ['llama', { families: ['llama', 'mistral'], names: SEPARATE, isPermuted: true }],
  ['phi3', { families: ['phi3'], names: FUSED, isPermuted: false }],
  ['qwen2', { families: ['qwen2'], names: SEPARATE, isPermuted: false }],
  ['qwen3', { families: ['qwen3'], names: SEPARATE, isPermuted: false }],
]);

/** Of each module A and B as PEFT has them, and the alpha that makes their scale alpha/rank. */
export type ScaledLora = ReadonlyMap<string, { readonly a: Tensor; readonly b: Tensor; readonly alpha: number }>;

/** An adapter that is active from these tokens on, which is another method. */
const ACTIVATED = 'adapter.alora.invocation_tokens';

/** PEFT's files of a LoRA for this backbone; undefined, always with a fault, where it is none. */
export function readGgufLora(bytes: Uint8Array, backbone: BackboneDescription, faults: Faults): PeftFiles | undefined {
  const { language, languageFolder } = backbone;
  const before = faults.count;
  const gguf = decode(bytes, faults);
  if (gguf === undefined) return undefined;
  const architecture = architectureOf(gguf, language, faults);
  const alpha = alphaOf(gguf, faults);
  // Of another family nothing else can be told.
  if (architecture === undefined || alpha === undefined || faults.count > before) return undefined;
  const modules = modulesOf(gguf.tensors, architecture, { language, alpha }, faults);
  if (faults.count > before) return undefined;
  const chosen = language.modules.filter(({ name }) => modules.has(name));
  const group = { modules, targetModules: namesOf(chosen, language.modules).sort() };
  return encodeLoraFiles(group, basename(languageFolder), commonDType(gguf.tensors));
}

/** A file that llama.cpp loads. Throws AppError `adapter_invalid` where the LoRA, or the backbone's family, is none that it can have. */
export function encodeGgufLora(name: string, lora: ScaledLora, { language }: BackboneDescription): Uint8Array {
  const subject = `adapter ${name}`;
  const [title, architecture] = [...ARCHITECTURES].find(([, { families }]) => families.includes(language.family)) ?? [];
  if (title === undefined || architecture === undefined) {
    const families = [...ARCHITECTURES.values()].flatMap((each) => each.families).join(', ');
    throw AppError.ofFaults('adapter_invalid', subject, [`Expected a backbone of ${families} but received ${language.family}`]);
  }
  const { names, isPermuted } = architecture;
  const alphas = new Set<number>();
  const tensors = new Map<string, Tensor>();
  for (const { name: module, outFeatures } of language.modules) {
    const found = lora.get(module);
    if (found === undefined) continue;
    const { a, b, alpha } = found;
    const heads = isPermuted ? headsOf(module, language) : null;
    const rows = heads === null ? b : moved(b, heads, outFeatures / heads);
    tensors.set(`${placeOf(module, names)}.lora_a`, a).set(`${placeOf(module, names)}.lora_b`, rows);
    alphas.add(alpha);
  }
  const [alpha = 0] = alphas;
  // 0 would mean there that nothing is scaled.
  if (alphas.size !== 1 || alpha === 0) {
    const found = [...alphas].join(', ');
    throw AppError.ofFaults('adapter_invalid', subject, [
      `Expected one alpha other than 0 for all modules, as GGUF has it, but received ${found}`,
    ]);
  }
  const fields = new Map<string, string | number>([
    ['general.architecture', title],
    ['general.type', 'adapter'],
    ['adapter.type', 'lora'],
    ['general.name', name],
    ['adapter.lora.alpha', alpha],
  ]);
  return encodeGguf(fields, tensors);
}

function moved(b: Tensor, heads: number, headDim: number): Tensor {
  const dtype = WRITTEN_DTYPES.find((known) => known === b.dtype) ?? 'float32';
  return fromFloat32(moveRows(toFloat32(b), heads, headDim, 'out'), b.shape, dtype);
}

function decode(bytes: Uint8Array, faults: Faults): Gguf | undefined {
  try {
    return decodeGguf(bytes, 'GGUF');
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    for (const fault of error.faults ?? [error.message]) faults.add(fault);
    return undefined;
  }
}

function architectureOf({ fields }: Gguf, { family }: LanguageModel, faults: Faults): Architecture | undefined {
  for (const [field, expected] of [
    ['general.type', 'adapter'],
    ['adapter.type', 'lora'],
  ] as const) {
    const value = fields.get(field);
    if (value !== expected) faults.add(`Expected ${field} to be ${quote(expected)} but received ${told(value)}`);
  }
  const activated = fields.get(ACTIVATED);
  if (activated !== undefined)
    faults.add(`Expected no ${ACTIVATED}, because such adapters are not implemented, but received ${told(activated)}`);
  const name = fields.get('general.architecture');
  const architecture = typeof name === 'string' ? ARCHITECTURES.get(name) : undefined;
  if (architecture === undefined)
    faults.add(`Expected general.architecture among ${[...ARCHITECTURES.keys()].join(', ')} but received ${told(name)}`);
  else if (!architecture.families.includes(family))
    faults.add(`Expected an adapter for the backbone's family, ${family}, but received one of architecture ${told(name)}`);
  return architecture;
}

/** Undefined with a fault; 0 means, as in llama.cpp, that the products are not scaled. */
function alphaOf({ fields }: Gguf, faults: Faults): number | undefined {
  const alpha = fields.get('adapter.lora.alpha');
  if (typeof alpha === 'number' && Number.isFinite(alpha)) return alpha;
  faults.add(`Expected adapter.lora.alpha to be a finite number but received ${told(alpha)}`);
  return undefined;
}

/** Each module's LoRA by its name in the checkpoint. Where faults were added, some may be missing. */
function modulesOf(
  tensors: ReadonlyMap<string, Tensor>,
  { names, isPermuted }: Architecture,
  { language, alpha }: { readonly language: LanguageModel; readonly alpha: number },
  faults: Faults,
): ReadonlyMap<string, LoraDraft> {
  if (tensors.size === 0) faults.add('Expected tensors of a module at least but received none');
  const rest = new Map(tensors);
  const modules = new Map<string, LoraDraft>();
  for (const { name, inFeatures, outFeatures } of language.modules) {
    const place = placeOf(name, names);
    const [a, b] = [rest.get(`${place}.lora_a`), rest.get(`${place}.lora_b`)];
    rest.delete(`${place}.lora_a`);
    rest.delete(`${place}.lora_b`);
    if (a === undefined && b === undefined) continue;
    const rank = a?.shape[0] ?? b?.shape[1] ?? 0;
    const isWhole = [
      checkShape(a, `${place}.lora_a`, [Math.max(rank, 1), inFeatures], faults),
      checkShape(b, `${place}.lora_b`, [outFeatures, Math.max(rank, 1)], faults),
    ].every(Boolean);
    if (!isWhole || a === undefined || b === undefined) continue;
    const rows = toFloat32(b);
    const heads = isPermuted ? headsOf(name, language) : null;
    modules.set(name, {
      rank,
      alpha: alpha === 0 ? rank : alpha,
      a: toFloat32(a),
      b: heads === null ? rows : moveRows(rows, heads, outFeatures / heads, 'back'),
    });
  }
  for (const name of rest.keys())
    faults.add(`Expected a LoRA's tensors of projections that the backbone has but received ${quote(name)}`);
  return modules;
}

/** What llama.cpp calls a projection's weight. */
function placeOf(name: string, names: Architecture['names']): string {
  const { layer = '', rest } = /^model\.layers\.(?<layer>\d+)\.(?<rest>.+)$/.exec(name)?.groups ?? {};
  const kind = Object.entries(names).find(([, own]) => own === rest)?.[0];
  if (kind === undefined)
    throw new RangeError(`Expected a projection among ${Object.values(names).join(', ')} but received ${name}`);
  return `blk.${layer}.${kind}.weight`;
}

function checkShape(tensor: Tensor | undefined, name: string, shape: readonly number[], faults: Faults): boolean {
  const found = tensor?.shape;
  if (found?.length === shape.length && found.every((size, axis) => size === shape[axis])) return true;
  faults.add(`Expected ${name} to be [${shape.join(', ')}] but received ${found ? `[${found.join(', ')}]` : 'none'}`);
  return false;
}

/** Of how many heads a projection's rows are moved; null where they are not. */
function headsOf(name: string, { heads, kvHeads }: LanguageModel): number | null {
  if (name.endsWith('.q_proj')) return heads;
  return name.endsWith('.k_proj') ? kvHeads : null;
}

/** Rows of each head that stand as its two halves, in pairs of one of each; or back. */
function moveRows(rows: Float32Array, heads: number, headDim: number, way: 'out' | 'back'): Float32Array {
  const width = rows.length / (heads * headDim);
  const half = headDim / 2;
  const moved = new Float32Array(rows.length);
  for (let row = 0; row < heads * headDim; row++) {
    const [head, at] = [Math.floor(row / headDim), row % headDim];
    const paired = head * headDim + 2 * (at % half) + Math.floor(at / half);
    const [from, to] = way === 'out' ? [row, paired] : [paired, row];
    moved.set(rows.subarray(from * width, (from + 1) * width), to * width);
  }
  return moved;
}

/** The one type that all tensors have; float32, which holds every number of the others, where they differ. */
function commonDType(tensors: ReadonlyMap<string, Tensor>): WrittenDType {
  const found = new Set([...tensors.values()].map(({ dtype }) => dtype));
  return WRITTEN_DTYPES.find((dtype) => found.size === 1 && found.has(dtype)) ?? 'float32';
}
