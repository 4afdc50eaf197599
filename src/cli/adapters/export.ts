/** `graft adapters export`: an adapter as PEFT folders, or merged into a checkpoint, and a word on what these cannot take. */
import { join, resolve } from 'node:path';
import { exportAdapter } from '../../adapter/export.js';
import { readAdapter } from '../../adapter/format.js';
import { mergeAdapter } from '../../adapter/merge.js';
import { type BackboneDescription, describeBackbone } from '../../backbone/backbone.js';
import { readBackbone } from '../../backbone/manifest.js';
import { Faults } from '../../tensor/faults.js';
import { quote } from '../../tensor/json.js';
import { checkApart, checkPlace, type PlaceFlags } from './place.js';

/** The flags as they were typed. */
export interface ExportFlags extends PlaceFlags {
  readonly backbone?: string;
  readonly merged?: boolean;
  readonly context?: string;
}

export interface ExportReport {
  readonly text: string;
  /** What the user should know of the result, for stderr: a line each. */
  readonly notes: readonly string[];
}

const DEFAULT_CONTEXT = 'text';

/** Exports, and returns what to tell. Throws AppError `invalid_config` for the flags, `adapter_invalid` with every fault of the adapter. */
export async function exportFolder(adapter: string, flags: ExportFlags): Promise<ExportReport> {
  const { backbone, merged = false, context } = flags;
  const faults = new Faults();
  if (merged && backbone === undefined)
    faults.add('Expected --backbone beside --merged, whose weights these are, but received none');
  if (!merged && context !== undefined) faults.add(`Expected --context beside --merged only but received ${quote(context)}`);
  faults.check('invalid_config', 'adapters export');
  await checkPlace(flags);
  const description = backbone === undefined ? undefined : await describeBackbone(await readBackbone(backbone));
  await checkApart(flags, [adapter, description?.languageFolder, description?.vision?.folder]);
  return merged && description
    ? exportMerged(adapter, flags.out, context ?? DEFAULT_CONTEXT, description)
    : exportPeft(adapter, flags.out, description);
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

async function exportMerged(adapter: string, out: string, context: string, backbone: BackboneDescription): Promise<ExportReport> {
  const loaded = await readAdapter(resolve(adapter), backbone.target);
  const { name, method, groups, projector } = loaded;
  const merged = await mergeAdapter(loaded, context, backbone, out);
  const left = [
    ...groups.filter((group) => group.context !== merged.context).map((group) => `the parameters for ${group.context}`),
    ...(projector ? ['the projector'] : []),
  ];
  return {
    text: `adapter ${name}: ${method} for ${context}, merged into ${merged.changed} of ${merged.tensors} tensors\n  folder  ${out}`,
    notes: left.length > 0 ? [`graft: a language checkpoint has no place for ${left.join(' and ')}: left out`] : [],
  };
}
