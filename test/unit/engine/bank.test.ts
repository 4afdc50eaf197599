/**
 * The bank's inputs, put through the formula at the head of program.ts in plain loops, against what each adapter says of each token alone.
 * And: filling what has changed gives what filling everything gives.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LoadedAdapter } from '../../../src/adapter/adapter.js';
import { blendRef } from '../../../src/adapter/blend.js';
import { mixAdapters, type WeightedAdapter } from '../../../src/adapter/mix.js';
import type { AdapterTarget, LinearModule } from '../../../src/backbone/module.js';
import { Bank } from '../../../src/engine/bank.js';
import { type BankShape, names, type Site, type Variant } from '../../../src/engine/program.js';
import type { Tensor } from '../../../src/runtime/session.js';
import { randomAdapter } from '../../support/adapter.js';
import { Gaussian } from '../../support/tiny.js';

const linear = (name: string, inFeatures: number, outFeatures: number, rest: Partial<LinearModule> = {}): LinearModule => ({
  name,
  inFeatures,
  outFeatures,
  bias: true,
  site: 'attention',
  layout: 'out_in',
  ...rest,
});
const SITES: readonly Site[] = [
  [linear('q_proj', 5, 4), linear('k_proj', 5, 2, { scalable: 'output' }), linear('v_proj', 5, 2, { scalable: 'output' })],
  [linear('o_proj', 4, 5)],
  [linear('gate_proj', 5, 6, { site: 'ffn' }), linear('up_proj', 5, 6, { site: 'ffn' })],
  [linear('down_proj', 6, 5, { site: 'ffn', scalable: 'input' })],
];
const MODULES = SITES.flat();
const SHAPE: BankShape = { sites: SITES, scalable: MODULES.filter(({ scalable }) => scalable) };
const TARGET: AdapterTarget = {
  modules: MODULES,
  hiddenSize: 5,
  imageDim: null,
  contexts: ['image', 'text'],
  languageFolder: '',
  visionFolder: null,
};

const both = ['image', 'text'];
const make = (
  name: string,
  method: 'lora' | 'bitfit' | 'ia3',
  rank: number,
  contexts: string[],
  modules?: string[],
): LoadedAdapter =>
  randomAdapter(TARGET, { name, method, rank, contexts, seed: name.length * 100 + rank, ...(modules ? { modules } : {}) });
const ADAPTERS = {
  small: make('small', 'lora', 3, both),
  other: make('other', 'lora', 8, both),
  wide: make('wide', 'lora', 40, both),
  wider: make('wider', 'lora', 50, both, ['q_proj', 'v_proj', 'down_proj']),
  agnostic: make('agnostic', 'lora', 5, ['all']),
  text: make('text-only', 'lora', 4, ['text']),
  image: make('image-only', 'lora', 4, ['image']),
  bitfit: make('bitfit', 'bitfit', 1, both),
  everywhere: make('bitfit-everywhere', 'bitfit', 1, ['all'], ['v_proj', 'up_proj']),
  ia3: make('ia3', 'ia3', 0, both),
  gentle: make('ia3-everywhere', 'ia3', 0, ['all'], ['k_proj', 'down_proj']),
} satisfies Record<string, LoadedAdapter>;
/** Blends of them: one context and both, agnostic ones, a group of columns of two parts, and all methods at once. */
const BLENDS = {
  styles: { small: 0.7, other: 0.3 },
  wideBlend: { wide: 0.5, wider: -0.5, agnostic: 1 },
  methods: { small: 0.5, bitfit: -1.5, ia3: 0.75 },
  scales: { ia3: 0.5, gentle: 0.75, everywhere: 2, text: 1 },
} satisfies Record<string, Partial<Record<keyof typeof ADAPTERS, number>>>;
type Name = keyof typeof ADAPTERS | keyof typeof BLENDS;

