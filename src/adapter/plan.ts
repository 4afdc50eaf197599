/**
 * Which parameters an adapter of a method has on a backbone: what the trainer creates, and what `graft params` counts. One plan for
 * both, so that what is counted is what is trained. It needs the shapes of the modules only, never a weight.
 */

import type { AdapterTarget } from '../backbone/module.js';
import { kindOf, type LinearModule } from '../backbone/module.js';
import { Faults } from '../tensor/faults.js';
import { quote } from '../tensor/json.js';
import type { Method } from './adapter.js';
import { ALL_CONTEXTS } from './manifest.js';
import { hasSuffix, matchTargets, namesOf } from './targets.js';

export interface PlanOptions {
  readonly method: Method;
  /** Contexts of the backbone, or `agnostic` (or `all`) alone: one group for every token. All of the backbone's by default. */
  readonly contexts?: readonly string[] | undefined;
  /** `attention`, `ffn` or both, which is the default. */
  readonly sites?: readonly string[] | undefined;
  /** Full names or suffixes of whole components, within the sites; all that the method can change by default. */
  readonly targetModules?: readonly string[] | undefined;
  /** LoRA only: 8 by default. */
  readonly rank?: number | undefined;
  /** LoRA only: a context's own rank, in place of `rank`. */
  readonly rankByContext?: ReadonlyMap<string, number> | undefined;
  /** LoRA only: the context's rank by default, so that the scale alpha/rank is 1. */
  readonly alpha?: number | undefined;
  readonly alphaByContext?: ReadonlyMap<string, number> | undefined;
  /** Also takes fused projections that the checkpoint holds in parts. They can be counted, but an adapter of one fits no module. */
  readonly allowFused?: boolean | undefined;
}

export interface AdapterPlan {
  readonly method: Method;
  /** In the backbone's order, or `all` alone; empty for method none. */
  readonly contexts: readonly string[];
  /** LoRA's rank and alpha by context; empty for the other methods. */
  readonly rank: ReadonlyMap<string, number>;
  readonly alpha: ReadonlyMap<string, number>;
  /** What is adapted, in the backbone's order; empty for method none. */
  readonly modules: readonly LinearModule[];
}

/** One trained tensor. */
export interface ParameterSpec {
  readonly context: string;
  readonly module: LinearModule;
  readonly part: 'lora_A' | 'lora_B' | 'bias' | 'ia3_l';
  /** lora_A [rank, in], lora_B [out, rank], bias [out], ia3_l [in] or [out] by the side that it scales. */
  readonly shape: readonly number[];
}

type Target = Pick<AdapterTarget, 'modules' | 'contexts'>;

const DEFAULT_RANK = 8;
export const SITES: readonly string[] = ['attention', 'ffn'];
/** What people call the variant with a single group. */
const AGNOSTIC: readonly string[] = ['agnostic', ALL_CONTEXTS];

/** Works out what is trained. Throws AppError `invalid_config` with every fault of the options. */
export function resolvePlan(options: PlanOptions, target: Target): AdapterPlan {
  const { method } = options;
  const faults = new Faults();
  const contexts = resolveContexts(options.contexts ?? target.contexts, target.contexts, faults);
  const modules = resolveModules(options, target.modules, faults);
  const rank = method === 'lora' ? resolveRanks(options, contexts, modules, faults) : new Map<string, number>();
  const alpha = method === 'lora' ? resolveAlphas(options, contexts, rank, faults) : new Map<string, number>();
  faults.check('invalid_config', 'adapter plan');
  return method === 'none' ? { method, contexts: [], rank, alpha, modules: [] } : { method, contexts, rank, alpha, modules };
}

/** The contexts among which a token's own is chosen; none where all tokens are alike. */
export function gatedContexts({ contexts }: AdapterPlan): readonly string[] {
  return contexts.includes(ALL_CONTEXTS) ? [] : contexts;
}

