/** What an adapter trains: the paper's numbers, PEFT's tensors (fixtures/plan/make.py), and every fault of the options by name. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Method } from '../../../src/adapter/adapter.js';
import { gatedContexts, type PlanOptions, planParameters, resolvePlan } from '../../../src/adapter/plan.js';
import { readLlama } from '../../../src/backbone/language/llama.js';
import { AppError } from '../../../src/errors.js';

interface Counts {
  readonly models: readonly { readonly name: string; readonly config: object; readonly parameters: number }[];
  readonly adapters: readonly {
    readonly model: string;
    readonly method: Method;
    readonly rank?: number;
    readonly targets: readonly string[];
    readonly fused?: boolean;
    readonly tensors: Readonly<Record<string, readonly number[]>>;
  }[];
}

const COUNTS = JSON.parse(readFileSync(new URL('../../fixtures/plan/counts.json', import.meta.url), 'utf8')) as Counts;
const modelOf = (name: string) => readLlama(COUNTS.models.find((model) => model.name === name)?.config, name);
const targetOf = (name: string) => ({ modules: modelOf(name).modules, contexts: ['image', 'text'] });
const GROUPED = targetOf('grouped');
const PAPER = targetOf('paper');
/** The paper's FFN reads its input through one projection of twice the inner size. */
const PAPER_MODULES = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_up_proj', 'down_proj'];