const partsOf = (name: Name): WeightedAdapter[] =>
  Object.entries(name in BLENDS ? BLENDS[name as keyof typeof BLENDS] : { [name]: 1 }).map(([part, weight]) => ({
    adapter: ADAPTERS[part as keyof typeof ADAPTERS],
    weight,
  }));
const MIXED = new Map(
  Object.keys(BLENDS).map((name) => {
    const parts = partsOf(name as Name).map(({ adapter, weight }) => ({ ref: { ...adapter, folder: '' }, weight }));
    return [name, mixAdapters(blendRef(name, parts), partsOf(name as Name))];
  }),
);
const adapterOf = (name: Name): LoadedAdapter => MIXED.get(name) ?? ADAPTERS[name as keyof typeof ADAPTERS];
const NAMES = [...Object.keys(ADAPTERS), ...Object.keys(BLENDS)] as Name[];

/** A run: an adapter a row (null: base), and the context of every token. */
interface Layout {
  readonly rows: readonly (Name | null)[];
  readonly tokens: number;
  readonly contexts: readonly string[];
  readonly contextOf: (row: number, token: number) => string;
}

const adaptersOf = ({ rows }: Layout): (LoadedAdapter | null)[] => rows.map((name) => name && adapterOf(name));
const sum = (count: number, at: (index: number) => number): number => {
  let total = 0;
  for (let index = 0; index < count; index++) total += at(index);
  return total;
};
const fill = (length: number, at: (index: number) => number): number[] => Array.from({ length }, (_, index) => at(index));

/** The backbone's own weights, and an input for every token of a run. */
const weightOf = new Map(
  MODULES.map((module, index) => [module, new Gaussian(index + 1).array(module.inFeatures * module.outFeatures, 0.5)] as const),
);
function frozen(module: LinearModule, x: readonly number[]): number[] {
  const weight = weightOf.get(module) as Float32Array;
  const { inFeatures, outFeatures } = module;
  return fill(
    outFeatures,
    (out) => 0.1 * out + sum(inFeatures, (at) => (x[at] as number) * (weight[out * inFeatures + at] as number)),
  );
}
function input(module: LinearModule, row: number, token: number): number[] {
  return [...new Gaussian(1000 + row * 50 + token).array(module.inFeatures, 1)];
}

/** What the adapters say, a blend by its parts: the groups of the token's context, one after the other, no bank and no mixture anywhere. */
function direct(module: LinearModule, name: Name | null, context: string, x: readonly number[]): number[] {
  const groups = (name === null ? [] : partsOf(name)).flatMap(({ adapter, weight }) =>
    adapter.groups
      .filter((group) => group.context === context || group.context === 'all')
      .map(({ columns, scales, a0 }) => ({ columns, scales, a0, weight })),
  );
  const scaled = (side: 'input' | 'output', values: readonly number[]): readonly number[] =>
    values.map((value, at) => {
      const change = groups.map(({ scales, weight }) => {
        const scale = scales.get(module.name);
        return scale?.side === side ? weight * (scale.delta[at] as number) : 0;
      });
      return value * (1 + sum(change.length, (index) => change[index] as number));
    });
  const seen = scaled('input', x);
  const y = frozen(module, seen);
  for (const { columns, a0, weight } of groups) {
    const own = columns.get(module.name);
    if (!own) continue;
    for (let column = 0; column < own.rank; column++) {
      const h =
        a0 + (own.a ? sum(module.inFeatures, (at) => (seen[at] as number) * (own.a?.[at * own.rank + column] as number)) : 0);
      for (let out = 0; out < y.length; out++)
        (y[out] as number) += weight * h * (own.b[column * module.outFeatures + out] as number);
    }
  }
  return [...scaled('output', y)];
}

type Feeds = Readonly<Record<string, Tensor>>;

function tensorOf(feeds: Feeds, name: string): { data: Float32Array; dims: readonly number[] } {
  const tensor = feeds[name];
  if (!tensor) throw new TypeError(`Expected an input ${name} but there are ${Object.keys(feeds).join(', ')}`);
  return { data: tensor.data as Float32Array, dims: tensor.dims };
}

