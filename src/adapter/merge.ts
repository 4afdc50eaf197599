/**
 * A checkpoint with one context's adapter in its weights, for whoever serves plain Hugging Face models: LoRA is added (W + alpha/r B A), IA3
 * scales rows or columns, BitFit adds to biases. Weights pass one at a time, from one file or shards into one file or shards: a model of any
 * size is merged in the memory of its largest tensor. Every sum is rounded once, to the checkpoint's own type.
 */
import { type BackboneDescription, openLanguage } from '../backbone/backbone.js';
import { copyCheckpointFiles } from '../backbone/copy.js';
import type { LinearModule } from '../backbone/module.js';
import { AppError } from '../errors.js';
import type { Checkpoint, StoredTensor } from '../tensor/checkpoint.js';
import { fromFloat32, toFloat32, WRITTEN_DTYPES, type WrittenDType } from '../tensor/convert.js';
import { Faults } from '../tensor/faults.js';
import { publishFolder } from '../tensor/folder.js';
import { writeShards } from '../tensor/shards.js';
import type { AdapterGroup, LoadedAdapter, RankColumns, Scale } from './adapter.js';
import { ALL_CONTEXTS } from './manifest.js';

export interface Merged {
  /** The group that was merged: the context's own, or the one of all. */
  readonly context: string;
  /** Tensors of the checkpoint, and those of them that changed. */
  readonly tensors: number;
  readonly changed: number;
  /** Files that hold the weights. */
  readonly files: number;
}

/** Changes a tensor's numbers in place. */
type Change = (values: Float32Array) => void;

/**
 * Writes the checkpoint. Throws AppError `adapter_invalid` with every reason why the adapter cannot be part of these weights, `invalid_file`
 * where they cannot be read.
 */
export async function mergeAdapter(
  adapter: LoadedAdapter,
  context: string,
  backbone: BackboneDescription,
  out: string,
  maxShardBytes?: number,
): Promise<Merged> {
  const subject = `adapter ${adapter.name}`;
  const group = adapter.groups.find((each) => each.context === context || each.context === ALL_CONTEXTS);
  if (group === undefined) {
    const has = adapter.groups.map((each) => each.context).join(', ') || 'none';
    throw AppError.ofFaults('adapter_invalid', subject, [`Expected parameters for ${context} but received those for ${has}`]);
  }
  const faults = new Faults();
  const wanted = changesOf(group, backbone, faults);
  faults.check('adapter_invalid', subject);

  const checkpoint = await openLanguage(backbone.languageFolder, backbone.language);
  try {
    const { entries, changes } = matchEntries(checkpoint, wanted, backbone.language.tiedNames);
    let files: readonly string[] = [];
    await publishFolder(out, async (temporary) => {
      await copyCheckpointFiles(backbone.languageFolder, temporary);
      const make = async (name: string): Promise<Uint8Array> => {
        // Read for us alone, so that it may be changed where it is.
        const { data, shape } = await checkpoint.read(name);
        const change = changes.get(name);
        const dtype = entries.get(name)?.dtype;
        return change && isWritten(dtype) ? changed(change, { data, shape, dtype }, `${subject}: ${name}`) : data;
      };
      files = await writeShards(temporary, entries, make, maxShardBytes);
    });
    return { context: group.context, tensors: entries.size, changed: changes.size, files: files.length };
  } finally {
    await checkpoint.close();
  }
}

/**
 * Every tensor of the checkpoint, of a tied weight that is there twice only the first, as transformers writes it; and the changes by the names
 * there. Throws `invalid_file` where one that changes is not there as floats.
 */
function matchEntries(
  checkpoint: Checkpoint,
  wanted: ReadonlyMap<string, Change>,
  tiedNames: readonly [string, string] | null,
): { readonly entries: ReadonlyMap<string, StoredTensor>; readonly changes: ReadonlyMap<string, Change> } {
  const faults = new Faults();
  const entries = new Map<string, StoredTensor>();
  const changes = new Map<string, Change>();
  const tied = tiedNames?.map((name) => checkpoint.entry(name)?.name) ?? [];
  const copy = tied[0] === tied[1] ? undefined : tied[1];
  for (const name of checkpoint.names()) {
    const entry = checkpoint.entry(name);
    if (entry && name !== copy) entries.set(name, entry);
  }
  for (const [name, change] of wanted) {
    const entry = checkpoint.entry(name);
    if (entry === undefined) faults.add(`Expected a tensor ${name} but the checkpoint has none`);
    else if (!isWritten(entry.dtype))
      faults.add(`Expected ${name} to be ${WRITTEN_DTYPES.join(', ')} but received ${entry.dtype}`);
    else changes.set(entry.name, change);
  }
  faults.check('invalid_file', checkpoint.folder);
  return { entries, changes };
}

