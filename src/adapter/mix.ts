/**
 * The parts of a blend as one adapter in memory. What runs with it computes, for a token of a context, what these merged weights would:
 *     W + Σ w_i ΔW_i,   b + Σ w_i b_i,   l = 1 + Σ w_i (l_i − 1),   and for an image's features Σ w_i P_i
 * over all parts that have parameters for the context, or for every one (`all`). Weights are used as they are.
 *
 * Where a module has IA3 of one part beside LoRA or BitFit of another, the scale is over all of it: l ⊙ ((W + Σ w_i ΔW_i) x + b + Σ w_i b_i), or
 * (W + Σ w_i ΔW_i) (l ⊙ x) on the inner activation. So the order of the parts means nothing.
 *
 * The bank adds up what lies side by side, and so a blend needs nothing of its own there. Here it is made as narrow as it can be: ranks of one
 * module side by side with the weights in their b, all constants of a context in one column, all scales of a context in one row.
 */
import { Faults } from '../tensor/faults.js';
import type { AdapterGroup, AdapterRef, LoadedAdapter, Projector, RankColumns, Scale } from './adapter.js';
import { arraysOf } from './format.js';
import { checkFinite } from './group.js';

export interface WeightedAdapter {
  readonly adapter: LoadedAdapter;
  readonly weight: number;
}

interface Weighted<T> {
  readonly value: T;
  readonly weight: number;
}

/**
 * Mixes adapters of one backbone, under the name and digest of the reference. Every array is new. Throws AppError `adapter_invalid` where weighted
 * numbers leave float32.
 */
export function mixAdapters({ name, digest }: AdapterRef, parts: readonly WeightedAdapter[]): LoadedAdapter {
  const found = parts.flatMap(({ adapter, weight }) => adapter.groups.map((value) => ({ value, weight })));
  const contexts = [...new Set(found.map(({ value }) => value.context))];
  const groups = contexts.flatMap((context) =>
    mixContext(
      context,
      found.filter(({ value }) => value.context === context),
    ),
  );
  const projector = mixProjectors(
    parts.flatMap(({ adapter, weight }) => (adapter.projector === null ? [] : [{ value: adapter.projector, weight }])),
  );
  const arrays = arraysOf({ groups, projector });
  const faults = new Faults();
  // One names the reason: a weight is too large for one part's numbers, and those are many.
  arrays.every((array) => checkFinite(array, 'what its parts add up to', faults));
  faults.check('adapter_invalid', `blend ${name}`);
  return {
    name,
    digest,
    method: 'mixed',
    groups,
    projector,
    matched: parts.reduce((sum, { adapter }) => sum + adapter.matched, 0),
    targeted: parts.reduce((sum, { adapter }) => sum + adapter.targeted, 0),
    bytes: arrays.reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
}

/** At most two groups: what is multiplied with x and what is scaled, and the constants, which the bank opens to a token in another way. */
function mixContext(context: string, groups: readonly Weighted<AdapterGroup>[]): AdapterGroup[] {
  const columnsOf = (a0: 0 | 1, mix: (columns: readonly Weighted<RankColumns>[]) => RankColumns) =>
    byModule(
      groups.filter(({ value }) => value.a0 === a0),
      ({ columns }) => columns,
      mix,
    );
  const columns = columnsOf(0, sideBySide);
  const constants = columnsOf(1, (parts) => ({ rank: 1, a: null, b: weightedSum(parts, ({ b }) => b) }));
  const scales = byModule(
    groups,
    (group) => group.scales,
    (parts): Scale => ({ side: first(parts).side, delta: weightedSum(parts, ({ delta }) => delta) }),
  );
  const mixed: AdapterGroup[] = [];
  const rank = Math.max(0, ...[...columns.values()].map((own) => own.rank));
  if (columns.size + scales.size > 0) mixed.push({ context, rank, a0: 0, columns, scales });
  if (constants.size > 0) mixed.push({ context, rank: 1, a0: 1, columns: constants, scales: new Map() });
  return mixed;
}

/** What each module has in any of the groups, mixed. */
function byModule<T>(
  groups: readonly Weighted<AdapterGroup>[],
  mapOf: (group: AdapterGroup) => ReadonlyMap<string, T>,
  mix: (parts: readonly Weighted<T>[]) => T,
): Map<string, T> {
  const modules = new Set(groups.flatMap(({ value }) => [...mapOf(value).keys()]));
  return new Map(
    [...modules].map((module) => {
      const parts = groups.flatMap(({ value, weight }) => {
        const own = mapOf(value).get(module);
        return own === undefined ? [] : [{ value: own, weight }];
      });
      return [module, mix(parts)];
    }),
  );
}

/** Rank columns after one another, the weight of each part in its b. */
function sideBySide(parts: readonly Weighted<RankColumns>[]): RankColumns {
  const rank = parts.reduce((sum, { value }) => sum + value.rank, 0);
  const { a: firstA, b: firstB, rank: firstRank } = first(parts);
  const [inFeatures, outFeatures] = [(firstA?.length ?? 0) / firstRank, firstB.length / firstRank];
  const a = new Float32Array(inFeatures * rank); // [in, rank]
  const b = new Float32Array(rank * outFeatures); // [rank, out]
  let column = 0;
  for (const { value, weight } of parts) {
    if (value.a === null) throw new TypeError('Expected rank columns with an a but received none');
    for (let row = 0; row < inFeatures; row++)
      a.set(value.a.subarray(row * value.rank, (row + 1) * value.rank), row * rank + column);
    b.set(
      value.b.map((number) => number * weight),
      column * outFeatures,
    );
    column += value.rank;
  }
  return { rank, a, b };
}

function mixProjectors(parts: readonly Weighted<Projector>[]): Projector | null {
  if (parts.length === 0) return null;
  return { weight: weightedSum(parts, ({ weight }) => weight), bias: weightedSum(parts, ({ bias }) => bias) };
}

/** Summed in double precision, rounded once. */
function weightedSum<T>(parts: readonly Weighted<T>[], arrayOf: (value: T) => Float32Array): Float32Array {
  const sum = new Float64Array(arrayOf(first(parts)).length);
  for (const { value, weight } of parts) {
    const array = arrayOf(value);
    for (let at = 0; at < sum.length; at++) sum[at] = (sum[at] as number) + weight * (array[at] as number);
  }
  return Float32Array.from(sum);
}

function first<T>([part]: readonly Weighted<T>[]): T {
  if (part === undefined) throw new RangeError('Expected at least one part of a blend');
  return part.value;
}