/** program.ts's formula for one token, on the bank's inputs. */
function throughBank(
  feeds: Feeds,
  variant: Variant,
  site: Site,
  row: number,
  token: number,
  tokens: number,
  x: readonly number[],
): number[][] {
  const at = row * tokens + token;
  /** Group `row` of an input, or its only one: element [i, j]. */
  const matrix = (name: string) => {
    const { data, dims } = tensorOf(feeds, name);
    const [groups, height, width] = dims as [number, number, number];
    const base = (groups === 1 ? 0 : row) * height * width;
    return { height, width, at: (i: number, j: number): number => data[base + i * width + j] as number };
  };
  const scaled = (module: LinearModule, values: readonly number[]): number[] => {
    if (variant !== 'scale') return [...values];
    const scale = matrix(names.scale(module));
    const gate = tensorOf(feeds, names.scaleGate).data;
    expect(scale.width).toBe(values.length);
    return values.map(
      (value, i) => value + value * sum(scale.height, (s) => (gate[at * scale.height + s] as number) * scale.at(s, i)),
    );
  };
  const first = site[0] as LinearModule;
  const seen = site.length === 1 && first.scalable === 'input' ? scaled(first, x) : x;
  const outputs = site.map((module) => frozen(module, seen));
  if (variant === 'plain') return outputs;

  const a = matrix(names.a(site));
  expect(a.height).toBe(first.inFeatures);
  const h = fill(a.width, (column) => sum(a.height, (i) => (seen[i] as number) * a.at(i, column)));
  const [gate, offset] = [names.gate(site.length), names.offset(site.length)];
  const gated =
    variant === 'open'
      ? h
      : h.map((value, column) => {
          const index = at * a.width + column;
          return value * (tensorOf(feeds, gate).data[index] as number) + (tensorOf(feeds, offset).data[index] as number);
        });
  const rank = a.width / site.length;
  return site.map((module, part) => {
    const b = matrix(names.b(module));
    expect([b.height, b.width]).toEqual([rank, module.outFeatures]);
    const y = (outputs[part] as number[]).map(
      (value, out) => value + sum(rank, (column) => (gated[part * rank + column] as number) * b.at(column, out)),
    );
    return module.scalable === 'output' ? scaled(module, y) : y;
  });
}

/** Furthest that the bank is from the adapters' own words, over every module and token of a run. */
function error(feeds: Feeds, variant: Variant, layout: Layout): number {
  let worst = 0;
  for (const site of SITES) {
    for (const [row, name] of layout.rows.entries()) {
      for (let token = 0; token < layout.tokens; token++) {
        const x = input(site[0] as LinearModule, row, token);
        const outputs = throughBank(feeds, variant, site, row, token, layout.tokens, x);
        site.forEach((module, part) => {
          direct(module, name, layout.contextOf(row, token), x).forEach((value, out) => {
            const distance = Math.abs(value - (outputs[part]?.[out] as number)) / Math.max(1, Math.abs(value));
            worst = distance <= worst ? worst : distance;
          });
        });
      }
    }
  }
  return worst;
}

/** The decode step of a batch: one text token a row. */
const decoding = (...rows: (Name | null)[]): Layout => ({ rows, tokens: 1, contexts: ['text'], contextOf: () => 'text' });
/** A prefill: token 1 and 2 are the image's. */
const prefilling = (...rows: (Name | null)[]): Layout => ({
  rows,
  tokens: 4,
  contexts: both,
  contextOf: (_, token) => (token === 1 || token === 2 ? 'image' : 'text'),
});

function arranged(layout: Layout): { variant: Variant; feeds: Feeds } {
  const bank = new Bank(SHAPE);
  const variant = bank.arrange(adaptersOf(layout), layout.contexts);
  return { variant, feeds: bank.feeds(variant, layout.tokens, 'key', layout.contextOf) };
}

