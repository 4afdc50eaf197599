/**
 * LoRAs that llama.cpp's own script has converted (test/fixtures/gguf/make.py) against the PEFT folders that it converted them from: the same
 * numbers, to the bit, under the same names, with the scale that the file states.
 */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { exportGguf } from '../../../src/adapter/export.js';
import { readAdapter } from '../../../src/adapter/format.js';
import { importAdapter } from '../../../src/adapter/import.js';
import { type BackboneDescription, describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { AppError } from '../../../src/errors.js';
import { decodeGguf, type Gguf } from '../../../src/tensor/gguf.js';
import { decodeSafetensors } from '../../../src/tensor/safetensors.js';
import { FIXTURES as SAVED } from '../../fixtures/adapter/draft.js';
import { f32, floatField, LORA, type MadeGguf, makeGguf, textField, u32, u64 } from '../../support/gguf.js';

const FIXTURES = fileURLToPath(new URL('../../fixtures/gguf/', import.meta.url));
const DECODERS = fileURLToPath(new URL('../../fixtures/backbone/decoders/', import.meta.url));

let root: string;
let out: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'graft-gguf-'));
});
afterAll(() => rm(root, { recursive: true }));
beforeEach(async () => {
  out = await mkdtemp(join(root, 'out-'));
});

const llama = join(SAVED, 'backbone');
const open = async (folder: string): Promise<BackboneDescription> => describeBackbone(await readBackbone(folder));
const importFile = (backbone: BackboneDescription, file: string) =>
  importAdapter(join(out, 'a'), backbone, { sources: new Map([['text', file]]) });
const jsonOf = async (file: string) => JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;

async function tensorsOf(folder: string) {
  const file = join(folder, 'adapter_model.safetensors');
  const { tensors } = decodeSafetensors(await readFile(file), file);
  return new Map(
    [...tensors].map(([name, { dtype, shape, data }]) => [name, { dtype, shape, bytes: Buffer.from(data).toString('hex') }]),
  );
}

describe('as llama.cpp converts them, back to what PEFT saved', () => {
  it.each<[string, string, string, number]>([
    ['lora-linear', join(SAVED, 'lora-linear'), llama, 4],
    ['lora-layers', join(SAVED, 'lora-layers'), llama, 2],
    ['lora-regex', join(SAVED, 'lora-regex'), llama, 5],
    ...['qwen2', 'qwen3', 'phi3'].map((family): [string, string, string, number] => {
      const name = `${family}-lora`;
      return [name, join(DECODERS, 'adapters', name), join(DECODERS, family), 3];
    }),
  ])('%s', async (name, folder, model, alpha) => {
    const backbone = await open(model);
    const imported = await importFile(backbone, join(FIXTURES, `${name}.gguf`));
    expect(await tensorsOf(join(out, 'a/text'))).toEqual(await tensorsOf(folder));
    expect(await jsonOf(join(out, 'a/text/adapter_config.json'))).toMatchObject({ lora_alpha: alpha, use_rslora: false });
    const { groups, matched } = await readAdapter(folder, backbone.target);
    expect(imported).toMatchObject({ name: 'a', method: 'lora', matched, groups });
  });

  it('ranks that differ by module; of scales the file has only one', async () => {
    const backbone = await open(llama);
    await importFile(backbone, join(FIXTURES, 'lora-patterns.gguf'));
    expect(await tensorsOf(join(out, 'a/text'))).toEqual(await tensorsOf(join(SAVED, 'lora-patterns')));
    expect(await jsonOf(join(out, 'a/text/adapter_config.json'))).toMatchObject({
      r: 4,
      lora_alpha: 6,
      alpha_pattern: {},
      target_modules: ['down_proj', 'o_proj', 'q_proj', 'v_proj'],
    });
  });
});

describe('as llama.cpp converts them, we do', () => {
  it.each([
    ...['lora-linear', 'lora-layers', 'lora-regex'].map((name) => [name, join(SAVED, name), llama] as const),
    ...['qwen2', 'qwen3', 'phi3'].map(
      (family) => [`${family}-lora`, join(DECODERS, 'adapters', `${family}-lora`), join(DECODERS, family)] as const,
    ),
  ])('%s', async (name, folder, model) => {
    const file = join(out, 'ours.gguf');
    expect(await exportGguf(folder, 'text', await open(model), file)).toMatchObject({ name, context: 'text', left: [] });
    const [ours, theirs] = await Promise.all(
      [file, join(FIXTURES, `${name}.gguf`)].map(async (path) => decodeGguf(await readFile(path), path)),
    );
    const sorted = ({ tensors }: Gguf) => new Map([...tensors].sort(([a], [b]) => (a < b ? -1 : 1)));
    expect(sorted(ours as Gguf)).toEqual(sorted(theirs as Gguf));
    for (const field of ['general.architecture', 'general.type', 'adapter.type', 'adapter.lora.alpha'])
      expect(ours?.fields.get(field), field).toBe(theirs?.fields.get(field));
  });

  it.each([
    ['lora-patterns', /^Expected one alpha other than 0 for all modules, as GGUF has it, but received [\d.]+, /],
    ['ia3', /^Expected a LoRA for text but received ia3 for text$/],
  ])('refused is %s', async (name, fault) => {
    const error: unknown = await exportGguf(join(SAVED, name), 'text', await open(llama), join(out, 'ours.gguf')).catch(
      (thrown: unknown) => thrown,
    );
    expect(error).toMatchObject({ code: 'adapter_invalid', faults: [expect.stringMatching(fault)] });
    expect(await readdir(out)).toEqual([]);
  });
});

