/**
 * Training on a real checkpoint against PyTorch (../shared/reference/context_peft.py): loss and gradients of every method, from random adapters
 * and random features. The reference gives those of the last layer's adapter, behind everything else, and of the projector, before it.
 */
import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { type AdapterPlan, resolvePlan } from '../../src/adapter/plan.js';
import { type BackboneDescription, describeBackbone, openWeights } from '../../src/backbone/backbone.js';
import { readBackbone } from '../../src/backbone/manifest.js';
import { float32 } from '../../src/runtime/session.js';
import { toFloat32 } from '../../src/tensor/convert.js';
import { decodeSafetensors } from '../../src/tensor/safetensors.js';
import type { Tensor } from '../../src/tensor/tensor.js';
import { assemble } from '../../src/training/batch.js';
import { TrainedModel } from '../../src/training/model.js';
import { names, PROJECTOR, type Recipe } from '../../src/training/program.js';
import { Sequences } from '../../src/training/sequence.js';
import { hasShared, realBackbone, shared, withShared } from '../support/shared.js';

const IMAGE = { tokens: 5, dim: 24, dtype: 'float32' } as const;
const ROWS = 3;
const EOS = 2;
/** Adapters, and how many gradients the reference gives of each: its parts, its modules, its contexts, and the projector's two. */
const CASES = [
  ['base', 'none', [], 2],
  ['lora', 'lora', ['image', 'text'], 2 * 7 * 2 + 2],
  ['lora-agnostic', 'lora', ['all'], 2 * 7 + 2],
  ['bitfit', 'bitfit', ['image', 'text'], 7 * 2 + 2],
  ['ia3', 'ia3', ['image', 'text'], 3 * 2 + 2],
] as const;
/** The reference's names of an adapter's parts. */
const PARTS: ReadonlyMap<string, string> = new Map([
  ['A', 'lora_A'],
  ['B', 'lora_B'],
  ['b', 'bias'],
  ['l', 'ia3_l'],
]);

async function read(path: string): Promise<ReadonlyMap<string, Float32Array>> {
  const { tensors } = decodeSafetensors(await readFile(shared(`golden/${path}`)), path);
  return new Map([...tensors].map(([name, tensor]: [string, Tensor]) => [name, toFloat32(tensor)]));
}

/** `image.model.layers.1.mlp.down_proj.A.grad` as the parameter `image/model.layers.1.mlp.down_proj.lora_A`. */
function parameterOf(gradient: string): string {
  const name = gradient.replace(/\.grad$/, '');
  const [, context, module, part = ''] = /^([a-z]+)\.(model\..+)\.([ABbl])$/.exec(name) ?? [];
  return context === undefined ? name : `${context}/${module}.${PARTS.get(part)}`;
}

describe.skipIf(!hasShared)(`gradients${withShared}`, () => {
  let backbone: BackboneDescription;

  beforeAll(async () => {
    backbone = await describeBackbone(await readBackbone(realBackbone));
  });

  async function planOf(name: string, method: AdapterPlan['method'], contexts: readonly string[]): Promise<AdapterPlan> {
    if (method === 'none') return resolvePlan({ method }, backbone.target);
    const config = JSON.parse(await readFile(shared(`golden/${name}/${contexts[0]}/adapter_config.json`), 'utf8')) as {
      readonly r?: number;
      readonly lora_alpha?: number;
    };
    return resolvePlan({ method, contexts, rank: config.r, alpha: config.lora_alpha }, backbone.target);
  }

  async function openModel(plan: AdapterPlan, recompute: boolean): Promise<TrainedModel> {
    const { languageFolder, language } = backbone;
    const { checkpoint, weights } = await openWeights(languageFolder, language);
    try {
      const fixed = { image: IMAGE, begin: 'checkpoint', dropout: 0, residualDropout: 0, maxTokens: 64 } as const;
      const recipe: Recipe = { language, plan, recompute, ...fixed };
      return new TrainedModel(recipe, weights, { folder: languageFolder, threads: 2 });
    } finally {
      await checkpoint.close();
    }
  }

  /** Gives every parameter the values of a case's files; returns how many it gave. */
  async function load({ parameters }: TrainedModel, name: string, contexts: readonly string[]): Promise<number> {
    let count = 0;
    const give = (parameter: string, values: Float32Array): void => {
      parameters.view(parameter).set(values);
      count++;
    };
    for (const context of contexts) {
      for (const [key, values] of await read(`${name}/${context}/adapter_model.safetensors`))
        give(`${context}/${key.replace(/^base_model\.model\./, '').replace(/\.weight$/, '')}`, values);
    }
    const projector = await read(`${name}/projector.safetensors`);
    give(PROJECTOR.weight, projector.get('weight') as Float32Array);
    give(PROJECTOR.bias, projector.get('bias') as Float32Array);
    return count;
  }

  describe.each([
    ['keeping activations', false],
    ['recomputing them', true],
  ])('%s', (_, recompute) => {
    it.each(CASES)('%s: loss and gradients agree to 1e-4', async (name, method, contexts, count) => {
      const model = await openModel(await planOf(name, method, contexts), recompute);
      expect(await load(model, name, contexts)).toBe(model.parameters.shapes.length);

      const input = await read('input.safetensors');
      const ids = [...(input.get('ids') as Float32Array)];
      const length = ids.length / ROWS;
      const rows = Array.from({ length: ROWS }, (_, row) => [...ids.slice(row * length, (row + 1) * length), EOS]);
      const gated = contexts.filter((context) => context !== 'all');
      const shape = { language: backbone.language, image: IMAGE, contexts: gated };
      const batch = assemble(shape, new Sequences(rows, [...rows.keys()], 1), [...rows.keys()]);
      const features = float32(input.get('features') as Float32Array, [ROWS, IMAGE.tokens, IMAGE.dim]);
      const loss = await model.differentiate(batch, { [names.features]: features }, batch.predicted);

      const expected = new Map(await read(`${name}/expected.safetensors`));
      expected.delete('logits');
      expect(Math.abs(loss - (expected.get('loss')?.[0] ?? Number.NaN))).toBeLessThan(1e-4);
      expected.delete('loss');
      expect(expected.size).toBe(count);
      for (const [gradient, theirs] of expected) {
        const ours = model.parameters.view(parameterOf(gradient), model.gradients);
        expect(ours).toHaveLength(theirs.length);
        const largest = Math.max(...theirs.map(Math.abs));
        expect(largest, gradient).toBeGreaterThan(0);
        const worst = Math.max(...theirs.map((value, index) => Math.abs(value - (ours[index] as number))));
        expect(worst / largest, gradient).toBeLessThan(1e-4);
      }
      await model.close();
    });
  });
});
