/**
 * Blends against PyTorch: the engine's bank, where a blend is columns side by side, and merged weights, a context's own for each token, in float64
 * (test/fixtures/blend/make.py). The parts are LoRA of both contexts, LoRA of all tokens, IA3 and BitFit.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedAdapter } from '../../../src/adapter/adapter.js';
import { blendRef } from '../../../src/adapter/blend.js';
import { readAdapter } from '../../../src/adapter/format.js';
import { mixAdapters } from '../../../src/adapter/mix.js';
import { type BackboneDescription, describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { Decoder } from '../../../src/engine/decoder.js';
import { Projection } from '../../../src/engine/projection.js';
import { decodeSafetensors } from '../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../src/tensor/tensor.js';
import { makeBackbone } from '../../fixtures/peft/make.js';

const FIXTURES = fileURLToPath(new URL('../../fixtures/blend/', import.meta.url));
/** Measured up to 4e-6 on logits of up to ten; another processor rounds otherwise. */
const BOUND = 3e-5;
const IMAGE_DIM = 6;

type Weights = readonly { readonly name: string; readonly weight: number }[];

const cases = JSON.parse(await readFile(join(FIXTURES, 'cases.json'), 'utf8')) as Readonly<Record<string, Weights>>;
const file = join(FIXTURES, 'expected.safetensors');
const { tensors } = decodeSafetensors(await readFile(file), file);

let backbone: BackboneDescription;
let decoder: Decoder;
let projection: Projection;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-blend-'));
  backbone = await describeBackbone(await readBackbone(await makeBackbone(folder)));
  decoder = await Decoder.open(backbone, { threads: 1, rows: 4, maxLength: 64 });
  projection = await Projection.open(IMAGE_DIM, backbone.language.hiddenSize, 1);
});

afterAll(async () => {
  await decoder.close();
  await projection.close();
  await rm(folder, { recursive: true });
});

function numbers(name: string): number[] {
  const { dtype, data } = tensors.get(name) as Tensor;
  const { buffer } = new Uint8Array(data);
  return [
    ...(dtype === 'float64' ? new Float64Array(buffer) : dtype === 'int32' ? new Int32Array(buffer) : new Float32Array(buffer)),
  ];
}

async function mix(weights: Weights): Promise<LoadedAdapter> {
  const target = { ...backbone.target, imageDim: IMAGE_DIM, contexts: ['image', 'text'] };
  const parts = await Promise.all(
    weights.map(async ({ name, weight }) => ({ adapter: await readAdapter(join(FIXTURES, 'parts', name), target), weight })),
  );
  const refs = parts.map(({ adapter, weight }) => ({ ref: { ...adapter, folder: '' }, weight }));
  return mixAdapters(blendRef('blend', refs), parts);
}

/** NaN where a length or a number is wrong, which no bound admits. */
function largestDifference(actual: ArrayLike<number>, expected: readonly number[]): number {
  if (actual.length !== expected.length) return Number.NaN;
  return Math.max(...expected.map((value, index) => Math.abs(value - (actual[index] as number))));
}

describe('a blend', () => {
  it.each(Object.keys(cases))('%s gives the logits of the merged weights', async (name) => {
    const adapter = await mix(cases[name] as Weights);
    if (adapter.projector === null) throw new TypeError('Expected a part with a projector');
    const imageEmbeddings = await projection.project(adapter.projector, Float32Array.from(numbers('features')));
    expect(largestDifference(imageEmbeddings, numbers(`${name}.embeddings`))).toBeLessThan(BOUND);
    await decoder.prepare(adapter);
    const row = { adapter, promptIds: numbers('ids'), imageEmbeddings };
    const expected = numbers(`${name}.logits`);
    expect(largestDifference(await decoder.score([row]), expected)).toBeLessThan(BOUND);
    // Beside others, each of which moves the bank's columns; the longest row first, so that this one is padded.
    const others = await Promise.all(Object.values(cases).map(mix));
    const rows = [...others.slice(0, 2).map((other) => ({ ...row, adapter: other, promptIds: [...row.promptIds, 5, 6] })), row];
    const together = await decoder.score(rows);
    expect(largestDifference(together.subarray(-expected.length), expected)).toBeLessThan(BOUND);
  });

  it('of LoRA and IA3 on the same modules is PEFT’s IA3 on a checkpoint that PEFT merged the LoRA into', async () => {
    const adapter = await mix([
      { name: 'ia3', weight: 1 },
      { name: 'lora', weight: 1 },
    ]);
    const logits = await decoder.score([{ adapter, promptIds: numbers('ids'), imageEmbeddings: null }]);
    expect(largestDifference(logits, numbers('stacked.logits'))).toBeLessThan(BOUND);
  });
});
