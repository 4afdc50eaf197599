/** `graft inspect`: what `graft doctor` says of a backbone or an adapter, and the modules that it has. */
import type { LoadedAdapter } from '../adapter/adapter.js';
import type { BackboneDescription } from '../backbone/backbone.js';
import { kindOf } from '../backbone/module.js';
import { type Diagnosis, diagnose } from './doctor/diagnosis.js';
import { align } from './doctor/words.js';
import { textOf } from './doctor.js';

export interface InspectReport {
  readonly text: string;
  /** Something is wrong with what was inspected. */
  readonly faulty: boolean;
}

/** Describes what is at a folder, an adapter against the backbone at `backbone` if given. Throws AppError `invalid_config` where there is nothing. */
export async function inspect(folder: string, backbone?: string): Promise<InspectReport> {
  const found = await diagnose(folder, { backbone, deep: false });
  return { text: [textOf(found.parts), ...tableOf(found)].join('\n'), faulty: !found.fits };
}

/** Of what works only. */
function tableOf({ parts: [first], backbone, adapter }: Diagnosis): string[] {
  if (!backbone) return [];
  if (first?.kind !== 'adapter') return backboneTable(backbone);
  return adapter ? adapterTable(adapter, backbone) : [];
}

function adapterTable({ groups }: LoadedAdapter, { target }: BackboneDescription): string[] {
  const modules = target.modules
    .map((module) => module.name)
    .filter((module) => groups.some(({ columns, scales }) => columns.has(module) || scales.has(module)));
  const table = modules.map((module) => [module, ...groups.map((group) => moduleCell(group, module))]);
  return table.length === 0 ? [] : ['', ...align([['module', ...groups.map(({ context }) => context)], ...table])];
}

function moduleCell({ columns, scales, a0 }: LoadedAdapter['groups'][number], module: string): string {
  const found = columns.get(module);
  const scale = scales.get(module);
  if (found) return a0 === 1 ? 'bias' : `rank ${found.rank}`;
  return scale ? `scales ${scale.side}` : '-';
}

function backboneTable(backbone: BackboneDescription): string[] {
  const kinds = new Map<string, { count: number; cells: string[] }>();
  for (const module of backbone.target.modules) {
    const { inFeatures, outFeatures, site, scalable, bias } = module;
    const cells = [kindOf(module), site, `${outFeatures} × ${inFeatures}`, bias ? 'yes' : 'no', scalable ?? '-'];
    const key = cells.join();
    const known = kinds.get(key);
    kinds.set(key, { count: (known?.count ?? 0) + 1, cells });
  }
  return [
    '',
    'Modules that adapters can change:',
    ...align([
      ['module', 'site', 'out × in', 'bias', 'IA3 scales', 'count'],
      ...[...kinds.values()].map(({ cells, count: times }) => [...cells, String(times)]),
    ]),
  ];
}
