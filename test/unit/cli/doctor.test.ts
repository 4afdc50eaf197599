/**
 * `graft doctor` on folders that are broken in every way that serving refuses, and on all that are whole: it names the fault, and never says
 * other than serving does.
 */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readAdapter } from '../../../src/adapter/format.js';
import { describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { Tokenizer } from '../../../src/backbone/tokenizer.js';
import { readVisionModel, VISION_TYPES } from '../../../src/backbone/vision/families.js';
import { ADVICE } from '../../../src/cli/doctor/advice.js';
import type { Part } from '../../../src/cli/doctor/part.js';
import { type DoctorFlags, doctor } from '../../../src/cli/doctor.js';
import { Decoder } from '../../../src/engine/decoder.js';
import { VisionEncoder } from '../../../src/engine/vision.js';
import { AppError } from '../../../src/errors.js';
import type { Tensor } from '../../../src/tensor/tensor.js';
import { makeBackbone, FIXTURES as TRAINED } from '../../fixtures/peft/make.js';
import { editHeader, editJson, editTensors, shard, truncate } from '../../support/broken.js';
import { checkpointFolders } from '../../support/families/cases.js';
import { TINY, tensor } from '../../support/tiny.js';

const SHIPPED = fileURLToPath(new URL('../../../', import.meta.url));
const Q = 'model.layers.0.self_attn.q_proj';
const SAVED_Q = `base_model.model.${Q}.lora_A.weight`;

let root: string;
/** Whole, and never changed. */
let whole: string;
/** A copy to break: `backbone.json`, `checkpoint`, `vision`, `adapter` (ours) and `peft`. */
let place: string;
const at = (...names: readonly string[]): string => join(place, ...names);

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'graft-doctor-'));
  whole = await makeBackbone(join(root, 'whole'));
  await cp(join(TRAINED, 'adapters/lora'), join(whole, 'adapter'), { recursive: true });
  await cp(join(TRAINED, 'adapters/lora/text'), join(whole, 'peft'), { recursive: true });
});
afterAll(() => rm(root, { recursive: true }));

beforeEach(async () => {
  place = join(await mkdtemp(join(root, 'case-')), 'backbone');
  await cp(whole, place, { recursive: true });
});

interface Report {
  readonly fits: boolean;
  readonly parts: readonly (Omit<Part, 'facts'> & { readonly facts: Readonly<Record<string, unknown>> })[];
}

async function examine(folder: string, flags: DoctorFlags = {}): Promise<Report & { sentences: string[]; advice: string[] }> {
  const { text, fits } = await doctor(folder, { ...flags, json: true });
  const report = JSON.parse(text) as Report;
  expect(report.fits).toBe(fits);
  const faults = report.parts.flatMap((part) => part.faults);
  expect(fits).toBe(faults.length === 0);
  return { ...report, sentences: faults.map(({ sentence }) => sentence), advice: faults.flatMap(({ advice }) => advice ?? []) };
}

/** What a server does before it says that it is ready, with the same functions in the same order. */
async function serve(location: string): Promise<void> {
  const manifest = await readBackbone(location);
  await Tokenizer.open(manifest.languageFolder);
  const backbone = await describeBackbone(manifest);
  const decoder = await Decoder.open(backbone, { threads: 1, rows: 1, maxLength: 8 });
  await decoder.close();
  if (backbone.vision) await (await VisionEncoder.open(backbone.vision, 1, 0)).close();
}

/** What serving refuses; fails where it does not. */
async function refusal(action: Promise<unknown>): Promise<AppError> {
  const error = await action.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error, 'Expected serving to refuse it').toBeInstanceOf(AppError);
  return error as AppError;
}

/** Every sentence of the cases that ran. */
const told = new Set<string>();

type Target = 'checkpoint' | 'vision' | 'backbone' | 'adapter' | 'peft';

/** What is broken, how, the fault, and the advice where there is one. */
type Case = readonly [name: string, target: Target, breakIt: () => Promise<unknown>, fault: string | RegExp, advice?: RegExp];

