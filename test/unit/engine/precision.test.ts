/**
 * The language model in float32 of half-precision checkpoints, and in 8 and 4 bits: its numbers against those of float32, and everything that
 * rides on it (adapters of all methods, mixed batches, the key/value cache) as before.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedAdapter } from '../../../src/adapter/adapter.js';
import { type BackboneDescription, describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { Decoder, type DecoderOptions } from '../../../src/engine/decoder.js';
import { fromFloat32, toFloat32 } from '../../../src/tensor/convert.js';
import { emptyBlocks, quantize, type Scheme } from '../../../src/tensor/quantize.js';
import type { Tensor } from '../../../src/tensor/tensor.js';
import { randomAdapter } from '../../support/adapter.js';
import { dequantize } from '../../support/blocks.js';
import { changedBackbone } from '../../support/checkpoint.js';
import { makeTinyBackbone, tensor } from '../../support/tiny.js';

const PROMPTS = [
  [1, 5, 6, 7, 8, 30, 31],
  [1, 9],
  [1, 40, 12, 3],
];
const [EMBEDDING, HEAD] = ['model.embed_tokens.weight', 'lm_head.weight'];

let folder: string;
let tiny: string;
const open: Decoder[] = [];

async function opened(backbone: string, options: Partial<DecoderOptions> = {}): Promise<[Decoder, BackboneDescription]> {
  const description = await describeBackbone(await readBackbone(backbone));
  const decoder = await Decoder.open(description, {
    threads: 1,
    rows: 4,
    maxLength: 64,
    weightsCache: path.join(folder, 'cache'),
    ...options,
  });
  open.push(decoder);
  return [decoder, description];
}

const rowOf = (adapter: LoadedAdapter | null, promptIds: readonly number[]) => ({ adapter, promptIds, imageEmbeddings: null });
/** Logits of the last token of each prompt, each alone. */
async function logitsOf(decoder: Decoder, adapter: LoadedAdapter | null = null): Promise<Float32Array[]> {
  const all: Float32Array[] = [];
  for (const ids of PROMPTS) all.push(...(await decoder.prefill(0, [rowOf(adapter, ids)])));
  return all;
}

/** Root mean square of the difference, in those of the numbers expected. */
function distance(actual: readonly Float32Array[], expected: readonly Float32Array[]): number {
  let difference = 0;
  let size = 0;
  for (const [row, values] of expected.entries()) {
    values.forEach((value, at) => {
      difference += ((actual[row]?.[at] ?? Number.NaN) - value) ** 2;
      size += value ** 2;
    });
  }
  return Math.sqrt(difference / size);
}

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-precision-'));
  tiny = await makeTinyBackbone(path.join(folder, 'tiny'));
});

afterAll(async () => {
  for (const decoder of open) await decoder.close();
  await rm(folder, { recursive: true });
});

describe.each(['float16', 'bfloat16'] as const)('a checkpoint of %s', (dtype) => {
  it('is computed with as the same numbers in float32 are', async () => {
    const halve = ({ shape, ...rest }: Tensor): Tensor => fromFloat32(toFloat32({ shape, ...rest }), shape, dtype);
    const half = await changedBackbone(tiny, path.join(folder, dtype), (name, each) => [[name, halve(each)]]);
    const wide = await changedBackbone(tiny, path.join(folder, `${dtype}-wide`), (name, each) => [
      [name, tensor(each.shape, toFloat32(halve(each)))],
    ]);
    const [decoder] = await opened(half);
    const [reference] = await opened(wide);
    const expected = await logitsOf(reference);
    expect(await logitsOf(decoder)).toEqual(expected);
    expect(distance(await logitsOf((await opened(tiny))[0]), expected)).toBeGreaterThan(1e-4);
  });
});

/** Measured on this backbone, whose random weights are harder to round than trained ones: about half of each. */
const CASES = [
  ['int8', { bits: 8, block: 64, zeroPoints: false }, { weights: 0.06, rounding: 0.06 }],
  ['int4', { bits: 4, block: 32, zeroPoints: true }, { weights: 0.35, rounding: 0.06 }],
] as const;

describe.each(CASES)('%s', (weights, scheme: Scheme, bounds) => {
  let narrow: Decoder;
  let full: Decoder;
  let target: BackboneDescription['target'];
  const adapters: LoadedAdapter[] = [];

  beforeAll(async () => {
    [narrow, { target }] = await opened(tiny, { weights });
    [full] = await opened(tiny);
    for (const [index, method] of (['lora', 'bitfit', 'ia3'] as const).entries())
      adapters.push(randomAdapter(target, { name: method, method, rank: 4, contexts: ['text'], seed: index + 1 }));
  });

  it('is close to float32', async () => {
    const error = distance(await logitsOf(narrow), await logitsOf(full));
    expect(error).toBeLessThan(bounds.weights);
    expect(error).toBeGreaterThan(1e-4);
  });

  it('is float32 of the numbers that its blocks stand for, but for the rounding of what they are multiplied with', async () => {
    const rounded = (values: Tensor): Tensor => {
      const [rows = 0, columns = 0] = values.shape;
      const blocks = emptyBlocks(rows, columns, scheme);
      quantize(toFloat32(values), rows, columns, scheme, blocks);
      return tensor(values.shape, dequantize(blocks, rows, columns, scheme));
    };
    // The table that is looked up stays as it is; only what it is multiplied as is rounded.
    const same = await changedBackbone(tiny, path.join(folder, `${weights}-read`), (name, each) =>
      name === EMBEDDING
        ? [
            [name, each],
            [HEAD, rounded(each)],
          ]
        : [[name, each.shape.length === 2 ? rounded(each) : each]],
    );
    const [reference] = await opened(same);
    expect(distance(await logitsOf(narrow), await logitsOf(reference))).toBeLessThan(bounds.rounding);
  });

  it('takes adapters of every method, which change it as they change float32', async () => {
    const base = await logitsOf(full);
    for (const adapter of adapters) {
      const expected = await logitsOf(full, adapter);
      expect(distance(await logitsOf(narrow, adapter), expected)).toBeLessThan(bounds.weights);
      expect(distance(expected, base)).toBeGreaterThan(1.5 * bounds.weights);
    }
  });

  it('gives a row what it has alone, beside rows of other adapters and lengths', async () => {
    const [lora = null, bitfit = null, ia3 = null] = adapters;
    const rows = [
      rowOf(lora, PROMPTS[0] ?? []),
      rowOf(null, PROMPTS[1] ?? []),
      rowOf(ia3, PROMPTS[2] ?? []),
      rowOf(bitfit, [1, 20]),
    ];
    const together = await narrow.prefill(0, rows);
    for (const [index, row] of rows.entries()) {
      const alone = await narrow.prefill(0, [row]);
      expect(distance([together[index] as Float32Array], alone)).toBeLessThan(bounds.rounding / 10);
    }
  });

  it('decodes with the cache what it gives all at once', async () => {
    for (const adapter of [null, ...adapters]) {
      const ids = PROMPTS[0] as number[];
      const whole = await narrow.prefill(0, [rowOf(adapter, ids)]);
      await narrow.prefill(0, [rowOf(adapter, ids.slice(0, 4))]);
      let last: Float32Array[] = [];
      for (let at = 4; at < ids.length; at++) last = await narrow.decode([{ adapter, tokenId: ids[at] as number, length: at }]);
      expect(distance(last, whole)).toBeLessThan(bounds.rounding / 10);
    }
  });
});
