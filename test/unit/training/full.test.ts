/**
 * Training of all weights: loss and the gradient of every weight that transformers and PyTorch's autograd give for text of mixed lengths
 * (test/fixtures/peft/make.py). One checkpoint ties its embeddings, one has biases as well, one has neither and heads of their own size. Others
 * learn their positions too (test/fixtures/backbone/decoders/make.py).
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openWeights } from '../../../src/backbone/backbone.js';
import { readLanguageModel } from '../../../src/backbone/language/families.js';
import { toFloat32 } from '../../../src/tensor/convert.js';
import { decodeSafetensors } from '../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../src/tensor/tensor.js';
import { assemble } from '../../../src/training/batch.js';
import { TrainedModel } from '../../../src/training/model.js';
import type { Recipe } from '../../../src/training/program.js';
import { Sequences } from '../../../src/training/sequence.js';

const FIXTURES = fileURLToPath(new URL('../../fixtures/', import.meta.url));
const LLAMAS = 'peft/gradients';
const DECODERS = 'backbone/decoders/gradients';
const CHECKPOINTS = [
  ['checkpoint', 'peft/checkpoint', LLAMAS, 20],
  ['biases', 'backbone/llama/biases', LLAMAS, 18],
  ['heads', 'backbone/llama/heads', LLAMAS, 12],
  ['gpt2', 'backbone/decoders/gpt2', DECODERS, 28],
  ['gpt2-bare', 'backbone/decoders/gpt2-bare', DECODERS, 28],
  ['gpt2-untied', 'backbone/decoders/gpt2-untied', DECODERS, 17],
  ['opt', 'backbone/decoders/opt', DECODERS, 36],
  ['opt-bare', 'backbone/decoders/opt-bare', DECODERS, 36],
  ['opt-plain', 'backbone/decoders/opt-plain', DECODERS, 9],
] as const;
/** Where keys do not rotate, a bias of theirs moves all scores of a row alike: its gradient is what rounding leaves. */
const SMALLEST = 1e-3;
/** Tokens of a row that are not predicted: BOS and prompt. */
const GIVEN = 2;

async function openModel(folder: string, recompute: boolean): Promise<TrainedModel> {
  const language = await readLanguageModel(folder);
  const { checkpoint, weights } = await openWeights(folder, language);
  try {
    const none = { image: null, plan: null, dropout: 0, residualDropout: 0 };
    const recipe: Recipe = { language, ...none, begin: 'checkpoint', recompute, maxTokens: 16 };
    const model = new TrainedModel(recipe, weights, { folder, threads: 1 });
    await model.parameters.start(0, (name, shape) => weights.read(name, shape));
    return model;
  } finally {
    await checkpoint.close();
  }
}

/** The rows of a fixture, without their padding. */
function sequencesOf({ shape: [rows = 0, tokens = 0], data }: Tensor): Sequences {
  const ids = [...new Int32Array(new Uint8Array(data).buffer)];
  const each = Array.from({ length: rows }, (_, row) => ids.slice(row * tokens, (row + 1) * tokens).filter((id) => id >= 0));
  return new Sequences(each, [...each.keys()], GIVEN);
}

describe.each([
  ['keeping activations', false],
  ['recomputing them', true],
])('%s, the gradient of every weight is PyTorch’s', (_, recompute) => {
  it.each(CHECKPOINTS)('%s', async (name, folder, source, count) => {
    const path = join(FIXTURES, source, `${name}.safetensors`);
    const { rows, loss, ...gradients } = Object.fromEntries(decodeSafetensors(await readFile(path), path).tensors);
    const model = await openModel(join(FIXTURES, folder), recompute);
    const sequences = sequencesOf(rows as Tensor);
    const batch = assemble({ language: model.recipe.language, image: null, contexts: [] }, sequences, [0, 1, 2]);
    expect(await model.differentiate(batch, {}, batch.predicted)).toBeCloseTo(toFloat32(loss as Tensor)[0] ?? Number.NaN, 5);

    expect(model.parameters.shapes.map((shape) => shape.name).sort()).toEqual(Object.keys(gradients).sort());
    expect(model.parameters.shapes).toHaveLength(count);
    for (const [weight, tensor] of Object.entries(gradients)) {
      const theirs = toFloat32(tensor);
      const ours = model.parameters.view(weight, model.gradients);
      const largest = Math.max(...theirs.map(Math.abs));
      const worst = Math.max(...theirs.map((value, index) => Math.abs(value - (ours[index] as number))));
      expect(worst / Math.max(largest, SMALLEST), weight).toBeLessThan(1e-4);
    }
    await model.close();
  });
});