function isWritten(dtype: string | undefined): dtype is WrittenDType {
  return WRITTEN_DTYPES.some((known) => known === dtype);
}

/** The bytes of the changed tensor. Throws where a number does not fit into the type: infinity would spoil every answer. */
function changed(
  change: Change,
  tensor: { readonly data: Uint8Array; readonly shape: readonly number[]; readonly dtype: WrittenDType },
  subject: string,
): Uint8Array {
  const values = toFloat32(tensor);
  change(values);
  const result = fromFloat32(values, tensor.shape, tensor.dtype);
  const worst = (tensor.dtype === 'float32' ? values : toFloat32(result)).findIndex((value) => !Number.isFinite(value));
  if (worst === -1) return result.data;
  const fault = `Expected merged numbers within ${tensor.dtype} but received ${values[worst]} at index ${worst}`;
  throw AppError.ofFaults('adapter_invalid', subject, [fault]);
}

/** What becomes of each tensor that the group changes, by name. */
function changesOf(group: AdapterGroup, backbone: BackboneDescription, faults: Faults): ReadonlyMap<string, Change> {
  const changes = new Map<string, Change>();
  for (const module of backbone.target.modules) {
    const { name } = module;
    const columns = group.columns.get(name);
    const scale = group.scales.get(name);
    if (columns && group.a0 === 0) changes.set(`${name}.weight`, (values) => addColumns(values, module, columns));
    if (columns && group.a0 === 1) {
      // A bias that the architecture lacks would be in the file, and be ignored by whoever loads it.
      if (module.bias) changes.set(`${name}.bias`, (values) => addBias(values, columns));
      else
        faults.add(`Expected a model with a bias in ${name}, for BitFit's, but received ${backbone.language.family} without one`);
    }
    if (scale) changes.set(`${name}.weight`, (values) => scaleWeight(values, module, scale));
    if (scale?.side === 'output' && module.bias) changes.set(`${name}.bias`, (values) => scaleBias(values, scale));
  }
  return changes;
}

/** W += (a b) transposed, in double precision until it is stored. */
export function addColumns(weight: Float32Array, module: LinearModule, { rank, a, b }: RankColumns): void {
  if (a === null) throw new RangeError(`Expected a LoRA of ${module.name} but received one without a`);
  const { inFeatures, outFeatures, layout } = module;
  const row = new Float64Array(rank);
  for (let output = 0; output < outFeatures; output++) {
    for (let inner = 0; inner < rank; inner++) row[inner] = b[inner * outFeatures + output] as number;
    for (let input = 0; input < inFeatures; input++) {
      const at = layout === 'out_in' ? output * inFeatures + input : input * outFeatures + output;
      let sum = weight[at] as number;
      for (let inner = 0; inner < rank; inner++) sum += (row[inner] as number) * (a[input * rank + inner] as number);
      weight[at] = sum;
    }
  }
}

/** Multiplies the rows of outputs or the columns of inputs, whichever way the weight lies. */
export function scaleWeight(
  weight: Float32Array,
  { inFeatures, outFeatures, layout }: LinearModule,
  { side, delta }: Scale,
): void {
  const columns = layout === 'out_in' ? inFeatures : outFeatures;
  const isByRow = (side === 'output') === (layout === 'out_in');
  for (let at = 0; at < weight.length; at++) {
    const index = isByRow ? Math.floor(at / columns) : at % columns;
    weight[at] = (weight[at] as number) * (1 + (delta[index] as number));
  }
}

function scaleBias(bias: Float32Array, { delta }: Scale): void {
  for (let at = 0; at < bias.length; at++) bias[at] = (bias[at] as number) * (1 + (delta[at] as number));
}

function addBias(bias: Float32Array, { b }: RankColumns): void {
  for (let at = 0; at < bias.length; at++) bias[at] = (bias[at] as number) + (b[at] as number);
}
