/** `graft adapters export`: an adapter as PEFT folders, as llama.cpp's file, or merged into a checkpoint, and a word on what these cannot take. */
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { exportAdapter, exportGguf } from '../../adapter/export.js';
import { readAdapter } from '../../adapter/format.js';
import { mergeAdapter } from '../../adapter/merge.js';
import { type BackboneDescription, describeBackbone } from '../../backbone/backbone.js';
import { readBackbone } from '../../backbone/manifest.js';
import { AppError } from '../../errors.js';
import { bytes } from '../../settings.js';
import { Faults } from '../../tensor/faults.js';
import { quote } from '../../tensor/json.js';
import { checkApart, checkPlace, type PlaceFlags } from './place.js';

/** The flags as they were typed. */
export interface ExportFlags extends PlaceFlags {
  readonly backbone?: string;
  readonly merged?: boolean;
  readonly gguf?: boolean;
  readonly context?: string;
  readonly maxShardSize?: string;
}

export interface ExportReport {
  readonly text: string;
  /** What the user should know of the result, for stderr: a line each. */
  readonly notes: readonly string[];
}

const DEFAULT_CONTEXT = 'text';
const SHARD_SIZE = bytes('');

/** Exports, and returns what to tell. Throws AppError `invalid_config` for the flags, `adapter_invalid` with every fault of the adapter. */
export async function exportFolder(adapter: string, flags: ExportFlags): Promise<ExportReport> {
  const { backbone, merged = false, gguf = false, context, maxShardSize } = flags;
  const faults = new Faults();
  if (merged && gguf) faults.add('Expected --merged or --gguf but received both');
  if (merged && backbone === undefined)
    faults.add('Expected --backbone beside --merged, whose weights these are, but received none');
  if (gguf && backbone === undefined) faults.add('Expected --backbone beside --gguf, which tells its family, but received none');
  if (!merged && !gguf && context !== undefined)
    faults.add(`Expected --context beside --merged or --gguf only but received ${quote(context)}`);
  if (!merged && maxShardSize !== undefined)
    faults.add(`Expected --max-shard-size beside --merged only but received ${quote(maxShardSize)}`);
  const maxShardBytes = maxShardSize === undefined ? undefined : SHARD_SIZE.schema.safeParse(maxShardSize).data;
  if (maxShardSize !== undefined && !maxShardBytes)
    faults.add(`Expected --max-shard-size to be ${SHARD_SIZE.expected} but received ${quote(maxShardSize)}`);
  faults.check('invalid_config', 'adapters export');
  await checkPlace(flags);
  const description = backbone === undefined ? undefined : await describeBackbone(await readBackbone(backbone));
  await checkApart(flags, [adapter, description?.languageFolder, description?.vision?.folder]);
  const options = { context: context ?? DEFAULT_CONTEXT, maxShardBytes };
  if (merged && description) return exportMerged(adapter, flags.out, description, options);
  if (gguf && description) return exportFile(adapter, flags.out, description, options.context);
  return exportPeft(adapter, flags.out, description);
}

async function exportFile(adapter: string, out: string, backbone: BackboneDescription, chosen: string): Promise<ExportReport> {
  if ((await stat(out).catch(() => undefined))?.isDirectory())
    throw new AppError('invalid_config', `Expected --out to be a file beside --gguf but received ${out}, which is a folder`);
  const { name, context, modules, left } = await exportGguf(adapter, chosen, backbone, out);
  return {
    text: `adapter ${name}: lora for ${context}, ${modules} modules\n  file  ${out}`,
    notes: left.length > 0 ? [`graft: a GGUF file has no place for ${left.join(' and ')}: left out`] : [],
  };
}

async function exportPeft(adapter: string, out: string, backbone: BackboneDescription | undefined): Promise<ExportReport> {
  const { name, method, folders, hasProjector } = await exportAdapter(adapter, out, backbone?.target);
  const notes = [
    ...(method === 'bitfit'
      ? ['graft: BitFit is no type of PEFT: peft cannot open these folders, graft adapters import can']
      : []),
    ...(hasProjector ? [`graft: PEFT has no place for a projector: it stays in ${adapter}`] : []),
  ];
  const rows = [...folders].map(([context, folder]) => `  ${context.padEnd(6)}  ${join(out, folder)}`);
  return { text: [`adapter ${name}: ${method}`, ...rows].join('\n'), notes };
}

interface MergeOptions {
  readonly context: string;
  readonly maxShardBytes: number | undefined;
}

async function exportMerged(
  adapter: string,
  out: string,
  backbone: BackboneDescription,
  { context, maxShardBytes }: MergeOptions,
): Promise<ExportReport> {
  const loaded = await readAdapter(resolve(adapter), backbone.target);
  const { name, method, groups, projector } = loaded;
  const merged = await mergeAdapter(loaded, context, backbone, out, maxShardBytes);
  const left = [
    ...groups.filter((group) => group.context !== merged.context).map((group) => `the parameters for ${group.context}`),
    ...(projector ? ['the projector'] : []),
  ];
  return {
    text: `adapter ${name}: ${method} for ${context}, merged into ${merged.changed} of ${merged.tensors} tensors${merged.files > 1 ? ` in ${merged.files} shards` : ''}\n  folder  ${out}`,
    notes: left.length > 0 ? [`graft: a language checkpoint has no place for ${left.join(' and ')}: left out`] : [],
  };
}
