/**
 * Beginning where another adapter ends. The groups are taken over as they compute (a factor alpha/r that differs is made up for), so that
 * before its first step the new adapter says what the old one says; of an adapter of another method only the projector is of use.
 */
import type { AdapterGroup, LoadedAdapter } from '../adapter/adapter.js';
import { type AdapterPlan, type ParameterSpec, planParameters } from '../adapter/plan.js';
import { Faults } from '../tensor/faults.js';
import { parameterName } from './adapt.js';
import type { Parameters } from './parameters.js';
import { PROJECTOR } from './program.js';

/** The adapter with which a run begins, and what of it. */
export interface Beginning {
  readonly name: string;
  readonly digest: string;
  readonly part: 'everything' | 'its projector';
}

/** Gives the parameters of a plan the values that an adapter of the same backbone has. Throws AppError naming what does not fit. */
export function beginWith(adapter: LoadedAdapter, plan: AdapterPlan, parameters: Parameters): Beginning {
  const { name, digest, method, projector, groups } = adapter;
  const faults = new Faults();
  const hasProjector = parameters.has(PROJECTOR.weight) && projector !== null;
  if (hasProjector) {
    parameters.view(PROJECTOR.weight).set(projector.weight);
    parameters.view(PROJECTOR.bias).set(projector.bias);
  }
  const part = method === plan.method && method !== 'none' ? 'everything' : 'its projector';
  if (part === 'everything') {
    const [wanted, found] = [plan.contexts.join(', '), groups.map(({ context }) => context).join(', ')];
    if (wanted !== found) faults.add(`Expected groups for ${wanted} in adapter ${name} but received ${found}`);
    else
      for (const group of groups)
        for (const spec of planParameters(plan))
          if (spec.context === group.context) {
            const values = valuesOf(spec, group, plan, faults);
            if (values) parameters.view(parameterName(spec)).set(values);
          }
  } else if (!hasProjector)
    faults.add(
      `Expected adapter ${name} to be of method ${plan.method} or to see images but received ${method} without a projector`,
    );
  faults.check('invalid_config', '--from');
  return { name, digest, part };
}

/** What a group has for a parameter, as it is trained; undefined, with a fault, where it has nothing of that shape. */
function valuesOf(
  { context, module, part, shape }: ParameterSpec,
  group: AdapterGroup,
  plan: AdapterPlan,
  faults: Faults,
): Float32Array | undefined {
  const columns = group.columns.get(module.name);
  const delta = group.scales.get(module.name)?.delta;
  if (part === 'ia3_l' && delta) return delta.map((value) => value + 1);
  if (!columns) {
    faults.add(`Expected ${module.name} to be adapted for ${context} but the adapter leaves it alone`);
    return undefined;
  }
  if (part === 'bias') return columns.b;
  const rank = plan.rank.get(context) ?? 0;
  if (columns.rank !== rank || columns.a === null) {
    if (part === 'lora_A') faults.add(`Expected rank ${rank} in ${module.name} for ${context} but received ${columns.rank}`);
    return undefined;
  }
  if (part === 'lora_A') return transposed(columns.a, module.inFeatures, rank);
  const factor = (plan.alpha.get(context) ?? rank) / rank;
  return transposed(columns.b, rank, shape[0] as number).map((value) => value / factor);
}

/** [rows, columns] → [columns, rows] */
function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from(values, (_, at) => values[(at % rows) * columns + Math.floor(at / rows)] as number);
}
