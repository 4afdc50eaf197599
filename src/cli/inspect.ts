/** `graft inspect`: what a backbone or an adapter folder holds, whether they fit, and everything that is wrong with it. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { LoadedAdapter } from '../adapter/adapter.js';
import { digestFolder } from '../adapter/digest.js';
import { readAdapter } from '../adapter/format.js';
import { type AdapterSummary, inspectFolder } from '../adapter/summary.js';
import { type BackboneDescription, describeBackbone } from '../backbone/backbone.js';
import { readBackbone } from '../backbone/manifest.js';
import { AppError } from '../errors.js';

export interface InspectReport {
  readonly text: string;
  /** Something is wrong with what was inspected. */
  readonly faulty: boolean;
}

/** Describes the backbone or adapter at `folder`, an adapter against the backbone at `backbone` if given. Throws AppError where it is neither. */
export async function inspect(folder: string, backbone?: string): Promise<InspectReport> {
  if (!(await isAdapter(folder)))
    return { text: backboneTable(await describeBackbone(await readBackbone(folder))), faulty: false };
  const { summary, fault } = await inspectFolder(path.resolve(folder));
  const lines = [`adapter ${path.basename(path.resolve(folder))}`, ...(await summaryRows(folder, summary))];
  if (fault !== undefined) return { text: [...lines, ...faultLines([fault])].join('\n'), faulty: true };
  if (backbone === undefined)
    return { text: [...lines, '', 'Its files are in order; --backbone says whether it fits one.'].join('\n'), faulty: false };

  const description = await describeBackbone(await readBackbone(backbone));
  try {
    const adapter = await readAdapter(path.resolve(folder), description.target);
    return { text: [...lines, ...adapterRows(adapter, description)].join('\n'), faulty: false };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return {
      text: [...lines, row('backbone', `${description.name}: does not fit`), ...faultLines(error.faults ?? [error.message])].join(
        '\n',
      ),
      faulty: true,
    };
  }
}

async function isAdapter(folder: string): Promise<boolean> {
  const files = ['adapter.json', 'adapter_config.json'].map((name) => stat(path.join(folder, name)).catch(() => undefined));
  return (await Promise.all(files)).some((info) => info?.isFile());
}

async function summaryRows(folder: string, { method, contexts, task, prompt, rank, format }: AdapterSummary): Promise<string[]> {
  // What cannot be hashed is named as a fault below.
  const content = await digestFolder(path.resolve(folder)).catch(() => undefined);
  return [
    row('format', format),
    row('method', rank === undefined ? method : `${method}, rank up to ${rank}`),
    row('contexts', contexts.join(', ') || 'none'),
    ...(task === undefined ? [] : [row('task', task)]),
    row('prompt', JSON.stringify(prompt)),
    row('digest', content?.digest ?? 'unknown'),
    row('files', content ? `${count(content.bytes)} bytes` : 'unknown'),
  ];
}

function adapterRows(
  { groups, projector, matched, targeted, bytes }: LoadedAdapter,
  { name, target }: BackboneDescription,
): string[] {
  const modules = target.modules
    .map((module) => module.name)
    .filter((module) => groups.some(({ columns, scales }) => columns.has(module) || scales.has(module)));
  const table = modules.map((module) => [module, ...groups.map((group) => moduleCell(group, module))]);
  return [
    row('backbone', name),
    row('matched', `${matched} of ${targeted} modules`),
    row('projector', projector ? `${target.hiddenSize} × ${target.imageDim}` : 'none: it takes text only'),
    row('parameters', count(parametersOf(groups, projector))),
    row('in memory', `${count(bytes)} bytes`),
    ...(table.length === 0 ? [] : ['', ...align([['module', ...groups.map(({ context }) => context)], ...table])]),
  ];
}

function moduleCell({ columns, scales, a0 }: LoadedAdapter['groups'][number], module: string): string {
  const found = columns.get(module);
  const scale = scales.get(module);
  if (found) return a0 === 1 ? 'bias' : `rank ${found.rank}`;
  return scale ? `scales ${scale.side}` : '-';
}

function parametersOf(groups: LoadedAdapter['groups'], projector: LoadedAdapter['projector']): number {
  let total = projector ? projector.weight.length + projector.bias.length : 0;
  for (const { columns, scales } of groups) {
    for (const { a, b } of columns.values()) total += (a?.length ?? 0) + b.length;
    for (const { delta } of scales.values()) total += delta.length;
  }
  return total;
}

function backboneTable({ name, language, languageFolder, vision, target }: BackboneDescription): string {
  const kinds = new Map<string, { count: number; cells: string[] }>();
  for (const { name: module, inFeatures, outFeatures, site, scalable, bias } of target.modules) {
    const kind = module.slice(module.lastIndexOf('.') + 1);
    const cells = [kind, site, `${outFeatures} × ${inFeatures}`, bias ? 'yes' : 'no', scalable ?? '-'];
    const key = cells.join();
    const known = kinds.get(key);
    kinds.set(key, { count: (known?.count ?? 0) + 1, cells });
  }
  const chosen = vision?.model.features === undefined ? '' : ` (features chosen: ${vision.model.features})`;
  return [
    `backbone ${name}`,
    row('language', `${language.family} at ${languageFolder}`),
    row(
      'embedding',
      `${language.hiddenSize}, vocabulary ${count(language.vocabSize)}, up to ${count(language.maxPositions)} positions`,
    ),
    row('vision', vision ? `${vision.model.family} at ${vision.folder}${chosen}` : 'none: it takes text only'),
    ...(vision
      ? [
          row(
            'image',
            `${vision.recipe.height} × ${vision.recipe.width} pixels become ${vision.imageTokens} tokens of ${vision.model.imageDim} features`,
          ),
        ]
      : []),
    row('contexts', target.contexts.join(', ')),
    '',
    'Modules that adapters can change:',
    ...align([
      ['module', 'site', 'out × in', 'bias', 'IA3 scales', 'count'],
      ...[...kinds.values()].map(({ cells, count: times }) => [...cells, String(times)]),
    ]),
  ].join('\n');
}

function faultLines(faults: readonly string[]): string[] {
  return ['', `${faults.length} ${faults.length === 1 ? 'fault' : 'faults'}:`, ...faults.map((fault) => `  ${fault}`)];
}

function row(label: string, value: string): string {
  return `  ${label.padEnd(12)}${value}`;
}

/** Columns, each as wide as its widest cell. */
function align(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)));
  return rows.map((cells) => `  ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd());
}

function count(value: number): string {
  return value.toLocaleString('en-US');
}