const config = (changes: object) => () => editJson(at('checkpoint/config.json'), changes);
const seen = (changes: object) => () => editJson(at('vision/preprocessor_config.json'), changes);
const vit = async (processor: object): Promise<void> => {
  await cp(join(TRAINED, '../backbone/vision-transformers/vit'), at('vision'), { recursive: true });
  await writeFile(at('vision/preprocessor_config.json'), JSON.stringify(processor));
};
const weights = (change: (tensors: Map<string, Tensor>) => void) => () => editTensors(at('checkpoint/model.safetensors'), change);
const peft = (changes: object) => () => editJson(at('peft/adapter_config.json'), changes);
const trained = (change: (tensors: Map<string, Tensor>) => void) => () =>
  editTensors(at('peft/adapter_model.safetensors'), change);
const zeros = (...shape: readonly number[]): Tensor => tensor(shape, new Float32Array(shape.reduce((a, b) => a * b)));
const isPosix = process.platform !== 'win32';

const CASES: readonly Case[] = [
  // A language checkpoint.
  [
    'pickle only',
    'checkpoint',
    () => rename(at('checkpoint/model.safetensors'), at('checkpoint/pytorch_model.bin')),
    'checkpoint: Expected model.safetensors but received pytorch_model.bin: pickle can run any program and is never read',
    /convert to safetensors/,
  ],
  [
    'no weights',
    'checkpoint',
    () => rm(at('checkpoint/model.safetensors')),
    /Expected model\.safetensors or model\.safetensors\.index\.json but received \[/,
  ],
  [
    'no config.json',
    'checkpoint',
    () => rm(at('checkpoint/config.json')),
    'checkpoint: Expected a file config.json but there is none',
    /save_pretrained/,
  ],
  [
    'a config.json that is no JSON',
    'checkpoint',
    () => writeFile(at('checkpoint/config.json'), '{"model_type": '),
    'checkpoint/config.json: Expected JSON but received something else',
  ],
  [
    'a config.json of an abyss',
    'checkpoint',
    () => writeFile(at('checkpoint/config.json'), `{"model_type":"llama","hidden_size":${'['.repeat(1e5)}${']'.repeat(1e5)}}`),
    'checkpoint/config.json: Expected JSON of at most 32 levels but received more',
  ],
  [
    'a config.json that is too large',
    'checkpoint',
    () => writeFile(at('checkpoint/config.json'), `{"model_type":"llama"}${' '.repeat(5e6)}`),
    'checkpoint/config.json: Expected at most 4194304 bytes but received 5000022',
  ],
  [
    'an unknown family',
    'checkpoint',
    config({ model_type: 'mamba' }),
    /checkpoint\/config\.json: Expected a language model_type of .*llama, .* but received mamba/,
    /docs\/families\.md/,
  ],
  [
    'rotary positions that are not implemented',
    'checkpoint',
    config({ rope_parameters: { rope_type: 'yarn', factor: 4 } }),
    'checkpoint/config.json: rope_parameters.rope_type: Expected rotary positions of type default, linear, llama3 but received "yarn"',
    /without that scaling/,
  ],
  [
    'a part of each head that rotates',
    'checkpoint',
    config({ partial_rotary_factor: 0.5 }),
    'partial_rotary_factor: Expected every dimension to rotate, because a part of them is not implemented, but received 0.5',
  ],
  [
    'GPTQ',
    'checkpoint',
    config({ quantization_config: { quant_method: 'gptq', bits: 4 } }),
    'checkpoint/config.json: quantization_config: Expected none, because only float32, float16 and bfloat16 weights are read, but received "gptq"',
    /packed weights are not unpacked/,
  ],
  ['AWQ', 'checkpoint', config({ quantization_config: { quant_method: 'awq' } }), 'but received "awq"'],
  ['bitsandbytes', 'checkpoint', config({ quantization_config: { load_in_4bit: true } }), 'but received "bitsandbytes"'],
  ['FP8 by its config', 'checkpoint', config({ quantization_config: { quant_method: 'fp8' } }), 'but received "fp8"'],
  [
    'FP8 by its tensors',
    'checkpoint',
    () => editHeader(at('checkpoint/model.safetensors'), (header) => header.replace('"F32"', '"F8_E4M3"')),
    /checkpoint\/model\.safetensors: Expected tensor "\S+" to be one of F64, .* but received unknown dtype "F8_E4M3"/,
    /packed weights/,
  ],
  [
    'a size that is missing',
    'checkpoint',
    config({ hidden_size: undefined }),
    'config.json: hidden_size: Expected number but received nothing',
  ],
  [
    'a size that is none',
    'checkpoint',
    config({ hidden_size: -16 }),
    'config.json: hidden_size: Expected more than 0 but received -16',
  ],
  [
    'heads that the runtime cannot do',
    'checkpoint',
    config({ head_dim: 12 }),
    'checkpoint/config.json: Expected attention heads of a multiple of 8 dimensions but received 12',
  ],
  [
    'no tokenizer',
    'checkpoint',
    () => rm(at('checkpoint/tokenizer.json')),
    'checkpoint: Expected a file tokenizer.json but there is none',
    /AutoTokenizer/,
  ],
  [
    'a tokenizer that is no JSON',
    'checkpoint',
    () => writeFile(at('checkpoint/tokenizer.json'), '<html>'),
    'checkpoint/tokenizer.json: Expected JSON but received text that does not parse',
  ],
  [
    'a tokenizer that cannot be built',
    'checkpoint',
    () => writeFile(at('checkpoint/tokenizer.json'), '{"model": {}}'),
    'checkpoint/tokenizer.json: Expected a tokenizer that can be built but received',
  ],
  [
    'no token to begin with',
    'checkpoint',
    async () => {
      await editJson(at('checkpoint/tokenizer.json'), { post_processor: null });
      await editJson(at('checkpoint/tokenizer_config.json'), { bos_token: null });
      await config({ bos_token_id: null })();
    },
    'checkpoint: Expected a beginning-of-sequence token in tokenizer.json or config.json but there is none',
    /bos_token_id/,
  ],
  [
    'a tensor that is missing',
    'checkpoint',
    weights((tensors) => tensors.delete('model.norm.weight')),
    'checkpoint/model.safetensors: Expected a tensor model.norm.weight of [16] but the checkpoint has none',
    /of two models/,
  ],
  [
    'a tensor that is misshapen',
    'checkpoint',
    weights((tensors) => tensors.set(`${Q}.weight`, zeros(8, 16))),
    `checkpoint/model.safetensors: Expected ${Q}.weight to be [16, 16] but received [8, 16]`,
    /of two models/,
  ],
  [
    'a tensor of another type',
    'checkpoint',
    weights((tensors) => tensors.set('model.norm.weight', { dtype: 'int8', shape: [16], data: new Uint8Array(16) })),
    'checkpoint/model.safetensors: Expected model.norm.weight to be float32, float16 or bfloat16 but received int8',
    /float32, float16 or bfloat16/,
  ],
  [
    'weights that are cut short',
    'checkpoint',
    () => truncate(at('checkpoint/model.safetensors'), 10),
    /checkpoint\/model\.safetensors: Expected all tensors within the \d+ bytes after the header but received tensor/,
    /cut short/,
  ],
  [
    'weights that are nearly nothing',
    'checkpoint',
    () => writeFile(at('checkpoint/model.safetensors'), 'x'),
    'Expected at least 8 bytes but received 1',
    /cut short/,
  ],
  [
    'a header that says it is larger than the file',
    'checkpoint',
    () => writeFile(at('checkpoint/model.safetensors'), Buffer.from([0, 0, 1, 0, 0, 0, 0, 0, 0x7b])),
    "Expected a header within the file's 9 bytes but received a length of 65536",
    /cut short/,
  ],
  [
    'a shard that is missing',
    'checkpoint',
    async () => rm(at('checkpoint', (await shard(at('checkpoint')))[1])),
    /model\.safetensors\.index\.json: model-00002-of-00002\.safetensors: Expected a readable file but received Error: ENOENT/,
    /fetch the shard/,
  ],
  [
    'a shard that is cut short',
    'checkpoint',
    async () => truncate(at('checkpoint', (await shard(at('checkpoint')))[0]), 4),
    /index\.json: model-00001-of-00002\.safetensors: Expected all tensors within/,
    /cut short/,
  ],
  [
    'an index that lies',
    'checkpoint',
    async () => {
      const [one] = await shard(at('checkpoint'));
      await editJson(at('checkpoint/model.safetensors.index.json'), { weight_map: { gone: one } });
    },
    /index\.json: Expected tensor "gone" in model-00001-of-00002\.safetensors but received none/,
  ],
  [
    'an index that leads outside',
    'checkpoint',
    async () => {
      await shard(at('checkpoint'));
      await editJson(at('checkpoint/model.safetensors.index.json'), { weight_map: { a: '../../x.safetensors' } });
    },
    'Expected weight_map\'s "a" to be a safetensors file in the folder but received "../../x.safetensors"',
  ],
  ...(isPosix
    ? ([
        [
          'a pipe in place of weights',
          'checkpoint',
          async () => {
            await rm(at('checkpoint/model.safetensors'));
            await promisify(execFile)('mkfifo', [at('checkpoint/model.safetensors')]);
          },
          'checkpoint/model.safetensors: Expected a file but received something else',
        ],
        [
          'a pipe in place of their index',
          'checkpoint',
          async () => {
            await rm(at('checkpoint/model.safetensors'));
            await promisify(execFile)('mkfifo', [at('checkpoint/model.safetensors.index.json')]);
          },
          'checkpoint/model.safetensors.index.json: Expected a file but received something else',
        ],
      ] as const)
    : []),
  // A vision checkpoint.
  [
    'no processor',
    'vision',
    () => rm(at('vision/preprocessor_config.json')),
    'vision: Expected a file preprocessor_config.json but there is none',
    /resized and scaled/,
  ],
  [
    'a processor of an unknown kind',
    'vision',
    seen({ image_processor_type: 'PixtralImageProcessor' }),
    /vision\/preprocessor_config\.json: image_processor_type: Expected an image processor of ViT, .* but received "PixtralImageProcessor"/,
    /words that are known/,
  ],
  [
    'a processor with a step of its own',
    'vision',
    seen({ do_pad: true }),
    'do_pad: Expected none or false (not implemented) but received true',
    /words that are known/,
  ],
  [
    'a processor that gives images of many sizes',
    'vision',
    seen({ size: { shortest_edge: 64 } }),
    'size, do_center_crop: Expected one output size for all images (an exact size, or a crop) but received',
    /words that are known/,
  ],
  [
    'images of a size that the encoder was not made for',
    'vision',
    () => vit({ image_processor_type: 'ViTImageProcessor', size: 16 }),
    'vision/config.json: Expected images of image_size 12 × 12 but received 16 × 16: positions of vit are not interpolated',
    /image_size of config\.json/,
  ],
  [
    'an encoder whose tensors are of another',
    'vision',
    async () => {
      await vit({ image_processor_type: 'ViTImageProcessor', size: 12 });
      await editTensors(at('vision/model.safetensors'), (tensors) => tensors.delete('vit.layernorm.bias'));
    },
    'vision/model.safetensors: Expected a tensor vit.layernorm.bias of [16] but the checkpoint has none',
    /of two models/,
  ],
  [
    'a setting that is not implemented',
    'vision',
    () => editJson(at('vision/config.json'), { output_stride: 12 }),
    'vision/config.json: output_stride: Expected 8 or 16 or 32 but received 12',
  ],
  // A backbone.
  [
    'a manifest of another format',
    'backbone',
    () => editJson(at('backbone.json'), { format: 'graft-backbone/2' }),
    'backbone.json: format: Expected "graft-backbone/1" but received "graft-backbone/2"',
  ],
  [
    'a key that nobody knows',
    'backbone',
    () => editJson(at('backbone.json'), { visoin: 'x' }),
    'backbone.json: file: Expected no other keys but received "visoin"',
  ],
  [
    'a folder that is not there',
    'backbone',
    () => editJson(at('backbone.json'), { vision: 'gone' }),
    /backbone\.json: vision: Expected a checkpoint folder with config\.json at \S+gone but there is none/,
  ],
  [
    'features of an encoder that has no choice',
    'backbone',
    () => editJson(at('backbone.json'), { vision_feature_layer: -2 }),
    'backbone.json: vision_feature_layer: Expected none, because mobilenet_v2 has one kind of features, but received -2',
  ],
  [
    'an encoder in place of the decoder',
    'backbone',
    () => editJson(at('backbone.json'), { language: 'vision' }),
    /vision\/config\.json: Expected a language model_type of .* but received mobilenet_v2/,
    /an encoder is "vision" in backbone\.json/,
  ],
  // An adapter of ours.
  [
    'a manifest of another format',
    'adapter',
    () => editJson(at('adapter/adapter.json'), { format: 'context-peft/2' }),
    'adapter.json: Expected format to be "context-peft/1" but received "context-peft/2"',
  ],
  [
    'the fingerprint of another backbone',
    'adapter',
    () => editJson(at('adapter/adapter.json'), { backbone: { language: 'x', language_fingerprint: `sha256:${'0'.repeat(64)}` } }),
    /adapter\.json: Expected a language model of fingerprint sha256:0{64} but received sha256:[0-9a-f]{64}/,
    /graft train --from/,
  ],
  [
    'a context that the backbone lacks',
    'adapter',
    async () => {
      await cp(at('adapter/text'), at('adapter/audio'), { recursive: true });
      await editJson(at('adapter/adapter.json'), { contexts: ['image', 'text', 'audio'] });
    },
    'adapter.json: Expected contexts among image, text, all but received "audio"',
    /vision encoder/,
  ],
  [
    'no projector',
    'adapter',
    () => rm(at('adapter/projector.safetensors')),
    'projector.safetensors: Expected a file but received none (an adapter without one says "projector": false)',
  ],
  [
    'a context without its files',
    'adapter',
    () => rm(at('adapter/image'), { recursive: true }),
    'image/adapter_config.json: Expected a file but received none',
  ],
  // One of PEFT's.
  [
    'DoRA',
    'peft',
    peft({ use_dora: true }),
    'adapter_config.json: Expected use_dora to be off, because it is not implemented, but received true',
    /merge_and_unload/,
  ],
  [
    'modules_to_save',
    'peft',
    peft({ modules_to_save: ['lm_head'] }),
    'adapter_config.json: Expected modules_to_save to be off, because it is not implemented, but received ["lm_head"]',
    /merge_and_unload/,
  ],
  [
    'trained biases',
    'peft',
    peft({ bias: 'all' }),
    'adapter_config.json: Expected bias to be "none" (trained biases are not implemented) but received "all"',
  ],
  [
    'a method of PEFT that is not implemented',
    'peft',
    peft({ peft_type: 'LOHA' }),
    'adapter_config.json: Expected peft_type among LORA, IA3, BITFIT but received "LOHA"',
  ],
  [
    'a rank that is not that of the tensors',
    'peft',
    peft({ r: 8 }),
    `adapter_model.safetensors: Expected lora_A of ${Q} to be [8, 16] but received [3, 16]`,
    /rank_pattern/,
  ],
  [
    'modules that the family does not have',
    'peft',
    peft({ target_modules: ['c_attn'] }),
    'adapter_config.json: Expected target_modules among q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj but received "c_attn"',
    /another family/,
  ],
  [
    'pickle only',
    'peft',
    () => rename(at('peft/adapter_model.safetensors'), at('peft/adapter_model.bin')),
    'adapter_model.safetensors: Expected a file but received none (only safetensors is read, never pickle)',
    /open it with PEFT and save it/,
  ],
  [
    'numbers that are none',
    'peft',
    trained((tensors) => tensors.set(SAVED_Q, tensor([3, 16], new Float32Array(48).fill(Number.NaN)))),
    `adapter_model.safetensors: Expected finite numbers in lora_A of ${Q} but received NaN at index 0`,
    /spoils every answer/,
  ],
  [
    'a tensor too many',
    'peft',
    trained((tensors) => tensors.set('extra', zeros(2))),
    'adapter_model.safetensors: Expected no other tensors but received "extra"',
  ],
  [
    'tensors that are cut short',
    'peft',
    () => truncate(at('peft/adapter_model.safetensors'), 5),
    /adapter_model\.safetensors: Expected all tensors within/,
    /cut short/,
  ],
];

describe('what is broken', () => {
  it.each(CASES.map((one) => [one[0], one[1], one] as const))('%s in %s', async (_, target, [, , breakIt, fault, advice]) => {
    await breakIt();
    const isAdapter = target === 'adapter' || target === 'peft';
    const folder = target === 'backbone' ? place : at(target);
    const { sentences, advice: advised, parts } = await examine(folder, isAdapter ? { backbone: whole } : {});
    expect(sentences).toContainEqual(expect.stringMatching(typeof fault === 'string' ? literal(fault) : fault));
    if (advice) expect(advised).toContainEqual(expect.stringMatching(advice));
    for (const sentence of sentences) told.add(sentence);
    for (const sentence of sentences) expect(sentence).toMatch(/\S+: .*Expected .* (received|there is|the checkpoint has)/s);
    expect(parts.length).toBeGreaterThan(0);

    // Serving refuses it too, and what it says at its first stage is among what is said here.
    const { target: modules } = await describeBackbone(await readBackbone(whole));
    const refused = await refusal(isAdapter ? readAdapter(folder, modules) : serve(target === 'vision' ? place : folder));
    const isNamedOtherwise = refused.message.endsWith("a language checkpoint's config.json, but there is neither");
    expect(sentences).toEqual(expect.arrayContaining(isNamedOtherwise ? [] : [...refused.sentences]));
  });

  it('is told all at once, past the stage at which serving would stop', async () => {
    await config({ rope_parameters: { rope_type: 'yarn', factor: 4 } })();
    await rm(at('checkpoint/tokenizer.json'));
    await truncate(at('checkpoint/model.safetensors'), 10);
    await seen({ do_pad: true })();
    await editTensors(at('vision/model.safetensors'), (tensors) => tensors.delete('mobilenet_v2.conv_1x1.normalization.bias'));
    const { sentences } = await examine(place);
    expect(sentences).toEqual([
      expect.stringContaining('Expected rotary positions of type'),
      expect.stringContaining('Expected a file tokenizer.json'),
      expect.stringContaining('Expected all tensors within'),
      expect.stringContaining('do_pad: Expected none or false'),
      expect.stringContaining('Expected a tensor mobilenet_v2.conv_1x1.normalization.bias of [128]'),
    ]);
  });

  it('is told of an adapter without a backbone as far as that goes, and of the backbone beside it', async () => {
    await peft({ use_dora: true, r: 8 })();
    const alone = await examine(at('peft'));
    expect(alone.sentences).toEqual([
      expect.stringContaining('use_dora'),
      ...Array.from({ length: 12 }, () => expect.stringMatching(/Expected lora_[AB] of \S+ to be/) as string),
    ]);
    await rm(at('checkpoint/tokenizer.json'));
    const { sentences, parts } = await examine(at('adapter'), { backbone: place });
    expect(sentences).toEqual([`${at('checkpoint')}: Expected a file tokenizer.json but there is none`]);
    expect(parts.map(({ kind }) => kind)).toEqual(['adapter', 'backbone', 'language', 'vision']);
  });

  it('is a folder of neither, by what is in it', async () => {
    await mkdir(at('notes'));
    await writeFile(at('notes/readme.md'), '');
    expect((await examine(at('notes'))).sentences).toEqual([
      `${at('notes')}: Expected adapter.json or adapter_config.json (an adapter), backbone.json (a backbone) or config.json (a checkpoint) but received ["readme.md"]`,
    ]);
  });

  it.each([
    ['nothing at all', 'nowhere', undefined, /at \S+nowhere but there is nothing/],
    ['a backbone beside a backbone', '.', '.', /Expected --backbone beside an adapter but \S+ is none/],
    ['an adapter in its place', 'adapter', 'peft', /Expected --backbone to be a backbone but \S+peft is of kind adapter/],
    ['an encoder in its place', 'adapter', 'vision', /Expected --backbone to be a backbone but \S+vision is of kind vision/],
  ])('is not %s: that is a mistake of who asks', async (_, folder, backbone, message) => {
    const flags = backbone === undefined ? {} : { backbone: at(backbone) };
    await expect(doctor(at(folder), flags)).rejects.toMatchObject({
      code: 'invalid_config',
      message: expect.stringMatching(message) as string,
    });
  });

  it('has met every rule of advice', () => {
    for (const [rule] of ADVICE)
      expect(
        [...told].some((sentence) => rule.test(sentence)),
        rule.source,
      ).toBe(true);
  });
});

describe('numbers that are none in weights', () => {
  it.each([
    ['float32', [0, 0, 0xc0, 0x7f], 'NaN'],
    ['float16', [0, 0x7c], 'Infinity'],
    ['bfloat16', [0x80, 0xff], '-Infinity'],
  ] as const)('of %s are found by --deep alone; serving does not look for them', async (dtype, bytes, value) => {
    const width = bytes.length;
    await weights((tensors) => {
      const data = new Uint8Array(16 * width);
      data.set(bytes, 5 * width);
      tensors.set('model.norm.weight', { dtype, shape: [16], data });
    })();
    expect((await examine(place)).fits).toBe(true);
    await serve(place);
    const { sentences, advice } = await examine(place, { deep: true });
    expect(sentences).toEqual([
      expect.stringMatching(
        `checkpoint/model\\.safetensors: Expected finite numbers in model\\.norm\\.weight but received ${value} at index 5$`,
      ),
    ]);
    expect(advice).toHaveLength(1);
  });

  it('are looked for in every tensor that is used', async () => {
    const { fits, parts } = await examine(place, { deep: true });
    expect(fits).toBe(true);
    expect(parts.map(({ facts }) => facts['numbers_read'])).toEqual([undefined, 20, 260]);
  });
});

describe('what is whole', () => {
  it('is told: a backbone', async () => {
    const { text, fits } = await doctor(place, {});
    expect(fits).toBe(true);
    expect(text).toMatch(/^backbone \S+: fits\n {2}name +tiny\n {2}contexts +image, text\n/);
    const { parts } = await examine(place);
    expect(parts.map(({ kind }) => kind)).toEqual(['backbone', 'language', 'vision']);
    expect(parts[1]?.facts).toMatchObject({
      family: 'llama',
      dtype: ['float32'],
      memory_bytes: 4 * Number(parts[1]?.facts['parameters']),
      bytes: 4 * Number(parts[1]?.facts['parameters']),
      context_length: 64,
      tied: true,
      chat_template: false,
      trainable: ['lora', 'bitfit', 'ia3', 'full'],
    });
    expect(parts[2]?.facts).toMatchObject({
      family: 'mobilenet_v2',
      dtype: ['float16'],
      image_size: '64x64',
      image_tokens: 4,
      image_dim: TINY.imageDim,
    });
  });

  it('is told: an adapter, and which backbone it fits', async () => {
    const { parts, fits } = await examine(at('adapter'), { backbone: place });
    expect(fits).toBe(true);
    expect(parts).toHaveLength(1);
    expect(parts[0]?.facts).toMatchObject({
      method: 'lora',
      contexts: ['image', 'text'],
      rank: 3,
      fits_backbone: 'tiny',
      made_for: ['checkpoint', 'vision'],
      matched: '12 of 12 modules',
      projector: true,
    });
    const alone = await examine(at('adapter'));
    expect(alone.parts[0]?.facts['parameters']).toBe(parts[0]?.facts['parameters']);
    expect(alone.parts[0]?.notes).toEqual(['its files are in order; --backbone says whether it fits one']);
  });

  it('has notes of what may surprise', async () => {
    await editJson(at('checkpoint/config.json'), { eos_token_id: null });
    await rm(at('checkpoint/generation_config.json'));
    await weights((tensors) => tensors.set('rotary.inv_freq', zeros(2)))();
    await writeFile(at('checkpoint/chat_template.jinja'), '{{ messages }}');
    const { parts, fits } = await examine(at('checkpoint'));
    expect(fits).toBe(true);
    expect(parts[0]?.notes).toEqual([
      '1 tensor that nothing reads: rotary.inv_freq',
      'no eos_token_id: a text ends only where max_tokens or a stop string says so',
    ]);
    expect(parts[0]?.facts['chat_template']).toBe(true);
  });

  it('is what ships', async () => {
    const backbone = join(SHIPPED, 'models/scenes');
    expect(await examine(backbone, { deep: true })).toMatchObject({ fits: true });
    await serve(backbone);
    const { target } = await describeBackbone(await readBackbone(backbone));
    const adapters = (await readdir(join(SHIPPED, 'adapters'), { withFileTypes: true })).filter((entry) => entry.isDirectory());
    expect(adapters.length).toBeGreaterThan(8);
    for (const { name } of adapters) {
      const folder = join(SHIPPED, 'adapters', name);
      expect(await examine(folder, { backbone }), name).toMatchObject({ fits: true });
      await readAdapter(folder, target);
    }
  });

  it.each(checkpointFolders().map((folder) => [`${basename(dirname(folder))}/${basename(folder)}`, folder]))(
    'is the checkpoint %s, once it has what fixtures leave out',
    async (_, folder) => {
      const { model_type: type } = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as { model_type: string };
      const isVision = VISION_TYPES.includes(type);
      const copy = at(isVision ? 'vision' : 'checkpoint');
      await rm(copy, { recursive: true });
      await cp(folder, copy, { recursive: true });
      const left = isVision ? 'preprocessor_config.json' : 'tokenizer.json';
      if (!(await readdir(copy)).includes(left)) {
        expect((await examine(copy)).sentences).toEqual([expect.stringContaining(`Expected a file ${left} but there is none`)]);
        if (isVision) {
          const [height, width] = (await readVisionModel(copy)).imageSize;
          await writeFile(
            join(copy, left),
            JSON.stringify({ image_processor_type: 'ViTImageProcessor', size: { height, width } }),
          );
        } else {
          await cp(join(whole, 'checkpoint', left), join(copy, left));
        }
      }
      expect(await examine(copy)).toMatchObject({ fits: true, sentences: [] });
      await serve(isVision ? place : copy);
    },
  );
});

describe('hostile bytes', () => {
  const FILES = [
    'backbone.json',
    'checkpoint/config.json',
    'checkpoint/tokenizer.json',
    'checkpoint/tokenizer_config.json',
    'checkpoint/model.safetensors',
    'vision/config.json',
    'vision/preprocessor_config.json',
    'vision/model.safetensors',
    'adapter/adapter.json',
    'adapter/text/adapter_config.json',
    'adapter/text/adapter_model.safetensors',
    'adapter/projector.safetensors',
  ];

  it('are faults or change nothing, and never an exception', async () => {
    const edit = fc.record({
      file: fc.constantFrom(...FILES),
      at: fc.nat(),
      bytes: fc.oneof(
        fc.uint8Array({ minLength: 1, maxLength: 8 }),
        fc.constantFrom('{', '[', '"', '0', '9', ':', 'null,').map((text) => Buffer.from(text)),
      ),
      cut: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 3 }), async (edits) => {
        const folder = await mkdtemp(join(root, 'hostile-'));
        try {
          await cp(whole, folder, { recursive: true });
          for (const { file, at: position, bytes, cut } of edits) {
            const before = await readFile(join(folder, file));
            const start = position % Math.min(before.byteLength + 1, 4000);
            await writeFile(
              join(folder, file),
              Buffer.concat([before.subarray(0, start), bytes, ...(cut ? [] : [before.subarray(start + bytes.length)])]),
            );
          }
          expect(typeof (await examine(folder)).fits).toBe('boolean');
          expect(typeof (await examine(join(folder, 'adapter'), { backbone: whole })).fits).toBe('boolean');
        } finally {
          await rm(folder, { recursive: true });
        }
      }),
      { numRuns: 40 },
    );
  });
});

function literal(text: string): RegExp {
  return new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
}
