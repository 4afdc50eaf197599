/** `graft adapters export`: an adapter as PEFT folders, and a word on what PEFT cannot take. */
import { join } from 'node:path';
import { exportAdapter } from '../../adapter/export.js';
import { describeBackbone } from '../../backbone/backbone.js';
import { readBackbone } from '../../backbone/manifest.js';
import { checkPlace, type PlaceFlags } from './place.js';

/** The flags as they were typed. */
export interface ExportFlags extends PlaceFlags {
  readonly backbone?: string;
}

export interface ExportReport {
  readonly text: string;
  /** What the user should know of the result, for stderr: a line each. */
  readonly notes: readonly string[];
}

/** Exports, and returns what to tell. Throws AppError `adapter_invalid` with every fault of the adapter. */
export async function exportFolder(adapter: string, flags: ExportFlags): Promise<ExportReport> {
  await checkPlace(flags);
  const backbone = flags.backbone === undefined ? undefined : await describeBackbone(await readBackbone(flags.backbone));
  const { name, method, folders, hasProjector } = await exportAdapter(adapter, flags.out, backbone?.target);
  const notes = [
    ...(method === 'bitfit'
      ? ['graft: BitFit is no type of PEFT: peft cannot open these folders, graft adapters import can']
      : []),
    ...(hasProjector ? [`graft: PEFT has no place for a projector: it stays in ${adapter}`] : []),
  ];
  const rows = [...folders].map(([context, folder]) => `  ${context.padEnd(6)}  ${join(flags.out, folder)}`);
  return { text: [`adapter ${name}: ${method}`, ...rows].join('\n'), notes };
}
