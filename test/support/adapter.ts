/** Random adapters in memory: any method, any ranks, any modules; for tests of the engine, which never sees a file. */
import type { AdapterGroup, LoadedAdapter, Method, RankColumns, Scale } from '../../src/adapter/adapter.js';
import type { AdapterDraft } from '../../src/adapter/write.js';
import type { AdapterTarget, LinearModule } from '../../src/backbone/module.js';
import { Gaussian } from './tiny.js';

export interface RandomAdapter {
  readonly name: string;
  readonly method: Exclude<Method, 'none'>;
  readonly rank: number;
  /** `['all']` for the agnostic variant. */
  readonly contexts: readonly string[];
  readonly seed: number;
  /** Suffixes of the modules that it adapts; all (that the method can) by default. */
  readonly modules?: readonly string[];
}

export function randomAdapter(
  target: AdapterTarget,
  { name, method, rank, contexts, seed, modules }: RandomAdapter,
): LoadedAdapter {
  const random = new Gaussian(seed);
  const chosen = target.modules.filter((module) => !modules || modules.some((suffix) => module.name.endsWith(suffix)));
  const groups = contexts.map((context): AdapterGroup => {
    const columns = new Map<string, RankColumns>();
    const scales = new Map<string, Scale>();
    for (const { name: module, inFeatures, outFeatures, scalable } of chosen) {
      if (method === 'lora') {
        // Ranks differ by module, as rank_pattern allows.
        const own = 1 + Math.floor(random.uniform() * rank);
        columns.set(module, {
          rank: own,
          a: random.array(inFeatures * own, 1 / Math.sqrt(inFeatures)),
          b: random.array(own * outFeatures, 0.7),
        });
      } else if (method === 'bitfit') {
        columns.set(module, { rank: 1, a: null, b: random.array(outFeatures, 0.5) });
      } else if (scalable) {
        scales.set(module, { side: scalable, delta: random.array(scalable === 'input' ? inFeatures : outFeatures, 0.5) });
      }
    }
    const widest = Math.max(0, ...[...columns.values()].map((column) => column.rank));
    return { context, rank: widest, a0: method === 'bitfit' ? 1 : 0, columns, scales };
  });
  const { hiddenSize, imageDim } = target;
  const projector =
    imageDim === null
      ? null
      : { weight: random.array(hiddenSize * imageDim, 1 / Math.sqrt(imageDim)), bias: random.array(hiddenSize, 0.1) };
  return { name, digest: `sha256:${name}`, method, groups, projector, matched: chosen.length, targeted: chosen.length, bytes: 0 };
}

/** The same kind of adapter as a folder's content, for what reads files. LoRA has one rank everywhere. */
export function randomDraft(
  target: AdapterTarget,
  { method, rank, contexts, seed, modules }: Omit<RandomAdapter, 'name'>,
  strength = 0.7,
): AdapterDraft {
  const random = new Gaussian(seed);
  const chosen = target.modules.filter((module) => !modules || modules.some((suffix) => module.name.endsWith(suffix)));
  const { hiddenSize, imageDim } = target;
  const projector =
    imageDim === null
      ? null
      : { weight: random.array(hiddenSize * imageDim, 1 / Math.sqrt(imageDim)), bias: random.array(hiddenSize, 0.1) };
  const groups = <T>(make: (module: LinearModule) => T, of = chosen): Map<string, { modules: Map<string, T> }> =>
    new Map(contexts.map((context) => [context, { modules: new Map(of.map((module) => [module.name, make(module)])) }]));
  if (method === 'lora') {
    return {
      method,
      projector,
      groups: groups(({ inFeatures, outFeatures }) => ({
        rank,
        alpha: rank,
        a: random.array(rank * inFeatures, 1 / Math.sqrt(inFeatures)),
        b: random.array(outFeatures * rank, strength),
      })),
    };
  }
  if (method === 'bitfit') return { method, projector, groups: groups(({ outFeatures }) => random.array(outFeatures, strength)) };
  const scalable = chosen.filter((module) => module.scalable);
  return {
    method,
    projector,
    groups: groups((module) => {
      const side = module.scalable ?? 'output';
      return { side, factor: random.array(side === 'input' ? module.inFeatures : module.outFeatures, strength, 1) };
    }, scalable),
  };
}