describe('arrangement', () => {
  const groupsOf = (feeds: Feeds): number => tensorOf(feeds, names.a(SITES[0] as Site)).dims[0] as number;
  const rankOf = (feeds: Feeds): number => tensorOf(feeds, names.b(MODULES[0] as LinearModule)).dims[1] as number;
  const text = (name: keyof typeof ADAPTERS): number =>
    ADAPTERS[name].groups.find(({ context }) => context === 'text')?.rank as number;

  it('shares one group between rows while the distinct adapters are few columns', () => {
    const { feeds } = arranged(decoding('small', 'other', 'small', null));
    expect([groupsOf(feeds), rankOf(feeds)]).toEqual([1, text('small') + text('other')]);
  });

  it('shares one group between rows of one adapter, however wide', () => {
    const { feeds } = arranged(prefilling('wide', 'wide', null));
    expect(groupsOf(feeds)).toBe(1);
    expect(rankOf(feeds)).toBeGreaterThan(64);
  });

  it('gives every row its own group where the distinct adapters are many columns', () => {
    const { feeds } = arranged(decoding('wide', 'wider', 'small', null));
    expect([groupsOf(feeds), rankOf(feeds)]).toEqual([4, Math.max(text('wide'), text('wider'))]);
  });

  it('gives a blend its parts’ columns, one for all constants of a context and one for all scales', () => {
    const feeds = arranged(decoding('methods')).feeds;
    expect(rankOf(feeds)).toBe(text('small') + 1);
    const [groups, scales] = tensorOf(feeds, names.scale(MODULES[1] as LinearModule)).dims;
    expect([groups, scales]).toEqual([1, 1]);
  });

  it('holds the columns of the contexts that occur, and no others', () => {
    expect(rankOf(arranged(decoding('small')).feeds)).toBe(text('small'));
    expect(rankOf(arranged(prefilling('small')).feeds)).toBe(sum(2, (group) => ADAPTERS.small.groups[group]?.rank as number));
  });

  it.each<[string, Variant, Layout]>([
    ['base rows only', 'plain', prefilling(null, null)],
    ['no columns for the contexts that occur', 'plain', decoding('image', null)],
    ['one adapter in one context', 'open', decoding('small', 'small')],
    ['a group a row', 'open', decoding('wide', 'wider', null)],
    ['a base row beside a shared group', 'rank', decoding('small', null)],
    ['two adapters in a shared group', 'rank', decoding('small', 'other')],
    ['two contexts', 'rank', prefilling('small')],
    ['a constant column', 'rank', decoding('bitfit')],
    ['IA3 in one row', 'scale', decoding('small', 'ia3', null)],
    ['a blend alone', 'open', decoding('styles', 'styles')],
    ['a blend and its parts', 'rank', decoding('styles', 'small', 'other')],
    ['a blend with constants and scales', 'scale', prefilling('methods', 'bitfit', null)],
  ])('%s runs the program %s', (_, variant, layout) => {
    const result = arranged(layout);
    expect(result.variant).toBe(variant);
    expect(error(result.feeds, variant, layout)).toBeLessThan(1e-5);
  });
});

const someRows = fc.array(fc.option(fc.constantFrom(...NAMES)), { minLength: 1, maxLength: 6 });

/** Rows with images of 0 to 2 tokens, or a decode step. */
const someLayout: fc.Arbitrary<Layout & { readonly gateKey: string }> = fc.oneof(
  someRows.map((rows) => ({ ...decoding(...rows), gateKey: 'decode' })),
  fc
    .tuple(someRows, fc.integer({ min: 1, max: 3 }), fc.infiniteStream(fc.integer({ min: 0, max: 2 })))
    .map(([rows, tokens, stream]) => {
      const images = rows.map(() => stream.next().value as number);
      const contextOf = (row: number, token: number) => (token >= 1 && token <= (images[row] as number) ? 'image' : 'text');
      return { rows, tokens, contexts: both, contextOf, gateKey: images.join() };
    }),
);