/** Every tensor of a plan: context by context, module by module. */
export function planParameters({ method, contexts, modules, rank }: AdapterPlan): ParameterSpec[] {
  return contexts.flatMap((context) =>
    modules.flatMap((module) =>
      partsOf(method, module, rank.get(context)).map(([part, shape]): ParameterSpec => ({ context, module, part, shape })),
    ),
  );
}

function partsOf(
  method: Method,
  { inFeatures, outFeatures, scalable }: LinearModule,
  rank: number | undefined,
): (readonly [ParameterSpec['part'], readonly number[]])[] {
  switch (method) {
    case 'lora':
      if (rank === undefined) throw new RangeError('Expected a rank for every context of a LoRA plan');
      return [
        ['lora_A', [rank, inFeatures]],
        ['lora_B', [outFeatures, rank]],
      ];
    case 'bitfit':
      return [['bias', [outFeatures]]];
    case 'ia3':
      return [['ia3_l', [scalable === 'input' ? inFeatures : outFeatures]]];
    default:
      return [];
  }
}

/** The contexts that are meant, in the backbone's order. Those that it lacks are left out, with a fault. */
function resolveContexts(names: readonly string[], known: readonly string[], faults: Faults): readonly string[] {
  if (names.length === 0) faults.add(`Expected a context at least, of ${known.join(', ')}, but received none`);
  if (new Set(names).size < names.length) faults.add(`Expected each context once but received ${quote(names)}`);
  const agnostic = names.find((name) => AGNOSTIC.includes(name));
  if (agnostic !== undefined && names.some((name) => !AGNOSTIC.includes(name)))
    faults.add(`Expected "${agnostic}" to be the only context, because it is every token's, but received ${quote(names)}`);
  for (const name of names) {
    if (!AGNOSTIC.includes(name) && !known.includes(name))
      faults.add(`Expected contexts among ${known.join(', ')}, or ${AGNOSTIC.join(' or ')} alone, but received ${quote(name)}`);
  }
  return agnostic === undefined ? known.filter((context) => names.includes(context)) : [ALL_CONTEXTS];
}

function resolveModules(options: PlanOptions, all: readonly LinearModule[], faults: Faults): readonly LinearModule[] {
  const { method, sites = SITES, targetModules, allowFused = false } = options;
  const areSites = sites.length > 0 && sites.every((site) => SITES.includes(site));
  if (!areSites) faults.add(`Expected sites to be ${SITES.join(', ')} or both but received ${quote(sites)}`);
  const present = areSites ? all.filter(({ site }) => sites.includes(site)) : all;
  const scalable = present.filter((module) => module.scalable !== undefined);
  const possible = method === 'ia3' ? scalable : present;
  if (possible.length === 0) {
    const which = method === 'ia3' ? ' that IA3 can scale' : '';
    faults.add(`Expected a module of ${sites.join(' or ')}${which} but the backbone has none`);
    return [];
  }
  if (targetModules === undefined) return possible;

  const named = selectNamed(targetModules, present, allowFused, faults);
  for (const name of method === 'ia3' ? targetModules : []) {
    if (named.some((module) => hasSuffix(module.name, name) && module.scalable === undefined))
      faults.add(`Expected target_modules that IA3 can scale (${namesOf(scalable, all).join(', ')}) but received ${quote(name)}`);
  }
  return named;
}

function selectNamed(
  names: readonly string[],
  present: readonly LinearModule[],
  allowFused: boolean,
  faults: Faults,
): readonly LinearModule[] {
  const everything = withFused(present);
  const fused = everything.filter((module) => !present.includes(module));
  const refused = allowFused ? [] : names.filter((name) => fused.some((module) => hasSuffix(module.name, name)));
  for (const name of refused) {
    const parts = present.filter(({ fusedAs }) => fusedAs !== undefined && hasSuffix(fusedAs, name));
    faults.add(`Expected ${kinds(parts)}, which the checkpoint holds apart, but received ${quote(name)}, which it does not hold`);
  }
  const others = names.filter((name) => !refused.includes(name));
  if (others.length === 0 && refused.length > 0) return [];

  const targeting = { modules: others, exclude: [], layers: null, layersPattern: [] };
  const matched = matchTargets(targeting, allowFused ? everything : present, faults);
  const part = matched.find(({ fusedAs }) => matched.some(({ name }) => name === fusedAs));
  if (part?.fusedAs !== undefined) {
    const whole = kindOf({ name: part.fusedAs });
    faults.add(`Expected ${whole} or its parts in target_modules but received both ${whole} and ${kindOf(part)}`);
  }
  return matched;
}

