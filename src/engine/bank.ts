/**
 * The adapters of one run, laid out as the graph's inputs (the arithmetic is in program.ts).
 *
 * Every adapter is a set of columns: its contexts side by side along the rank axis, and a gate that says which of them a token sees.
 * Rows are arranged in one of two ways, chosen here and nowhere else:
 * - shared: one group for all rows, holding the columns of every distinct adapter. One dense product; wasted work grows with the columns.
 * - own: a group a row. Nothing is wasted, but rows that share an adapter hold it twice and every row is a small product of its own.
 * A base row sees no columns in either. Filling is incremental: a group whose content has not changed is not copied again.
 */
import type { AdapterGroup, LoadedAdapter } from '../adapter/adapter.js';
import type { LinearModule } from '../backbone/module.js';
import { bool, float32, type Tensor } from '../runtime/session.js';
import { type BankShape, names, type Site, type Variant } from './program.js';

/** Distinct adapters share one group while it has at most this many columns (bench/RESULTS.md, "bank layout"). */
const MAX_SHARED_COLUMNS = 32;

/** One adapter group's place in a bank group. */
interface Placement {
  readonly group: AdapterGroup;
  /** First rank column. */
  readonly column: number;
  /** Scale column; −1 where the group has no scales. */
  readonly scale: number;
}

interface Arrangement {
  readonly key: string;
  /** Per bank group: what it holds. One bank group for all rows, or one a row. */
  readonly groups: readonly { readonly key: string; readonly placements: readonly Placement[] }[];
  /** Per row: the placements its tokens may see. */
  readonly rows: readonly (readonly Placement[])[];
  /** Columns of a bank group; at least one (of zeros), because the graph's Split refuses an empty axis. */
  readonly rank: number;
  readonly scales: number;
  readonly variant: Variant;
}

/** One graph input of the bank: [groups, rows of the matrix, columns]. */
interface Slot {
  readonly name: string;
  buffer: Float32Array;
}

/** A bank of which every group is yet to be filled. */
const NOTHING = { rank: -1, scales: -1, keys: [] };

export class Bank {
  readonly #shape: BankShape;
  readonly #parts: readonly number[];
  readonly #slots = new Map<string, Slot>();
  #arrangement: Arrangement | undefined;
  /** What the arrangement is of. */
  #rows: readonly (LoadedAdapter | null)[] = [];
  #contexts: readonly string[] = [];
  #filled: { readonly rank: number; readonly scales: number; readonly keys: string[] } = NOTHING;
  #feeds: Record<string, Tensor> = {};
  #gateKey = '';
  #gateFeeds: Record<string, Tensor> = {};

  constructor(shape: BankShape) {
    this.#shape = shape;
    this.#parts = [...new Set(shape.sites.map((site) => site.length))];
  }