describe('by hand', () => {
  const weight = 'blk.1.ffn_down.weight';
  const pair = [
    { name: `${weight}.lora_a`, sizes: [32, 1], data: f32(...Array.from({ length: 32 }, (_, index) => index)) },
    { name: `${weight}.lora_b`, sizes: [1, 16], data: f32(...Array.from({ length: 16 }, (_, index) => -index)) },
  ];
  const make = async (made: MadeGguf): Promise<string> => {
    const file = join(out, 'made.gguf');
    await writeFile(file, makeGguf(made));
    return file;
  };
  const faultsOf = async (model: string, made: MadeGguf): Promise<readonly string[]> => {
    const file = await make(made);
    const error: unknown = await importFile(await open(model), file).catch((thrown: unknown) => thrown);
    if (!(error instanceof AppError) || error.code !== 'adapter_invalid') throw error;
    expect(await readdir(out)).toEqual(['made.gguf']);
    return (error.faults ?? []).map((fault) => fault.replace(`${file}: `, ''));
  };
  const withField = (name: string, field: ReturnType<typeof textField>) => LORA.map((each) => (each[0] === name ? field : each));

  it('an alpha of 0 means, as in llama.cpp, that nothing is scaled', async () => {
    const fields = withField('adapter.lora.alpha', floatField('adapter.lora.alpha', 0));
    const { groups } = await importFile(await open(llama), await make({ fields, tensors: pair }));
    expect(groups[0]?.columns.get('model.layers.1.mlp.down_proj')?.b[3]).toBe(-3);
  });

  it('a LoRA for a mistral, which llama.cpp calls llama, has its rows moved back too', async () => {
    const rows = Array.from({ length: 32 }, (_, index) => index); // Two heads of 16.
    const tensors = [
      { name: 'blk.0.attn_q.weight.lora_a', sizes: [16, 1], data: f32(...rows.slice(0, 16)) },
      { name: 'blk.0.attn_q.weight.lora_b', sizes: [1, 32], data: f32(...rows) },
    ];
    const { groups } = await importFile(await open(join(DECODERS, 'mistral')), await make({ tensors }));
    const b = groups[0]?.columns.get('model.layers.0.self_attn.q_proj')?.b ?? new Float32Array();
    expect([...b].map((value) => value / 4)).toEqual(
      [
        [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15],
        [16, 18, 20, 22, 24, 26, 28, 30, 17, 19, 21, 23, 25, 27, 29, 31],
      ].flat(),
    );
  });

  it.each<[string, MadeGguf, string[]]>([
    [
      'a whole model, of an architecture that is not known',
      { fields: [textField('general.architecture', 'gpt2'), textField('general.type', 'model')], tensors: pair },
      [
        'Expected general.type to be "adapter" but received "model"',
        'Expected adapter.type to be "lora" but received nothing',
        'Expected general.architecture among llama, phi3, qwen2, qwen3 but received "gpt2"',
        'Expected adapter.lora.alpha to be a finite number but received nothing',
      ],
    ],
    [
      'a LoRA that is active from some tokens on',
      { fields: [...LORA, ['adapter.alora.invocation_tokens', 9, Buffer.concat([u32(4), u64(1), u32(7)])]], tensors: pair },
      ['Expected no adapter.alora.invocation_tokens, because such adapters are not implemented, but received a list of 1'],
    ],
    ['nothing', {}, ['Expected tensors of a module at least but received none']],
    [
      'half of a pair, other sizes, and tensors of what is no projection here',
      {
        tensors: [
          { name: 'token_embd.weight.lora_a', sizes: [1, 1], data: f32(1) },
          { name: 'blk.9.attn_q.weight.lora_a', sizes: [16, 1], data: f32(...Array<number>(16).fill(1)) },
          { name: 'blk.0.attn_k.weight.lora_b', sizes: [1, 8], data: f32(...Array<number>(8).fill(1)) },
          { name: 'blk.0.attn_v.weight.lora_a', sizes: [15, 2], data: f32(...Array<number>(30).fill(1)) },
          { name: 'blk.0.attn_v.weight.lora_b', sizes: [3, 8], data: f32(...Array<number>(24).fill(1)) },
        ],
      },
      [
        'Expected blk.0.attn_k.weight.lora_a to be [1, 16] but received none',
        'Expected blk.0.attn_v.weight.lora_a to be [2, 16] but received [2, 15]',
        'Expected blk.0.attn_v.weight.lora_b to be [8, 2] but received [8, 3]',
        `Expected a LoRA's tensors of projections that the backbone has but received "token_embd.weight.lora_a"`,
        `Expected a LoRA's tensors of projections that the backbone has but received "blk.9.attn_q.weight.lora_a"`,
      ],
    ],
    [
      'numbers that are none',
      { tensors: [{ ...pair[0], data: f32(Number.NaN, ...Array<number>(31).fill(0)) } as (typeof pair)[0], ...pair.slice(1)] },
      ['Expected finite numbers in lora_A of model.layers.1.mlp.down_proj but received NaN at index 0'],
    ],
    ['a file of another kind', { magic: 'PK..' }, ['Expected a file that begins with GGUF but received another']],
  ])('refused is %s', async (_, made, faults) => {
    expect(await faultsOf(llama, made)).toEqual(faults);
  });

  it('refused is a LoRA of another family', async () => {
    expect(await faultsOf(join(DECODERS, 'qwen2'), { tensors: pair })).toEqual([
      `Expected an adapter for the backbone's family, qwen2, but received one of architecture "llama"`,
    ]);
  });
});