/** The modules, and before the first part of each fused projection that projection as one module. */
function withFused(modules: readonly LinearModule[]): LinearModule[] {
  const byName = new Map<string, LinearModule>();
  for (const module of modules) {
    const { fusedAs, inFeatures, outFeatures, bias, site, layout } = module;
    if (fusedAs !== undefined) {
      const before = byName.get(fusedAs)?.outFeatures ?? 0;
      byName.set(fusedAs, { name: fusedAs, inFeatures, outFeatures: before + outFeatures, bias, site, layout });
    }
    byName.set(module.name, module);
  }
  return [...byName.values()];
}

function resolveRanks(
  { rank, rankByContext = new Map() }: PlanOptions,
  contexts: readonly string[],
  modules: readonly LinearModule[],
  faults: Faults,
): Map<string, number> {
  const narrowest = modules.reduce<LinearModule | undefined>(
    (found, module) => (found === undefined || smallerSide(module) < smallerSide(found) ? module : found),
    undefined,
  );
  const isDefault = rank === undefined && contexts.some((context) => !rankByContext.has(context));
  checkNumbers('rank', isDefault ? DEFAULT_RANK : rank, rankByContext, contexts, faults, (label, value) => {
    if (!(Number.isSafeInteger(value) && value > 0)) return `Expected ${label} to be a positive integer but received ${value}`;
    if (narrowest === undefined || value <= smallerSide(narrowest)) return undefined;
    // A higher rank says nothing more: the product is of full rank already.
    return `Expected ${label} to be at most ${smallerSide(narrowest)}, the smaller side of ${narrowest.name}, but received ${value}`;
  });
  return new Map(contexts.map((context) => [context, rankByContext.get(context) ?? rank ?? DEFAULT_RANK]));
}

function resolveAlphas(
  { alpha, alphaByContext = new Map() }: PlanOptions,
  contexts: readonly string[],
  ranks: ReadonlyMap<string, number>,
  faults: Faults,
): Map<string, number> {
  checkNumbers('alpha', alpha, alphaByContext, contexts, faults, (label, value) =>
    Number.isFinite(value) && value > 0 ? undefined : `Expected ${label} to be a positive number but received ${value}`,
  );
  return new Map([...ranks].map(([context, rank]) => [context, alphaByContext.get(context) ?? alpha ?? rank]));
}

/** Checks the common number, once for all contexts, and each context's own. */
function checkNumbers(
  field: string,
  common: number | undefined,
  own: ReadonlyMap<string, number>,
  contexts: readonly string[],
  faults: Faults,
  faultOf: (label: string, value: number) => string | undefined,
): void {
  const numbers = new Map(common !== undefined ? [[field, common]] : []);
  for (const [context, value] of own) numbers.set(`${field} of ${context}`, value);
  for (const [label, value] of numbers) {
    const fault = faultOf(label, value);
    if (fault !== undefined) faults.add(fault);
  }
  for (const context of own.keys()) {
    if (contexts.length > 0 && !contexts.includes(context))
      faults.add(`Expected ${field} for contexts among ${contexts.join(', ')} but received one for ${quote(context)}`);
  }
}

function smallerSide({ inFeatures, outFeatures }: LinearModule): number {
  return Math.min(inFeatures, outFeatures);
}

function kinds(modules: readonly LinearModule[]): string {
  return [...new Set(modules.map(kindOf))].join(', ');
}