function count(options: PlanOptions, target = PAPER): number {
  return planParameters(resolvePlan(options, target)).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

function faultsOf(options: PlanOptions, target = GROUPED): readonly string[] {
  try {
    resolvePlan(options, target);
  } catch (error) {
    if (error instanceof AppError && error.code === 'invalid_config') return error.faults ?? [];
    throw error;
  }
  return [];
}

const kindsOf = (options: PlanOptions) =>
  resolvePlan(options, GROUPED)
    .modules.filter(({ name }) => name.includes('.0.'))
    .map(({ name }) => name.replace(/.*\./, ''));

it.each<[string, PlanOptions, number, number]>([
  ['IA3', { method: 'ia3' }, 55_296, 110_592],
  ['BitFit', { method: 'bitfit' }, 119_808, 239_616],
  ['BitFit of the fused projection', { method: 'bitfit', targetModules: PAPER_MODULES }, 119_808, 239_616],
  ['LoRA-1', { method: 'lora', rank: 1, targetModules: PAPER_MODULES }, 202_752, 405_504],
  ['LoRA-8', { method: 'lora', rank: 8, targetModules: PAPER_MODULES }, 1_622_016, 3_244_032],
  ['LoRA-64', { method: 'lora', rank: 64, targetModules: PAPER_MODULES }, 12_976_128, 25_952_256],
  ['LoRA-1, gate and up apart', { method: 'lora', rank: 1 }, 211_968, 423_936],
  ['LoRA-64, gate and up apart', { method: 'lora', rank: 64 }, 64 * 211_968, 2 * 64 * 211_968],
  ['projection only', { method: 'none' }, 0, 0],
])('counts what Table 3 of the paper says: %s', (_, options, agnostic, context) => {
  expect(count({ ...options, contexts: ['agnostic'], allowFused: true })).toBe(agnostic);
  expect(count({ ...options, allowFused: true })).toBe(context);
});

it.each(COUNTS.adapters)('trains the tensors that PEFT saves: $method $rank on $targets of $model', (adapter) => {
  const { model, method, rank, targets, fused, tensors } = adapter;
  const plan = resolvePlan({ method, contexts: ['text'], rank, targetModules: targets, allowFused: fused }, targetOf(model));
  const weight = method === 'lora' ? '.weight' : '';
  const planned = planParameters(plan).map(({ module, part, shape }) => [
    `base_model.model.${module.name}.${part}${weight}`,
    shape,
  ]);
  // PEFT keeps an axis of one for ia3_l, so that it can be multiplied as it is.
  const saved = Object.entries(tensors).map(([name, shape]) => [name, shape.filter((size) => size > 1)]);
  expect(new Map(planned as [string, number[]][])).toEqual(new Map(saved as [string, number[]][]));
  expect(planned).toHaveLength(saved.length);
});

describe('a plan', () => {
  it('adapts all modules in all contexts with rank 8 and a scale of 1, unless told otherwise', () => {
    const plan = resolvePlan({ method: 'lora' }, GROUPED);
    expect(plan.contexts).toEqual(['image', 'text']);
    expect(plan.modules).toEqual(GROUPED.modules);
    expect([...plan.rank]).toEqual([
      ['image', 8],
      ['text', 8],
    ]);
    expect(plan.alpha).toEqual(plan.rank);
    expect(gatedContexts(plan)).toEqual(['image', 'text']);
  });

  it('keeps the backbone’s order, whatever the order of the names', () => {
    const plan = resolvePlan({ method: 'bitfit', contexts: ['text', 'image'], targetModules: ['up_proj', 'q_proj'] }, GROUPED);
    const order = planParameters(plan).map(({ context, module }) => `${context} ${module.name.slice('model.layers.'.length)}`);
    const modules = ['0.self_attn.q_proj', '0.mlp.up_proj', '1.self_attn.q_proj', '1.mlp.up_proj'];
    expect(order).toEqual(['image', 'text'].flatMap((context) => modules.map((name) => `${context} ${name}`)));
  });

  it('gives each context its own rank and alpha', () => {
    const byContext = { rankByContext: new Map([['image', 2]]), alphaByContext: new Map([['text', 0.5]]) };
    const plan = resolvePlan({ method: 'lora', rank: 3, ...byContext }, GROUPED);
    expect([...plan.rank.values()]).toEqual([2, 3]);
    expect([...plan.alpha.values()]).toEqual([2, 0.5]);
    expect([...resolvePlan({ method: 'lora', alpha: 16, ...byContext }, GROUPED).alpha.values()]).toEqual([16, 0.5]);
    const ranks = planParameters(plan)
      .filter(({ part }) => part === 'lora_A')
      .map(({ context, shape }) => `${context} ${shape[0]}`);
    expect(new Set(ranks)).toEqual(new Set(['image 2', 'text 3']));
  });

  it.each(['agnostic', 'all'])('has one group for every token: %s', (name) => {
    const plan = resolvePlan({ method: 'lora', contexts: [name], rankByContext: new Map([['all', 2]]) }, GROUPED);
    expect(plan.contexts).toEqual(['all']);
    expect([...plan.rank]).toEqual([['all', 2]]);
    expect(gatedContexts(plan)).toEqual([]);
  });

  it('has neither contexts nor modules where only the projector is trained', () => {
    expect(resolvePlan({ method: 'none', rank: 4 }, GROUPED)).toEqual({
      method: 'none',
      contexts: [],
      rank: new Map(),
      alpha: new Map(),
      modules: [],
    });
  });

  it('has ranks for LoRA only', () => {
    expect(resolvePlan({ method: 'bitfit', rank: 4, alpha: 4 }, GROUPED)).toMatchObject({ rank: new Map(), alpha: new Map() });
  });

  it.each<[string, Omit<PlanOptions, 'method'>, Method, string[]]>([
    ['attention', { sites: ['attention'] }, 'lora', ['q_proj', 'k_proj', 'v_proj', 'o_proj']],
    ['the FFN', { sites: ['ffn'] }, 'bitfit', ['gate_proj', 'up_proj', 'down_proj']],
    ['what IA3 can scale', {}, 'ia3', ['k_proj', 'v_proj', 'down_proj']],
    ['what IA3 can scale of the attention', { sites: ['attention'] }, 'ia3', ['k_proj', 'v_proj']],
    ['suffixes of several components', { targetModules: ['mlp.up_proj', 'self_attn.q_proj'] }, 'lora', ['q_proj', 'up_proj']],
    ['one module by its full name', { targetModules: ['model.layers.0.mlp.up_proj'] }, 'lora', ['up_proj']],
    ['a fused projection', { targetModules: ['gate_up_proj', 'q_proj'], allowFused: true }, 'lora', ['q_proj', 'gate_up_proj']],
  ])('adapts %s', (_, options, method, kinds) => {
    expect(kindsOf({ method, ...options })).toEqual(kinds);
  });
});

describe('refuses', () => {
  const NARROW = 'the smaller side of model.layers.0.self_attn.k_proj';
  it.each<[string, PlanOptions, string[]]>([
    [
      'a module that the backbone lacks',
      { method: 'lora', targetModules: ['c_attn', 'q_proj', 'proj'] },
      ['c_attn', 'proj'].map(
        (name) =>
          `Expected target_modules among q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj but received "${name}"`,
      ),
    ],
    [
      'a module outside the sites',
      { method: 'lora', sites: ['ffn'], targetModules: ['q_proj'] },
      ['Expected target_modules among gate_proj, up_proj, down_proj but received "q_proj"'],
    ],
    [
      'an empty list of modules',
      { method: 'lora', sites: ['ffn'], targetModules: [] },
      ['Expected target_modules to match a module of the backbone (gate_proj, up_proj, down_proj) but received []'],
    ],
    [
      'a module that IA3 cannot scale',
      { method: 'ia3', targetModules: ['k_proj', 'q_proj', 'mlp.up_proj'] },
      ['q_proj', 'mlp.up_proj'].map(
        (name) => `Expected target_modules that IA3 can scale (k_proj, v_proj, down_proj) but received "${name}"`,
      ),
    ],
    [
      'a fused projection of which the checkpoint holds the parts',
      { method: 'lora', targetModules: ['gate_up_proj', 'q_proj'] },
      ['Expected gate_proj, up_proj, which the checkpoint holds apart, but received "gate_up_proj", which it does not hold'],
    ],
    [
      'a fused projection beside its part',
      { method: 'lora', targetModules: ['gate_up_proj', 'up_proj'], allowFused: true },
      ['Expected gate_up_proj or its parts in target_modules but received both gate_up_proj and up_proj'],
    ],
    [
      'a fused projection for IA3',
      { method: 'ia3', targetModules: ['gate_up_proj'], allowFused: true },
      ['Expected target_modules that IA3 can scale (k_proj, v_proj, down_proj) but received "gate_up_proj"'],
    ],
    [
      'a context that the backbone lacks',
      { method: 'bitfit', contexts: ['image', 'audio'] },
      ['Expected contexts among image, text, or agnostic or all alone, but received "audio"'],
    ],
    ['no context', { method: 'bitfit', contexts: [] }, ['Expected a context at least, of image, text, but received none']],
    [
      'a context twice',
      { method: 'bitfit', contexts: ['text', 'text'] },
      ['Expected each context once but received ["text","text"]'],
    ],
    [
      'the group of every token beside others',
      { method: 'bitfit', contexts: ['all', 'image'] },
      ['Expected "all" to be the only context, because it is every token\'s, but received ["all","image"]'],
    ],
    ['no site', { method: 'lora', sites: [] }, ['Expected sites to be attention, ffn or both but received []']],
    [
      'an unknown site',
      { method: 'lora', sites: ['ffn', 'mlp'] },
      ['Expected sites to be attention, ffn or both but received ["ffn","mlp"]'],
    ],
    ...[0, -1, 2.5, Number.NaN].map((rank): [string, PlanOptions, string[]] => [
      `a rank of ${rank}`,
      { method: 'lora', rank },
      [`Expected rank to be a positive integer but received ${rank}`],
    ]),
    ['a rank above the layer', { method: 'lora', rank: 9 }, [`Expected rank to be at most 8, ${NARROW}, but received 9`]],
    [
      'a context’s rank above the layer',
      { method: 'lora', rankByContext: new Map([['text', 9]]) },
      [`Expected rank of text to be at most 8, ${NARROW}, but received 9`],
    ],
    [
      'a rank for another context',
      { method: 'lora', contexts: ['text'], rankByContext: new Map([['image', 4]]) },
      ['Expected rank for contexts among text but received one for "image"'],
    ],
    [
      'an alpha that is no positive number',
      { method: 'lora', alpha: 0, alphaByContext: new Map([['image', Number.POSITIVE_INFINITY]]) },
      [
        'Expected alpha to be a positive number but received 0',
        'Expected alpha of image to be a positive number but received Infinity',
      ],
    ],
  ])('%s', (_, options, faults) => {
    expect(faultsOf(options)).toEqual(faults);
  });

  it('a rank by the smallest module that is adapted, not by others', () => {
    expect(faultsOf({ method: 'lora', rank: 16, targetModules: ['q_proj', 'down_proj'] })).toEqual([]);
    expect(faultsOf({ method: 'lora', rank: 17, targetModules: ['q_proj', 'down_proj'] })).toHaveLength(1);
  });

  it('the default rank where it is too high, and not where every context has its own', () => {
    const thin = { ...GROUPED, modules: GROUPED.modules.map((module) => ({ ...module, inFeatures: 4 })) };
    expect(faultsOf({ method: 'lora' }, thin)).toHaveLength(1);
    const rankByContext = new Map([
      ['image', 4],
      ['text', 2],
    ]);
    expect(faultsOf({ method: 'lora', rankByContext }, thin)).toEqual([]);
  });

  it('sites at which the backbone has nothing for the method', () => {
    const withoutFfn = { ...GROUPED, modules: GROUPED.modules.filter(({ site }) => site === 'attention') };
    expect(faultsOf({ method: 'lora', sites: ['ffn'] }, withoutFfn)).toEqual([
      'Expected a module of ffn but the backbone has none',
    ]);
    const unscaled = { ...GROUPED, modules: GROUPED.modules.filter(({ scalable }) => scalable === undefined) };
    expect(faultsOf({ method: 'ia3' }, unscaled)).toEqual([
      'Expected a module of attention or ffn that IA3 can scale but the backbone has none',
    ]);
  });

  it('everything at once', () => {
    const options: PlanOptions = {
      method: 'lora',
      contexts: ['audio'],
      sites: ['heads'],
      targetModules: ['c_attn', 'gate_up_proj'],
      rank: -1,
      // Nothing to add: the context is at fault already.
      rankByContext: new Map([['audio', 4]]),
      alpha: -1,
    };
    expect(faultsOf(options).map((fault) => /but received (.*?)(?:,|$)/.exec(fault)?.[1])).toEqual([
      '"audio"',
      '["heads"]',
      '"gate_up_proj"',
      '"c_attn"',
      '-1',
      '-1',
    ]);
  });
});