  /** Lays out these rows' adapters (null: base row) for tokens of these contexts, and says which program they need. */
  arrange(rows: readonly (LoadedAdapter | null)[], contexts: readonly string[]): Variant {
    // Most steps run the rows of the step before.
    if (this.#arrangement && contexts === this.#contexts && sameElements(rows, this.#rows)) return this.#arrangement.variant;
    const arrangement = arrange(rows, contexts);
    if (arrangement.key !== this.#arrangement?.key) {
      // Forgotten until it is filled: where memory runs out half-way, the next run starts over.
      this.#arrangement = undefined;
      this.#fill(arrangement);
    }
    this.#arrangement = arrangement;
    this.#rows = [...rows];
    this.#contexts = contexts;
    return arrangement.variant;
  }

  /**
   * The bank's inputs for a program of this variant. `contextOf` says the context of a token of a row; `gateKey` names that assignment,
   * so that gates which have not changed since the last run are not written again.
   */
  feeds(
    variant: Variant,
    tokens: number,
    gateKey: string,
    contextOf: (row: number, token: number) => string,
  ): Readonly<Record<string, Tensor>> {
    if (variant === 'plain') return {};
    if (variant === 'open') return this.#feeds;
    const arrangement = this.#arrangement as Arrangement;
    const key = `${arrangement.key}|${tokens}|${gateKey}`;
    if (key !== this.#gateKey) {
      this.#gateKey = key;
      this.#gateFeeds = this.#gates(arrangement, tokens, contextOf);
    }
    return { ...this.#feeds, ...this.#gateFeeds };
  }

  #fill(arrangement: Arrangement): void {
    const { groups, rank, scales } = arrangement;
    // Other column counts move every element: start over.
    const fresh = rank !== this.#filled.rank || scales !== this.#filled.scales;
    const stale = groups
      .map((group, index) => (fresh || this.#filled.keys[index] !== group.key ? index : -1))
      .filter((index) => index >= 0);
    const keys = fresh ? [] : this.#filled.keys;
    groups.forEach((group, index) => {
      keys[index] = group.key;
    });
    this.#filled = NOTHING;

    const feeds: Record<string, Tensor> = {};
    const place = (
      name: string,
      height: number,
      width: number,
      write: (target: Float32Array, placement: Placement) => void,
    ): void => {
      const size = height * width;
      const { buffer, grown } = this.#buffer(name, groups.length * size);
      for (const index of grown ? groups.keys() : stale) {
        const target = buffer.subarray(index * size, (index + 1) * size);
        target.fill(0);
        for (const placement of groups[index]?.placements ?? []) write(target, placement);
      }
      feeds[name] = this.#tensor(name, buffer, [groups.length, height, width]);
    };

    for (const site of this.#shape.sites) {
      const width = site.length * rank;
      place(names.a(site), (site[0] as LinearModule).inFeatures, width, (target, placement) =>
        writeA(target, width, rank, site, placement),
      );
      for (const module of site) {
        place(names.b(module), rank, module.outFeatures, (target, { group, column }) => {
          const b = group.columns.get(module.name)?.b;
          if (b) target.set(b, column * module.outFeatures);
        });
      }
    }
    for (const module of scales > 0 ? this.#shape.scalable : []) {
      const width = module.scalable === 'input' ? module.inFeatures : module.outFeatures;
      place(names.scale(module), scales, width, (target, { group, scale }) => {
        const delta = group.scales.get(module.name)?.delta;
        if (delta) target.set(delta, scale * width);
      });
    }
    this.#filled = { rank, scales, keys };
    this.#feeds = feeds;
  }

  #gates(
    { rows, rank, scales }: Arrangement,
    tokens: number,
    contextOf: (row: number, token: number) => string,
  ): Record<string, Tensor> {
    const gate = new Uint8Array(rows.length * tokens * rank);
    const offset = new Float32Array(gate.length);
    const scaleGate = new Float32Array(rows.length * tokens * scales);
    rows.forEach((placements, row) => {
      for (let token = 0; token < tokens; token++) {
        const context = contextOf(row, token);
        for (const { group, column, scale } of placements) {
          if (group.context !== context && group.context !== 'all') continue;
          const at = (row * tokens + token) * rank + column;
          // A constant column is all offset: its A is zeros.
          if (group.a0 === 0) gate.fill(1, at, at + group.rank);
          else offset.fill(group.a0, at, at + group.rank);
          if (scale >= 0) scaleGate[(row * tokens + token) * scales + scale] = 1;
        }
      }
    });
    const feeds: Record<string, Tensor> = { [names.scaleGate]: float32(scaleGate, [rows.length, tokens, scales]) };
    for (const parts of this.#parts) {
      const shape = [rows.length, tokens, rank * parts];
      feeds[names.gate(parts)] = bool(repeatColumns(gate, rank, parts, new Uint8Array(gate.length * parts)), shape);
      feeds[names.offset(parts)] = float32(repeatColumns(offset, rank, parts, new Float32Array(offset.length * parts)), shape);
    }
    return feeds;
  }

  /** A tensor over the beginning of a buffer; the one of the last filling where it is the same. */
  #tensor(name: string, buffer: Float32Array, shape: readonly [number, number, number]): Tensor {
    const last = this.#feeds[name];
    const data = last?.data as Float32Array | undefined;
    if (last && data?.buffer === buffer.buffer && shape.every((size, axis) => size === last.dims[axis])) return last;
    return float32(buffer.subarray(0, shape[0] * shape[1] * shape[2]), shape);
  }

  #buffer(name: string, size: number): { buffer: Float32Array; grown: boolean } {
    const slot = this.#slots.get(name);
    if (slot && slot.buffer.length >= size) return { buffer: slot.buffer, grown: false };
    const buffer = new Float32Array(size);
    this.#slots.set(name, { name, buffer });
    return { buffer, grown: true };
  }
}

