/**
 * One context's tensors, as PEFT saves them, into the layout that the bank reads. Every tensor is accounted for: each module that the
 * configuration targets has all of its own, in the right shape and finite, and there are no others.
 */
import type { LinearModule } from '../backbone/module.js';
import { toFloat32 } from '../tensor/convert.js';
import type { Faults } from '../tensor/faults.js';
import { quote } from '../tensor/json.js';
import type { Tensor } from '../tensor/tensor.js';
import type { AdapterGroup, RankColumns, Scale } from './adapter.js';
import type { FileFaults } from './faults.js';
import type { AdaptedMethod, Ia3Config, LoraConfig, PeftConfig } from './peft.js';
import { matchPattern, matchTargets, selectByPattern } from './targets.js';

/** What PEFT calls a module's tensors. The adapter's own name is left out on saving, but copies of a live state dict have it. */
const KEYS: Readonly<Record<AdaptedMethod, RegExp>> = {
  lora: /^base_model\.model\.(?<module>.+)\.(?<part>lora_[AB])(?:\.default)?\.weight$/,
  ia3: /^base_model\.model\.(?<module>.+)\.(?<part>ia3_l)(?:\.default)?$/,
  bitfit: /^base_model\.model\.(?<module>.+)\.(?<part>bias)$/,
};

/** The module and the part that a tensor's name means; undefined where it is no name of the method's. */
export function partOf(method: AdaptedMethod, name: string): { readonly module: string; readonly part: string } | undefined {
  const { module, part } = KEYS[method].exec(name)?.groups ?? {};
  return module === undefined || part === undefined ? undefined : { module, part };
}

/** The two files of a group: configuration and tensors each have their own faults. */
export interface GroupFaults {
  readonly config: FileFaults;
  readonly tensors: FileFaults;
}

export interface BuiltGroup {
  readonly group: AdapterGroup;
  readonly method: AdaptedMethod;
  /** Modules that the configuration means, and those of them that have parameters. */
  readonly targeted: number;
  readonly matched: number;
}

/** Builds the group. Where faults were added, it is only good for throwing away. */
export function buildGroup(
  context: string,
  config: PeftConfig,
  modules: readonly LinearModule[],
  tensors: ReadonlyMap<string, Tensor>,
  faults: GroupFaults,
): BuiltGroup {
  const targets = matchTargets(config.targeting, modules, faults.config);
  checkLayout(config, targets, faults.config);
  const parts = new Parts(config.method, tensors, faults.tensors);
  const columns = new Map<string, RankColumns>();
  const scales = new Map<string, Scale>();
  if (config.method === 'lora') {
    const lora = loraReader(config, targets, parts, faults);
    for (const module of targets) addTo(columns, module, lora(module));
  } else if (config.method === 'ia3') {
    const ia3 = ia3Reader(config, targets, parts, faults);
    for (const module of targets) addTo(scales, module, ia3(module));
  } else {
    for (const module of targets) {
      const b = parts.take(module, 'bias', [module.outFeatures]);
      addTo(columns, module, b && { rank: 1, a: null, b: b.slice() });
    }
  }
  // Where no module is meant, every tensor would be one too many.
  if (targets.length > 0) parts.refuseRest(modules);
  const rank = [...columns.values()].reduce((largest, { rank: own }) => Math.max(largest, own), 0);
  const a0 = config.method === 'bitfit' ? 1 : 0;
  const group = { context, rank, a0, columns, scales } as const;
  return { group, method: config.method, targeted: targets.length, matched: columns.size + scales.size };
}

/** Checks that all values are finite, and names the first that is not. */
export function checkFinite(values: Float32Array, what: string, faults: Faults): boolean {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) {
      faults.add(`Expected finite numbers in ${what} but received ${values[i]} at index ${i}`);
      return false;
    }
  }
  return true;
}

/** A float tensor's values where dtype, shape and values are right; else undefined, with a fault. */
export function floats(tensor: Tensor, what: string, shape: readonly number[], faults: Faults): Float32Array | undefined {
  if (!['float32', 'float16', 'bfloat16'].includes(tensor.dtype)) {
    faults.add(`Expected ${what} to be float32, float16 or bfloat16 but received ${tensor.dtype}`);
    return undefined;
  }
  if (tensor.shape.length !== shape.length || tensor.shape.some((size, axis) => size !== shape[axis])) {
    faults.add(`Expected ${what} to be [${shape.join(', ')}] but received [${tensor.shape.join(', ')}]`);
    return undefined;
  }
  const values = toFloat32(tensor);
  return checkFinite(values, what, faults) ? values : undefined;
}

/** The tensors of a group by module and part; what is taken is accounted for. */
class Parts {
  readonly #faults: FileFaults;
  /** By `module part`; neither holds a space that could be confused, because modules are looked up and never taken apart. */
  readonly #tensors = new Map<string, { readonly name: string; readonly module: string; readonly tensor: Tensor }>();
  readonly #strangers: string[] = [];

