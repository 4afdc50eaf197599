/** `graft adapters diff`: what differs between two adapters, for people or as JSON. */
import path from 'node:path';
import { readAlone } from '../../adapter/alone.js';
import { type AdapterDifference, type ContextDifference, diffAdapters, type ModuleDifference } from '../../adapter/diff.js';

export interface DiffReport {
  readonly text: string;
  readonly equal: boolean;
}

/** Modules that are named of those that differ. */
const NAMED = 5;
const MAX_VALUE_CHARACTERS = 60;

/** Compares two folders. Throws AppError `adapter_invalid` where one is no adapter whose files are in order. */
export async function diffFolders(a: string, b: string, { json = false }: { readonly json?: boolean }): Promise<DiffReport> {
  const [before, after] = [await readAlone(path.resolve(a)), await readAlone(path.resolve(b))];
  const difference = diffAdapters(before, after);
  const { equal } = difference;
  if (json) return { equal, text: JSON.stringify(difference, null, 2) };
  return { equal, text: equal ? `equal, ${difference.digests[0]}` : tell(a, b, difference) };
}

function tell(a: string, b: string, { digests, fields, contexts, projector }: AdapterDifference): string {
  const rows = [
    ['', a, b],
    ['digest', ...digests.map((digest) => `${digest.slice(0, 19)}...`)],
    ...fields.map((each) => [each.field, valueText(each.a), valueText(each.b)]),
  ];
  const parts = contexts.map((each) => [each.context, each] as const);
  const compared = [...parts, ...(projector ? [['projector', { ...projector, incomparable: [] }] as const] : [])];
  return [...align(rows), ...compared.flatMap(([name, each]) => ['', ...partLines(name, each)])].join('\n');
}

function partLines(name: string, { modules, differing, incomparable, ...whole }: Omit<ContextDifference, 'context'>): string[] {
  const what = name === 'projector' ? 'tensors' : 'modules';
  const others = incomparable.map((module) => `  ${module}: sizes or sides differ`);
  if (differing.length === 0 && others.length === 0) return [`${name}: the same numbers in all ${modules} ${what}`];
  const head = `${name}: ${differing.length} of ${modules} ${what} differ by ${numbers(whole)}`;
  const rows = differing.slice(0, NAMED).map((each) => [each.module, numbers(each)]);
  const more = differing.length > NAMED ? [`  and ${differing.length - NAMED} more`] : [];
  return [head, ...align(rows), ...more, ...others];
}

function numbers({ largest, relative }: Omit<ModuleDifference, 'module'>): string {
  const share = relative === null ? 'all that the second does' : `${(100 * relative).toPrecision(3)} %`;
  return `${share}, up to ${largest.toPrecision(3)}`;
}

function valueText(value: unknown): string {
  if (value === undefined) return '-';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > MAX_VALUE_CHARACTERS ? `${text.slice(0, MAX_VALUE_CHARACTERS - 3)}...` : text;
}

/** Columns, each as wide as its widest cell. */
function align(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)));
  return rows.map((cells) => `  ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd());
}
