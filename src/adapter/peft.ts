/**
 * `adapter_config.json`, as PEFT writes it (peft 0.21, tuners/lora/config.py and tuners/ia3/config.py), and Context-PEFT's BITFIT.
 * PEFT has many features that change what the tensors mean. Each that is not implemented here is refused by name: an adapter that
 * loads and is then computed wrongly would be worse than none.
 */
import { quote } from '../tensor/json.js';
import type { Method } from './adapter.js';
import type { FileFaults } from './faults.js';
import { either, Fields, FLAG, type Kind, listOf, NUMBER, RANK, TEXT } from './fields.js';
import { checkPattern } from './pattern.js';
import { type Names, parseTargeting, type Targeting } from './targets.js';

export type AdaptedMethod = Exclude<Method, 'none'>;

export interface LoraConfig {
  readonly method: 'lora';
  readonly targeting: Targeting;
  readonly fanInFanOut: boolean | undefined;
  readonly rank: number;
  readonly alpha: number;
  /** Scale by alpha/sqrt(rank) instead of alpha/rank. */
  readonly rankStabilized: boolean;
  /** Regular expressions for the ends of module names, and what holds for the modules that the first of them matches. */
  readonly rankPattern: readonly (readonly [string, number])[];
  readonly alphaPattern: readonly (readonly [string, number])[];
}

export interface Ia3Config {
  readonly method: 'ia3';
  readonly targeting: Targeting;
  readonly fanInFanOut: boolean | undefined;
  /** Modules whose input is scaled; the others' output is. */
  readonly feedforward: Names;
}

export interface BitfitConfig {
  readonly method: 'bitfit';
  readonly targeting: Targeting;
  readonly fanInFanOut: boolean | undefined;
}

export type PeftConfig = LoraConfig | Ia3Config | BitfitConfig;

export const PEFT_TYPES: Readonly<Record<AdaptedMethod, string>> = { lora: 'LORA', ia3: 'IA3', bitfit: 'BITFIT' };
const METHOD_OF_TYPE = new Map(Object.entries(PEFT_TYPES).map(([method, type]) => [type, method as AdaptedMethod]));

/** PEFT's own defaults for a field that the file leaves out. */
const DEFAULT_RANK = 8;
const DEFAULT_ALPHA = 8;

/** Features that change what is computed, or which tensors there are. Absent, null, false and empty mean that they are off. */
const UNIMPLEMENTED = [
  'modules_to_save',
  'lora_bias',
  'trainable_token_indices',
  'layer_replication',
  'megatron_config',
  'target_parameters',
  'alora_invocation_tokens',
  'arrow_config',
  'kasa_config',
  'velora_config',
  'monteclora_config',
];
/** PEFT names its variants so; one that is yet to come is refused as well. */
const VARIANT = /^use_(?!rslora$)/;
/** The others (pissa, olora, corda, loftq, lora_ga, mica) take something out of the base weights, which we leave as they are. */
const INITIALISATIONS: Kind<boolean | string> = {
  words: 'one that leaves the base weights alone (true, false, gaussian, eva, orthogonal)',
  is: (value): value is boolean | string =>
    typeof value === 'boolean' || ['gaussian', 'eva', 'orthogonal'].includes(String(value)),
};
const NO_BIAS: Kind<'none'> = {
  words: '"none" (trained biases are not implemented)',
  is: (value): value is 'none' => value === 'none',
};

/**
 * Reads one group's configuration; `expected` is the manifest's method, null where there is no manifest.
 * Returns undefined, always with a fault, where it does not say enough to look for tensors.
 */
export function parsePeftConfig(bytes: Uint8Array, expected: Method | null, faults: FileFaults): PeftConfig | undefined {
  const fields = Fields.parse(bytes, faults);
  if (fields === undefined) return undefined;
  const type = fields.require('peft_type', TEXT);
  if (type === undefined) return undefined;
  const method = METHOD_OF_TYPE.get(type);
  if (method === undefined) {
    faults.add(`Expected peft_type among ${[...METHOD_OF_TYPE.keys()].join(', ')} but received ${quote(type)}`);
    return undefined;
  }
  if (expected !== null && expected !== method) {
    const wanted = expected === 'none' ? 'no PEFT configuration' : `peft_type ${PEFT_TYPES[expected]}`;
    faults.add(`Expected ${wanted} because the manifest's method is ${expected} but received ${type}`);
  }
  refuseUnimplemented(fields);
  const targeting = parseTargeting(fields);
  const fanInFanOut = fields.get('fan_in_fan_out', FLAG);
  switch (method) {
    case 'lora':
      return parseLora(fields, targeting, fanInFanOut);
    case 'ia3':
      return parseIa3(fields, targeting, fanInFanOut);
    default:
      return targeting && { method, targeting, fanInFanOut };
  }
}

/** The largest rank that the configuration gives to any module. */
export function largestRank({ rank, rankPattern }: LoraConfig): number {
  return rankPattern.reduce((largest, [, value]) => Math.max(largest, value), rank);
}

function parseLora(fields: Fields, targeting: Targeting | undefined, fanInFanOut: boolean | undefined): LoraConfig | undefined {
  const before = fields.faults.count;
  fields.get('init_lora_weights', INITIALISATIONS);
  const rank = fields.get('r', RANK) ?? DEFAULT_RANK;
  const alpha = fields.get('lora_alpha', NUMBER) ?? DEFAULT_ALPHA;
  const rankStabilized = fields.get('use_rslora', FLAG) ?? false;
  const rankPattern = fields.entries('rank_pattern', RANK);
  const alphaPattern = fields.entries('alpha_pattern', NUMBER);
  for (const [key] of rankPattern) checkPattern(key, 'rank_pattern', fields.faults);
  for (const [key] of alphaPattern) checkPattern(key, 'alpha_pattern', fields.faults);
  // With a wrong rank every tensor would look wrong.
  if (targeting === undefined || fields.faults.count > before) return undefined;
  return { method: 'lora', targeting, fanInFanOut, rank, alpha, rankStabilized, rankPattern, alphaPattern };
}

function parseIa3(fields: Fields, targeting: Targeting | undefined, fanInFanOut: boolean | undefined): Ia3Config | undefined {
  const before = fields.faults.count;
  const feedforward = fields.get('feedforward_modules', either(TEXT, listOf(TEXT))) ?? [];
  if (typeof feedforward === 'string') checkPattern(feedforward, 'feedforward_modules', fields.faults);
  if (targeting === undefined || fields.faults.count > before) return undefined;
  return { method: 'ia3', targeting, fanInFanOut, feedforward };
}

function refuseUnimplemented(fields: Fields): void {
  const variants = [...fields.keys()].filter((key) => VARIANT.test(key));
  for (const key of [...UNIMPLEMENTED, ...variants]) {
    const value = fields.raw(key);
    if (isOn(value)) fields.faults.add(`Expected ${key} to be off, because it is not implemented, but received ${quote(value)}`);
  }
  fields.get('bias', NO_BIAS);
}

function isOn(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return false;
  // Python's empty containers are off; its empty config objects are not, but those are written with their fields.
  return typeof value !== 'object' || Object.keys(value).length > 0;
}