  constructor(method: AdaptedMethod, tensors: ReadonlyMap<string, Tensor>, faults: FileFaults) {
    this.#faults = faults;
    for (const [name, tensor] of tensors) {
      const meaning = partOf(method, name);
      if (meaning === undefined) {
        this.#strangers.push(name);
        continue;
      }
      const { module, part } = meaning;
      const key = `${module} ${part}`;
      if (this.#tensors.has(key)) faults.add(`Expected ${part} of ${module} once but received ${quote(name)} as well`);
      this.#tensors.set(key, { name, module, tensor });
    }
  }

  /** The values of a part, a view that must not be kept; undefined, with a fault, where it is missing or wrong. */
  take(module: LinearModule, part: string, shape: readonly number[]): Float32Array | undefined {
    const key = `${module.name} ${part}`;
    const found = this.#tensors.get(key);
    this.#tensors.delete(key);
    if (found === undefined) {
      this.#faults.add(`Expected ${part} of ${module.name} but received none`);
      return undefined;
    }
    return floats(found.tensor, `${part} of ${module.name}`, shape, this.#faults);
  }

  /** Adds a fault for every tensor that nobody took. */
  refuseRest(modules: readonly LinearModule[]): void {
    const names = new Set(modules.map(({ name }) => name));
    for (const { name, module } of this.#tensors.values()) {
      const wanted = names.has(module) ? 'modules that the configuration targets' : 'modules that the backbone has';
      this.#faults.add(`Expected tensors of ${wanted} but received ${quote(name)}`);
    }
    for (const name of this.#strangers) this.#faults.add(`Expected no other tensors but received ${quote(name)}`);
  }
}

function loraReader(config: LoraConfig, targets: readonly LinearModule[], parts: Parts, faults: GroupFaults) {
  const rankOf = matchPattern(config.rankPattern, config.rank, targets, 'rank_pattern', faults.config);
  const alphaOf = matchPattern(config.alphaPattern, config.alpha, targets, 'alpha_pattern', faults.config);
  return (module: LinearModule): RankColumns | undefined => {
    const rank = rankOf(module);
    const a = parts.take(module, 'lora_A', [rank, module.inFeatures]);
    const b = parts.take(module, 'lora_B', [module.outFeatures, rank]);
    if (a === undefined || b === undefined) return undefined;
    const scale = alphaOf(module) / (config.rankStabilized ? Math.sqrt(rank) : rank);
    const scaled = transpose(b, module.outFeatures, rank, scale);
    if (!checkFinite(scaled, `lora_B × ${scale} of ${module.name}`, faults.tensors)) return undefined;
    return { rank, a: transpose(a, rank, module.inFeatures), b: scaled };
  };
}

function ia3Reader(config: Ia3Config, targets: readonly LinearModule[], parts: Parts, faults: GroupFaults) {
  const { feedforward } = config;
  const byPattern =
    typeof feedforward === 'string' ? selectByPattern(feedforward, targets, 'feedforward_modules', faults.config) : undefined;
  return (module: LinearModule): Scale | undefined => {
    // PEFT compares the plain end of the name here, not whole components.
    const isInput = byPattern?.has(module) ?? (feedforward as readonly string[]).some((end) => module.name.endsWith(end));
    const side = isInput ? 'input' : 'output';
    const shape = isInput ? [1, module.inFeatures] : [module.outFeatures, 1];
    const factor = parts.take(module, 'ia3_l', shape);
    if (module.scalable !== side) {
      const wanted = module.scalable === undefined ? 'IA3 to leave it alone' : `IA3 to scale its ${module.scalable}`;
      faults.config.add(`${module.name}: Expected ${wanted} but received a scale of its ${side}`);
      return undefined;
    }
    return factor && { side, delta: factor.map((value) => value - 1) };
  };
}

/** The stated layout of the weights must be the backbone's; the adapter's own tensors are the same in both. */
function checkLayout({ fanInFanOut }: PeftConfig, targets: readonly LinearModule[], faults: Faults): void {
  if (fanInFanOut === undefined) return;
  const wrong = targets.find(({ layout }) => (layout === 'in_out') !== fanInFanOut);
  if (wrong === undefined) return;
  faults.add(
    `Expected fan_in_fan_out to be ${!fanInFanOut}, because the weight of ${wrong.name} is [${wrong.layout.replace('_', ', ')}], but received ${fanInFanOut}`,
  );
}

/** [rows, columns] → [columns, rows], each value multiplied by `factor`. */
function transpose(values: Float32Array, rows: number, columns: number, factor = 1): Float32Array {
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++)
      result[column * rows + row] = (values[row * columns + column] as number) * factor;
  }
  return result;
}

function addTo<T>(map: Map<string, T>, module: LinearModule, value: T | undefined): void {
  if (value !== undefined) map.set(module.name, value);
}
