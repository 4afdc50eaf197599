/**
 * A plan's parameters inside the graph: the arithmetic of Context-PEFT on every projection (reference/context_peft.py), as serving does it
 * with its bank. An adapter's contexts lie side by side along the rank axis, and a gate says which columns a token sees. The gate holds
 * alpha/r here, since every module of a context has the same.
 */
import { type AdapterPlan, type ParameterSpec, planParameters } from '../adapter/plan.js';
import type { LinearModule } from '../backbone/module.js';
import type { Graph, Value } from '../onnx/graph.js';
import { add, concat, float32, linear, matmul, mul, reshape, scalar, split, sub } from '../onnx/ops.js';
import type { ParameterShape, Start } from './parameters.js';

/** A trained tensor's name in the graph, in checkpoints and in messages. */
export function parameterName({ context, module, part }: Pick<ParameterSpec, 'context' | 'module' | 'part'>): string {
  return `${context}/${module.name}.${part}`;
}

/** The parameters of a plan, as the reference begins them. */
export function adapterShapes(plan: AdapterPlan): ParameterShape[] {
  return planParameters(plan).map((spec) => ({ name: parameterName(spec), shape: spec.shape, start: startOf(spec) }));
}

function startOf({ part, module }: ParameterSpec): Start {
  // kaiming_uniform with a = √5, which is what PEFT does.
  if (part === 'lora_A') return { kind: 'uniform', bound: 1 / Math.sqrt(module.inFeatures) };
  return { kind: 'constant', value: part === 'ia3_l' ? 1 : 0 };
}

export class Adaptation {
  readonly #g: Graph;
  readonly #plan: AdapterPlan;
  readonly #parameter: (name: string) => Value;
  readonly #targets: ReadonlySet<string>;
  /** 1 where a token is of a context, [rows, tokens, contexts]; null where all tokens are alike. */
  readonly #gate: Value | null;
  readonly #columnGates = new Map<number, Value>();

  /** `parameter` gives the graph's value of a parameter. */
  constructor(g: Graph, plan: AdapterPlan, gate: Value | null, parameter: (name: string) => Value) {
    this.#g = g;
    this.#plan = plan;
    this.#gate = gate;
    this.#parameter = parameter;
    this.#targets = new Set(plan.modules.map(({ name }) => name));
  }

  /** IA3 on an FFN's inner activation: x before the projection that reads it. */
  scaleInput(modules: readonly LinearModule[], x: Value): Value {
    const [module] = modules;
    return module && modules.length === 1 && module.scalable === 'input' ? this.#scale(module, x) : x;
  }

  /** The outputs of projections that all read x, adapted. */
  adapt(modules: readonly LinearModule[], x: Value, outputs: readonly Value[]): Value[] {
    const targeted = modules.filter(({ name }) => this.#targets.has(name));
    const columns = this.#plan.method === 'lora' && targeted.length > 0 ? this.#columns(targeted, x) : [];
    return modules.map((module, index) => {
      const y = outputs[index] as Value;
      const position = targeted.indexOf(module);
      if (position < 0) return y;
      if (this.#plan.method === 'lora') return add(this.#g, y, this.#expand(module, columns[position] as Value));
      if (this.#plan.method === 'bitfit') return add(this.#g, y, this.#bias(module));
      return module.scalable === 'output' ? this.#scale(module, y) : y;
    });
  }

  /** x · A of modules that read the same x, gated: one [rows, tokens, ranks of all contexts] each. */
  #columns(modules: readonly LinearModule[], x: Value): Value[] {
    const g = this.#g;
    const a = modules.flatMap((module) => this.#parts(module, 'lora_A'));
    const h = linear(g, x, concat(g, a, 0));
    const width = [...this.#plan.rank.values()].reduce((sum, rank) => sum + rank, 0);
    return split(
      g,
      this.#gate ? mul(g, h, this.#columnGate(this.#gate, modules.length)) : h,
      modules.map(() => width),
    );
  }

  #expand(module: LinearModule, columns: Value): Value {
    const [context] = this.#plan.contexts;
    // With a gate, that holds the factor.
    const alpha = this.#gate || context === undefined ? 1 : this.#factor(context);
    return matmul(this.#g, columns, concat(this.#g, this.#parts(module, 'lora_B')), { transB: true, alpha });
  }

  /** The gate of every column of `count` modules: alpha/r where it is the token's own context's. */
  #columnGate(gate: Value, count: number): Value {
    const known = this.#columnGates.get(count);
    if (known) return known;
    const { contexts, rank } = this.#plan;
    const columns = contexts.flatMap((context, index) => Array<number>(rank.get(context) ?? 0).fill(index));
    const rows = contexts.map((context, row) => columns.map((column) => (column === row ? this.#factor(context) : 0)));
    const spread = float32(
      this.#g,
      null,
      [contexts.length, columns.length * count],
      rows.flatMap((row) => Array<number[]>(count).fill(row).flat()),
    );
    const value = matmul(this.#g, gate, spread);
    this.#columnGates.set(count, value);
    return value;
  }

  #factor(context: string): number {
    return (this.#plan.alpha.get(context) ?? 1) / (this.#plan.rank.get(context) ?? 1);
  }

  #bias(module: LinearModule): Value {
    const parts = this.#parts(module, 'bias');
    return this.#gate ? this.#pick(this.#gate, parts) : (parts[0] as Value);
  }

  /** x · l, with l the token's own context's, or 1. */
  #scale(module: LinearModule, x: Value): Value {
    const g = this.#g;
    if (!this.#targets.has(module.name) || this.#plan.method !== 'ia3') return x;
    const parts = this.#parts(module, 'ia3_l');
    if (!this.#gate) return mul(g, x, parts[0] as Value);
    const one = scalar(g, 'float32', 1);
    const deltas = parts.map((l) => sub(g, l, one));
    return add(g, x, mul(g, x, this.#pick(this.#gate, deltas)));
  }

  /** Each token's own vector, [rows, tokens, n], of one vector [n] a context; zeros for a token that has none. */
  #pick(gate: Value, vectors: readonly Value[]): Value {
    const g = this.#g;
    return matmul(
      g,
      gate,
      concat(
        g,
        vectors.map((vector) => reshape(g, vector, [1, Number(vector.shape[0])])),
        0,
      ),
    );
  }

  #parts(module: LinearModule, part: ParameterSpec['part']): Value[] {
    return this.#plan.contexts.map((context) => this.#parameter(parameterName({ context, module, part })));
  }
}
