/**
 * Every language family against transformers and PEFT, as far as fixtures go (test/support/families): logits at once and step by step, adapters
 * that PEFT saved, and their gradients.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { LANGUAGE_TYPES, readLanguageModel } from '../../../../src/backbone/language/families.js';
import { decodeSafetensors } from '../../../../src/tensor/safetensors.js';
import { elements } from '../../../../src/tensor/tensor.js';
import { adaptedCases, languageCases, targetsOfPeft } from '../../../support/families/cases.js';
import { adaptedError, decodeError, gradientError, logitsError } from '../../../support/families/measure.js';
import { furthest } from '../../../support/vision.js';

/** Of logits, and of gradients relative to the largest of their tensor. */
const TOLERANCE = 1e-4;
/** The longest sequence where it is the window and not what config.json allows. */
const WINDOWS: Readonly<Record<string, number>> = { mistral: 11, 'qwen2-window': 11, 'phi3-window': 11 };
/** Families whose positions are learned and not turned. */
const LEARNED = ['gpt2', 'opt'];
/** Tensors that are no weights, and those of weights that are no projections of a layer. */
const MASK = /\.attn\.bias$/;
const OTHER = /embed_|wte|wpe|norm|ln_|lm_head|decoder\.project_/;
/** How many modules PEFT's IA3 scales: it has no choice for phi3, whose fixture scales the whole fused projection. */
const SCALED = { llama: 3, mistral: 3, qwen2: 6, qwen3: 6, phi3: 4, gpt2: 4, opt: 6 } as Readonly<Record<string, number>>;

const cases = languageCases();
const adapted = adaptedCases();

it('has fixtures of every family, with and without adapters', () => {
  const typesOf = (all: readonly { readonly type: string }[]) => [...new Set(all.map(({ type }) => type))].sort();
  expect(typesOf(cases)).toEqual([...LANGUAGE_TYPES].sort());
  for (const method of ['lora', 'ia3'])
    expect(typesOf(adapted.filter((one) => one.method === method))).toEqual([...LANGUAGE_TYPES].sort());
});

describe.each(cases.map((one) => [one.name, one] as const))('%s', (name, one) => {
  const file = join(one.folder, 'model.safetensors');
  // Of shards, the whole that they are made of is among the cases.
  const itOfOneFile = existsSync(file) ? it : () => undefined;
  itOfOneFile('is described as it is', async () => {
    const language = await readLanguageModel(one.folder);
    const config = JSON.parse(await readFile(join(one.folder, 'config.json'), 'utf8')) as Record<string, number>;
    expect(language.family).toBe(one.type);
    expect(language.maxPositions).toBe(WINDOWS[name] ?? config['max_position_embeddings'] ?? config['n_positions']);
    expect(language.rotary === null).toBe(LEARNED.includes(one.type));
    if (one.frequencies) expect(furthest(language.rotary?.inverseFrequencies ?? [], one.frequencies)).toBeLessThan(1e-7);
    const { tensors } = decodeSafetensors(await readFile(file), file);
    const weights = [...tensors].filter(([tensor]) => !MASK.test(tensor));
    expect(language.parameterCount).toBe(weights.reduce((sum, [, { shape }]) => sum + elements(shape), 0));
    const declared = language.modules.flatMap((each) => [`${each.name}.weight`, ...(each.bias ? [`${each.name}.bias`] : [])]);
    const { prefix } = language;
    const projections = weights.map(([tensor]) => tensor).filter((tensor) => !OTHER.test(tensor));
    expect(declared.sort()).toEqual(projections.map((tensor) => (name.endsWith('-bare') ? `${prefix}${tensor}` : tensor)).sort());
  });

  it('gives the logits of transformers at every position', async () => {
    expect(await logitsError(one)).toBeLessThan(TOLERANCE);
  });

  it('gives them step by step from its cache, for rows of different lengths', async () => {
    expect(await decodeError(one)).toBeLessThan(TOLERANCE);
  });
});

describe.each(adapted.map((one) => [one.name, one] as const))('%s of PEFT', (_, one) => {
  it('gives the logits that PEFT gives', async () => {
    const { error, moved, matched, targeted } = await adaptedError(one);
    expect(error).toBeLessThan(TOLERANCE);
    expect(moved).toBeGreaterThan(0.5);
    const { modules } = await readLanguageModel(one.folder);
    expect(matched).toBe(one.method === 'lora' ? modules.length : (SCALED[one.type] ?? targeted));
    expect(targeted).toBe(matched);
  });

  it.each([false, true])('has the loss and the gradients of PyTorch, recomputing %s', async (recompute) => {
    expect(await gradientError(one, recompute)).toBeLessThan(TOLERANCE);
  });
});

it.each(Object.entries(targetsOfPeft().ia3).filter(([type]) => LANGUAGE_TYPES.includes(type)))(
  'of %s, IA3 scales what PEFT scales unless told',
  async (type, names) => {
    const { folder } = cases.find((one) => one.type === type) ?? { folder: '' };
    const { modules } = await readLanguageModel(folder);
    const ends = [names].flat();
    const theirs = modules.filter(({ name }) => ends.some((end) => name.endsWith(`.${end}`)));
    expect(modules.filter(({ scalable }) => scalable).map(({ name }) => name)).toEqual(theirs.map(({ name }) => name));
  },
);
