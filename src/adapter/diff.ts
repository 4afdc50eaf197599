/**
 * What differs between two adapters: what their files say, and how far apart the changes are that they make to the weights. Two LoRAs
 * can hold very different matrices that say the same (A doubled, B halved), so that only the products tell. The products are made a row
 * at a time: nothing of a weight's size is ever held.
 */
import { toFloat32 } from '../tensor/convert.js';
import { Faults } from '../tensor/faults.js';
import { members, parseJson } from '../tensor/json.js';
import type { Tensor } from '../tensor/tensor.js';
import type { AdapterGroup } from './adapter.js';
import type { LoneAdapter, LoneGroup } from './alone.js';
import { CONFIG_FILE, FORMAT, MANIFEST_FILE } from './manifest.js';

/** One fact on which they differ; undefined where one has no such thing. */
export interface FieldDifference {
  readonly field: string;
  readonly a: unknown;
  readonly b: unknown;
}

export interface ModuleDifference {
  readonly module: string;
  /** The largest difference of one number, and the root of the summed squares of all. */
  readonly largest: number;
  readonly norm: number;
  /** `norm` as a share of the first's own; null where the first changes nothing. */
  readonly relative: number | null;
}

export interface ContextDifference extends Omit<ModuleDifference, 'module'> {
  readonly context: string;
  /** Modules that either adapts. */
  readonly modules: number;
  /** Those that differ, the largest difference first. */
  readonly differing: readonly ModuleDifference[];
  /** Modules whose sizes differ, so that there is nothing to compare. */
  readonly incomparable: readonly string[];
}

export interface AdapterDifference {
  /** The contents are the same, byte for byte. */
  readonly equal: boolean;
  readonly digests: readonly [string, string];
  readonly fields: readonly FieldDifference[];
  /** Contexts that both have, where the methods are the same. */
  readonly contexts: readonly ContextDifference[];
  /** Weight and bias of the projectors; null where not both have one of the same sizes. */
  readonly projector: Omit<ContextDifference, 'context' | 'incomparable'> | null;
}

/** Fields of the manifest that the derived facts tell better. */
const TOLD: ReadonlySet<string> = new Set(
  ['format', 'method', 'contexts', 'projector'].map((name) => `${MANIFEST_FILE} ${name}`),
);

export function diffAdapters(a: LoneAdapter, b: LoneAdapter): AdapterDifference {
  // Where the methods differ, every line of their configurations would say so again.
  const isConfigTold = a.method === b.method;
  const [before, after] = [factsOf(a, isConfigTold), factsOf(b, isConfigTold)];
  const fields = [...new Set([...before.keys(), ...after.keys()])].flatMap((field): FieldDifference[] => {
    const [one, other] = [before.get(field), after.get(field)];
    return JSON.stringify(one) === JSON.stringify(other) ? [] : [{ field, a: one, b: other }];
  });
  const contexts = a.groups.flatMap(({ group, method }): ContextDifference[] => {
    const other = b.groups.find((each) => each.group.context === group.context && each.method === method);
    return other === undefined ? [] : [diffGroups(group, other.group)];
  });
  return { equal: a.digest === b.digest, digests: [a.digest, b.digest], fields, contexts, projector: diffProjectors(a, b) };
}

/** What can be said in a word or a number: facts that are derived first, then every field of the JSON files. */
function factsOf(adapter: LoneAdapter, isConfigTold: boolean): Map<string, unknown> {
  const { groups, method, manifest, files, projector } = adapter;
  const facts = new Map<string, unknown>([
    ['format', manifest === null ? 'plain PEFT' : FORMAT],
    ['method', method],
    ['contexts', groups.map(({ group }) => group.context)],
    [
      'projector',
      projector && Object.fromEntries([...projector].map(([name, { dtype, shape }]) => [name, `${dtype} ${sizes(shape)}`])),
    ],
  ]);
  for (const each of groups) for (const [name, value] of groupFacts(each)) facts.set(`${each.group.context} ${name}`, value);
  for (const [path, bytes] of [...files].filter(([each]) => each.endsWith('.json'))) {
    const own = groups.find(({ paths }) => paths.config === path);
    if (own && !isConfigTold) continue;
    // They have been read once without a fault.
    const value = parseJson(new TextDecoder().decode(bytes), new Faults());
    flatten(value, own ? `${own.group.context}/${CONFIG_FILE} ` : `${MANIFEST_FILE} `, facts);
  }
  for (const name of TOLD) facts.delete(name);
  return facts;
}

function groupFacts({ group, tensors, method }: LoneGroup): (readonly [string, unknown])[] {
  const ranks = [...new Set([...group.columns.values()].map(({ rank }) => rank))].sort((one, other) => one - other);
  return [
    ...(method === 'lora' ? [['ranks', ranks] as const] : []),
    ['modules', group.columns.size + group.scales.size],
    ['dtype', [...new Set([...tensors.values()].map(({ dtype }) => dtype))].sort()],
  ];
}