/** Decides how rows are grouped and which columns they get. */
function arrange(rows: readonly (LoadedAdapter | null)[], contexts: readonly string[]): Arrangement {
  const visible = new Map<string, readonly AdapterGroup[]>();
  for (const adapter of rows) {
    if (adapter)
      visible.set(
        adapter.digest,
        adapter.groups.filter(({ context }) => context === 'all' || contexts.includes(context)),
      );
  }
  const columns = sum([...visible.values()].flat().map(({ rank }) => rank));
  const own = visible.size > 1 && columns > MAX_SHARED_COLUMNS;
  const prefix = contexts.join();

  if (own) {
    const groups = rows.map((adapter) => ({
      key: `${prefix}:${adapter?.digest ?? ''}`,
      placements: place(adapter ? (visible.get(adapter.digest) ?? []) : []),
    }));
    const perRow = groups.map(({ placements }) => placements);
    return { key: `own:${groups.map(({ key }) => key).join('|')}`, groups, rows: perRow, ...sizes(groups, perRow, contexts) };
  }

  // In an order of their own: where rows only change places, nothing is copied.
  const digests = [...visible.keys()].sort();
  const placements = place(digests.flatMap((digest) => visible.get(digest) ?? []));
  const groups = [{ key: `${prefix}:${digests.join()}`, placements }];
  const perRow = rows.map((adapter) => placements.filter(({ group }) => adapter && visible.get(adapter.digest)?.includes(group)));
  const membership = rows.map((adapter) => (adapter ? digests.indexOf(adapter.digest) : -1)).join();
  return { key: `shared:${groups[0]?.key}:${membership}`, groups, rows: perRow, ...sizes(groups, perRow, contexts) };
}

/** Columns for adapter groups side by side. */
function place(groups: readonly AdapterGroup[]): Placement[] {
  let columns = 0;
  let scales = 0;
  return groups.map((group) => {
    const placement = { group, column: columns, scale: group.scales.size > 0 ? scales++ : -1 };
    columns += group.rank;
    return placement;
  });
}

function sizes(
  groups: Arrangement['groups'],
  rows: Arrangement['rows'],
  contexts: readonly string[],
): Pick<Arrangement, 'rank' | 'scales' | 'variant'> {
  const rank = Math.max(0, ...groups.map(({ placements }) => sum(placements.map(({ group }) => group.rank))));
  const scales = Math.max(0, ...groups.map(({ placements }) => placements.filter(({ scale }) => scale >= 0).length));
  // Columns of another's adapter, another context, or a constant one ask for gates; what a row's own group lacks is zeros anyway.
  const open =
    contexts.length === 1 &&
    rows.every((placements, row) => placements.length === groups[groups.length === 1 ? 0 : row]?.placements.length) &&
    groups.every(({ placements }) => placements.every(({ group }) => group.a0 === 0));
  const variant = scales > 0 ? 'scale' : rank === 0 ? 'plain' : open ? 'open' : 'rank';
  return { rank: Math.max(1, rank), scales, variant };
}

/** A's of a site side by side: the columns of its j-th projection start at j · rank. */
function writeA(target: Float32Array, width: number, rank: number, site: Site, { group, column }: Placement): void {
  for (const [part, module] of site.entries()) {
    const columns = group.columns.get(module.name);
    if (columns?.a) copyColumns(columns.a, columns.rank, target, width, part * rank + column);
  }
}

/** A matrix of `own` columns into columns `first` ... of one that is `width` wide. The bank's hottest loop: nothing else in here. */
function copyColumns(source: Float32Array, own: number, target: Float32Array, width: number, first: number): void {
  const { length } = source;
  let to = first;
  for (let from = 0; from < length; to += width) {
    for (let at = 0; at < own; at++) target[to + at] = source[from++] as number;
  }
}

/** Fills `target`: every run of `columns` of the source, `times` over. */
function repeatColumns<T extends Uint8Array | Float32Array>(source: T, columns: number, times: number, target: T): T {
  for (let at = 0; at < source.length; at += columns) {
    for (let copy = 0; copy < times; copy++) target.set(source.subarray(at, at + columns), at * times + copy * columns);
  }
  return target;
}

function sameElements<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((element, index) => element === b[index]);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