/** Lays out one run after the other in one bank, and each in a bank of its own. */
function checkRefills(layouts: readonly (Layout & { readonly gateKey: string })[]): void {
  const bank = new Bank(SHAPE);
  for (const layout of layouts) {
    const fresh = new Bank(SHAPE);
    const [variant, expected] = [bank, fresh].map((each) => each.arrange(adaptersOf(layout), layout.contexts));
    expect(variant).toBe(expected);
    const asked = variant === 'scale' ? 'scale' : 'rank';
    const [actual, wanted] = [bank, fresh].map((each) => {
      const feeds = Object.entries(each.feeds(asked, layout.tokens, layout.gateKey, layout.contextOf));
      // Bytes, because comparing millions of numbers one by one is slow.
      const bytes = ({ data }: Tensor): Buffer => Buffer.from(new Uint8Array((data as Float32Array).slice().buffer));
      return new Map(feeds.map(([name, tensor]) => [name, [tensor.dims.join(), bytes(tensor).toString('base64')]]));
    });
    expect(actual).toEqual(wanted);
  }
}

describe('content', () => {
  it('is the adapters’ arithmetic for every row and token, in the program asked for and in one with gates (property)', () => {
    fc.assert(
      fc.property(someLayout, (layout) => {
        const bank = new Bank(SHAPE);
        const needed = bank.arrange(adaptersOf(layout), layout.contexts);
        // A decoder with large weights runs what needs no gates in the program that has them.
        for (const variant of new Set([needed, needed === 'scale' ? 'scale' : 'rank'] as const)) {
          const feeds = bank.feeds(variant, layout.tokens, layout.gateKey, layout.contextOf);
          expect(error(feeds, variant, layout)).toBeLessThan(1e-5);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('after any change of contexts and rows is that of a bank filled afresh (property)', () => {
    fc.assert(fc.property(fc.array(someLayout, { minLength: 2, maxLength: 8 }), checkRefills), { numRuns: 40 });
  });

  it('while rows join and leave one by one is that of a bank filled afresh (property)', () => {
    const pool: Name[] = ['small', 'wide', 'wider', 'ia3', 'bitfit', 'methods'];
    const change = fc.record({ leaves: fc.option(fc.nat()), joins: fc.option(fc.constantFrom(...pool, 'base' as const)) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 5, maxLength: 20 }), (changes) => {
        const rows: (Name | null)[] = [];
        const layouts = changes.map(({ leaves, joins }) => {
          const last = leaves !== null && rows.length > 1 ? rows.pop() : undefined;
          // As in the running batch: the last row moves into the hole.
          if (last !== undefined && leaves !== null && leaves % (rows.length + 1) < rows.length)
            rows[leaves % (rows.length + 1)] = last;
          if (joins !== null || rows.length === 0) rows.push(joins === 'base' ? null : joins);
          return { ...decoding(...rows), gateKey: 'decode' };
        });
        checkRefills(layouts);
      }),
      { numRuns: 60 },
    );
  });

  it('is kept where nothing has changed', () => {
    const bank = new Bank(SHAPE);
    const feeds = (layout: Layout, gateKey: string): Feeds => {
      const variant = bank.arrange(adaptersOf(layout), layout.contexts);
      return bank.feeds(variant, layout.tokens, gateKey, layout.contextOf);
    };
    const layout = prefilling('small', 'bitfit');
    const before = feeds(layout, 'images');
    const again = feeds(layout, 'images');
    for (const [name, tensor] of Object.entries(before)) expect(again[name]).toBe(tensor);
    const moved = feeds({ ...layout, contextOf: () => 'text' }, 'no images');
    expect(moved[names.gate(3)]).not.toBe(before[names.gate(3)]);
    expect(moved[names.a(SITES[0] as Site)]).toBe(before[names.a(SITES[0] as Site)]);
  });
});
