/**
 * Which of a backbone's modules a PEFT configuration means: the rules of PEFT's `check_target_module_exists` and `get_pattern_key`
 * (peft 0.21, tuners/tuners_utils.py and utils/other.py), quirks included, because the tensors were saved under them.
 */
import { kindOf, type LinearModule } from '../backbone/module.js';
import type { Faults } from '../tensor/faults.js';
import { quote } from '../tensor/json.js';
import { either, type Fields, INDEX, listOf, TEXT } from './fields.js';
import { checkPattern, firstMatches } from './pattern.js';

/** Full names or suffixes of whole components; or one regular expression for the full name. */
export type Names = readonly string[] | string;

export interface Targeting {
  /** `all-linear` means every module. */
  readonly modules: Names;
  readonly exclude: Names;
  /** Indexes of the layers that are meant; null: all. */
  readonly layers: readonly number[] | null;
  readonly layersPattern: readonly string[];
}

const NAMES = either(TEXT, listOf(TEXT));

/** Reads the fields that say which modules are meant. Returns undefined, with faults, where they do not. */
export function parseTargeting(fields: Fields): Targeting | undefined {
  const { faults } = fields;
  const modules = readNames(fields, 'target_modules');
  const exclude = readNames(fields, 'exclude_modules') ?? [];
  const layers = asList(fields.get('layers_to_transform', either(INDEX, listOf(INDEX))));
  const layersPattern = asList(fields.get('layers_pattern', NAMES)) ?? [];
  for (const pattern of layersPattern) checkPattern(pattern, 'layers_pattern', faults);
  if (modules === undefined) {
    if (fields.raw('target_modules') === undefined) {
      faults.add('Expected target_modules to be a string or a list but received nothing');
    }
    return undefined;
  }
  if (typeof modules === 'string' && layers !== undefined) {
    faults.add(`Expected no layers_to_transform beside a regular expression but received ${quote(layers)}`);
    return undefined;
  }
  const isAllLinear = typeof modules === 'string' && modules.toLowerCase() === 'all-linear';
  return { modules: isAllLinear ? 'all-linear' : modules, exclude, layers: layers?.length ? layers : null, layersPattern };
}

/** The modules that are meant, in the backbone's order. Adds a fault for every name that the backbone lacks, and where none is left. */
export function matchTargets(targeting: Targeting, modules: readonly LinearModule[], faults: Faults): readonly LinearModule[] {
  const before = faults.count;
  const named =
    targeting.modules === 'all-linear' ? new Set(modules) : select(targeting.modules, modules, 'target_modules', faults);
  if (typeof targeting.modules !== 'string') reportUnknown(targeting.modules, modules, faults);
  const excluded = select(targeting.exclude, modules, 'exclude_modules', faults);
  const inLayers = selectLayers(targeting, modules, faults);
  const matched = modules.filter((module) => named.has(module) && !excluded.has(module) && inLayers.has(module));
  if (matched.length === 0 && faults.count === before) {
    faults.add(
      `Expected target_modules to match a module of the backbone (${known(modules)}) but received ${quote(targeting.modules)}`,
    );
  }
  return matched;
}

/** The value for each module from the first pattern that matches it, else `otherwise`: rank_pattern and alpha_pattern. */
export function matchPattern(
  pattern: readonly (readonly [string, number])[],
  otherwise: number,
  modules: readonly LinearModule[],
  field: string,
  faults: Faults,
): (module: LinearModule) => number {
  const sources = pattern.map(([key]) => `(.*\\.)?(${key})$`);
  const matches = firstMatches(
    sources,
    modules.map(({ name }) => name),
    field,
    faults,
  );
  const values = new Map(
    modules.map((module, index) => {
      const match = matches?.[index];
      return [module, match ? pattern[match.pattern]?.[1] : undefined];
    }),
  );
  return (module) => values.get(module) ?? otherwise;
}

/** `name` is `suffix`, or ends with it after a dot. */
export function hasSuffix(name: string, suffix: string): boolean {
  return name === suffix || name.endsWith(`.${suffix}`);
}

/**
 * The shortest names that mean exactly these of all modules: the last component, as people write it (`q_proj`), or the last two where others
 * end in it as well (`mlp.c_proj`); full names where only some layers' are meant.
 */
export function namesOf(modules: readonly LinearModule[], all: readonly LinearModule[]): string[] {
  const meant = new Set(modules.map(({ name }) => name));
  const others = all.filter(({ name }) => !meant.has(name));
  const ends = modules.map(({ name }) =>
    [-1, -2]
      .map((from) => name.split('.').slice(from).join('.'))
      // Not `0.fc1`, where a layer holds its projections itself.
      .find((end) => !/^\d/.test(end) && !others.some((other) => hasSuffix(other.name, end))),
  );
  return [...new Set(ends.every((end) => end !== undefined) ? ends : meant)];
}

/** The modules that a regular expression matches in full. */
export function selectByPattern(
  pattern: string,
  modules: readonly LinearModule[],
  field: string,
  faults: Faults,
): Set<LinearModule> {
  const matches = firstMatches(
    [`(?:${pattern})$`],
    modules.map(({ name }) => name),
    field,
    faults,
  );
  return new Set(modules.filter((_, index) => matches?.[index]));
}

function select(names: Names, modules: readonly LinearModule[], field: string, faults: Faults): Set<LinearModule> {
  if (typeof names === 'string') return selectByPattern(names, modules, field, faults);
  return new Set(modules.filter(({ name }) => names.some((suffix) => hasSuffix(name, suffix))));
}

function selectLayers({ layers, layersPattern }: Targeting, modules: readonly LinearModule[], faults: Faults): Set<LinearModule> {
  if (layers === null) return new Set(modules);
  // The first numbered component is the layer: later ones are experts.
  const patterns =
    layersPattern.length === 0
      ? ['.*?\\.[^.]*\\.(?<idx>\\d+)\\.']
      : layersPattern.map((pattern) => `(?:^|.*?\\.)${pattern}\\.(?<idx>\\d+)\\.`);
  const matches = firstMatches(
    patterns,
    modules.map(({ name }) => name),
    'layers_pattern',
    faults,
  );
  return new Set(
    modules.filter((_, index) => {
      const layer = matches?.[index]?.idx;
      return layer !== undefined && layers.includes(Number(layer));
    }),
  );
}

function reportUnknown(names: readonly string[], modules: readonly LinearModule[], faults: Faults): void {
  for (const name of names) {
    if (!modules.some((module) => hasSuffix(module.name, name))) {
      faults.add(`Expected target_modules among ${known(modules)} but received ${quote(name)}`);
    }
  }
}

/** The distinct last components of the modules' names. */
function known(modules: readonly LinearModule[]): string {
  return [...new Set(modules.map(kindOf))].join(', ');
}

function readNames(fields: Fields, key: string): Names | undefined {
  const names = fields.get(key, NAMES);
  if (typeof names === 'string' && names.toLowerCase() !== 'all-linear' && !checkPattern(names, key, fields.faults))
    return undefined;
  return names;
}

function asList<T>(value: T | readonly T[] | undefined): readonly T[] | undefined {
  if (value === undefined) return undefined;
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}