/** Members by their path, lists as they are. */
function flatten(value: unknown, path: string, facts: Map<string, unknown>): void {
  const fields = members(value);
  // An empty object is a value of its own, not the absence of one.
  if (fields === undefined || fields.size === 0) facts.set(path, value);
  for (const [name, member] of fields ?? []) flatten(member, path.endsWith(' ') ? `${path}${name}` : `${path}.${name}`, facts);
}

function diffGroups(a: AdapterGroup, b: AdapterGroup): ContextDifference {
  const [before, after] = [updatesOf(a), updatesOf(b)];
  return { context: a.context, ...diffUpdates(before, after) };
}

/** A change of one module: a product of factors, [rows, rank] · [rank, columns]; one row of numbers where there is no left one. */
interface Update {
  readonly left: Float32Array | null;
  readonly right: Float32Array;
  readonly rank: number;
  readonly rows: number;
  readonly columns: number;
  /** Two of different kinds are never compared: a scale of the input with one of the output. */
  readonly kind: string;
}

function updatesOf({ columns, scales }: AdapterGroup): Map<string, Update> {
  const updates = new Map<string, Update>();
  for (const [module, { rank, a, b }] of columns)
    updates.set(module, {
      left: a,
      right: b,
      rank,
      rows: a === null ? 1 : a.length / rank,
      columns: b.length / rank,
      kind: 'sum',
    });
  for (const [module, { side, delta }] of scales) updates.set(module, vector(delta, side));
  return updates;
}

function vector(values: Float32Array, kind: string): Update {
  return { left: null, right: values, rank: 1, rows: 1, columns: values.length, kind };
}

function diffUpdates(a: ReadonlyMap<string, Update>, b: ReadonlyMap<string, Update>): Omit<ContextDifference, 'context'> {
  const names = [...new Set([...a.keys(), ...b.keys()])];
  const differing: ModuleDifference[] = [];
  const incomparable: string[] = [];
  const total = new Sums();
  for (const module of names) {
    const [one, other] = [a.get(module), b.get(module)];
    if (one && other && (one.rows !== other.rows || one.columns !== other.columns || one.kind !== other.kind)) {
      incomparable.push(module);
      continue;
    }
    const sums = sumsOf(one, other);
    total.add(sums);
    if (sums.largest > 0) differing.push({ module, ...sums.result() });
  }
  differing.sort((one, other) => other.norm - one.norm);
  return { ...total.result(), modules: names.length, differing, incomparable };
}

/** Sums over the elements of two changes, in double precision. */
class Sums {
  largest = 0;
  #difference = 0;
  #own = 0;

  take(own: number, other: number): void {
    const difference = own - other;
    this.#own += own * own;
    this.#difference += difference * difference;
    this.largest = Math.max(this.largest, Math.abs(difference));
  }

  add(other: Sums): void {
    this.#own += other.#own;
    this.#difference += other.#difference;
    this.largest = Math.max(this.largest, other.largest);
  }

  result(): Omit<ModuleDifference, 'module'> {
    const norm = Math.sqrt(this.#difference);
    // Nothing in place of nothing is no difference.
    const relative = this.#own > 0 ? norm / Math.sqrt(this.#own) : norm === 0 ? 0 : null;
    return { largest: this.largest, norm, relative };
  }
}

/** A module that one of them leaves alone is changed by nothing there. */
function sumsOf(a: Update | undefined, b: Update | undefined): Sums {
  const sums = new Sums();
  const { rows, columns } = a ?? b ?? { rows: 0, columns: 0 };
  // Each by itself: taken from one another at the end, equal rows leave nothing, not even what rounding leaves.
  const [own, other] = [new Float64Array(columns), new Float64Array(columns)];
  for (let row = 0; row < rows; row++) {
    if (a) fillRow(own, a, row);
    if (b) fillRow(other, b, row);
    for (let column = 0; column < columns; column++) sums.take(own[column] as number, other[column] as number);
  }
  return sums;
}

function fillRow(target: Float64Array, { left, right, rank, columns }: Update, row: number): void {
  target.fill(0);
  for (let inner = 0; inner < rank; inner++) {
    const factor = left === null ? 1 : (left[row * rank + inner] as number);
    const at = inner * columns;
    for (let column = 0; column < columns; column++)
      target[column] = (target[column] as number) + factor * (right[at + column] as number);
  }
}

function diffProjectors({ projector: a }: LoneAdapter, { projector: b }: LoneAdapter): AdapterDifference['projector'] {
  if (a === null || b === null) return null;
  const updates = (tensors: ReadonlyMap<string, Tensor>) =>
    new Map([...tensors].map(([name, tensor]) => [name, vector(toFloat32(tensor), sizes(tensor.shape))]));
  const { incomparable, ...difference } = diffUpdates(updates(a), updates(b));
  return incomparable.length > 0 ? null : difference;
}

function sizes(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}
