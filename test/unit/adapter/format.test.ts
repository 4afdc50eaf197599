/**
 * Reading adapters: what comes out is what went in, and everything that can be wrong with a folder is said, all of it at once.
 * The folders are real, written by our own writer and then broken one way at a time.
 */
import { mkdir, mkdtemp, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Method } from '../../../src/adapter/adapter.js';
import { digestFolder } from '../../../src/adapter/digest.js';
import { encoderFingerprint, fingerprint } from '../../../src/adapter/fingerprint.js';
import { arraysOf, readAdapter } from '../../../src/adapter/format.js';
import { type AdapterDraft, writeAdapter } from '../../../src/adapter/write.js';
import type { AdapterTarget } from '../../../src/backbone/module.js';
import { AppError } from '../../../src/errors.js';
import { bfloat16FromFloat32, float16FromFloat32, float32FromBfloat16, float32FromFloat16 } from '../../../src/tensor/convert.js';
import { decodeSafetensors, encodeSafetensors, writeSafetensors } from '../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../src/tensor/tensor.js';
import { randomDraft, tinyTarget } from '../../fixtures/adapter/draft.js';

const Q = 'model.layers.1.self_attn.q_proj';
const IMAGE_TENSORS = 'image/adapter_model.safetensors';
const IMAGE_CONFIG = 'image/adapter_config.json';

const target = await tinyTarget();
let root: string;
let folder: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'graft-adapter-'));
  folder = join(root, 'probe');
});

afterEach(async () => {
  await rm(root, { recursive: true });
});

async function write(method: Method = 'lora', seed = 1): Promise<AdapterDraft> {
  const draft = randomDraft(target, { method, seed });
  await writeAdapter(folder, draft);
  return draft;
}

async function editJson(path: string, change: object): Promise<void> {
  const before = JSON.parse(await readFile(join(folder, path), 'utf8')) as object;
  await writeFile(join(folder, path), JSON.stringify({ ...before, ...change }));
}

async function editTensors(path: string, edit: (tensors: Map<string, Tensor>) => void): Promise<void> {
  const { tensors } = decodeSafetensors(await readFile(join(folder, path)), path);
  edit(tensors);
  await writeSafetensors(join(folder, path), tensors);
}

const zeros = (shape: readonly number[]): Tensor => ({
  dtype: 'float32',
  shape,
  data: new Uint8Array(4 * shape.reduce((product, size) => product * size, 1)),
});

/** The error that reading the folder gives. */
async function refusal(against: AdapterTarget = target, expected?: string): Promise<AppError> {
  const outcome = await readAdapter(folder, against, expected).catch((error: unknown) => error);
  expect(outcome).toBeInstanceOf(AppError);
  return outcome as AppError;
}

async function expectFaults(expected: readonly string[], against: AdapterTarget = target): Promise<void> {
  const error = await refusal(against);
  expect(error.faults).toEqual(expected);
  expect(error.code).toBe('adapter_invalid');
  expect(error.message).toMatch(/^adapter probe: /);
}

describe('what was written comes back', () => {
  it('for LoRA: A transposed, B transposed and scaled', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 3 }),
        fc.nat(1000),
        fc.boolean(),
        async (ranks, seed, rankStabilized) => {
          const draft = randomDraft(target, { method: 'lora', seed, ranks, rankStabilized });
          if (draft.method !== 'lora') throw new TypeError('Expected a LoRA draft');
          await writeAdapter(folder, draft);
          const adapter = await readAdapter(folder, target, (await digestFolder(folder)).digest);
          expect(adapter).toMatchObject({ method: 'lora', matched: 28, targeted: 28 });
          expect(adapter.projector).toEqual(draft.projector);
          for (const { context, rank: widest, a0, columns, scales } of adapter.groups) {
            expect([widest, a0, scales.size]).toEqual([Math.max(...ranks.slice(0, 14)), 0, 0]);
            const modules = draft.groups.get(context)?.modules ?? new Map();
            expect([...columns.keys()]).toEqual([...modules.keys()]);
            for (const [name, { rank, alpha, a, b }] of modules) {
              const scale = alpha / (rankStabilized ? Math.sqrt(rank) : rank);
              const [inSize, outSize] = [a.length / rank, b.length / rank];
              expect(columns.get(name)).toEqual({
                rank,
                a: Float32Array.from(a, (_, i) => a[(i % rank) * inSize + Math.floor(i / rank)] as number),
                b: Float32Array.from(b, (_, i) => (b[(i % outSize) * rank + Math.floor(i / outSize)] as number) * scale),
              });
            }
          }
        },
      ),
      { numRuns: 12 },
    );
  });

  it('for BitFit: the biases, as one constant column', async () => {
    const draft = await write('bitfit');
    const adapter = await readAdapter(folder, target);
    expect(adapter).toMatchObject({ method: 'bitfit', matched: 28, targeted: 28 });
    for (const { context, rank, a0, columns } of adapter.groups) {
      expect([rank, a0]).toEqual([1, 1]);
      const modules = draft.method === 'bitfit' ? draft.groups.get(context)?.modules : undefined;
      expect(new Map([...columns].map(([name, { b }]) => [name, b]))).toEqual(modules);
      expect([...columns.values()].every((one) => one.rank === 1 && one.a === null)).toBe(true);
    }
  });

  it('for IA3: the factors minus one', async () => {
    const draft = await write('ia3');
    const adapter = await readAdapter(folder, target);
    expect(adapter).toMatchObject({ method: 'ia3', matched: 12, targeted: 12 });
    for (const { context, rank, columns, scales } of adapter.groups) {
      expect([rank, columns.size]).toEqual([0, 0]);
      const modules = draft.method === 'ia3' ? [...(draft.groups.get(context)?.modules ?? [])] : [];
      expect(scales).toEqual(
        new Map(modules.map(([name, { side, factor }]) => [name, { side, delta: factor.map((l) => l - 1) }])),
      );
    }
  });

  it('for a projector alone', async () => {
    const { projector } = await write('none');
    expect(await readAdapter(folder, target)).toMatchObject({ method: 'none', groups: [], matched: 0, targeted: 0, projector });
  });

  it('for the half-width types, widened', async () => {
    await write();
    const name = `base_model.model.${Q}.lora_A.weight`;
    let half: Float32Array = new Float32Array();
    for (const [dtype, narrow, widen] of [
      ['float16', float16FromFloat32, float32FromFloat16],
      ['bfloat16', bfloat16FromFloat32, float32FromBfloat16],
    ] as const) {
      await editTensors(IMAGE_TENSORS, (tensors) => {
        const bits = narrow(Float32Array.from({ length: 32 }, (_, i) => i / 7));
        half = widen(bits);
        tensors.set(name, { dtype, shape: [2, 16], data: new Uint8Array(bits.buffer) });
      });
      const a = (await readAdapter(folder, target)).groups[0]?.columns.get(Q)?.a;
      expect(a).toEqual(Float32Array.from({ length: 32 }, (_, i) => half[(i % 2) * 16 + Math.floor(i / 2)] as number));
    }
  });

  it('with keys that still carry the adapter name', async () => {
    await write();
    const before = await readAdapter(folder, target);
    await editTensors(IMAGE_TENSORS, (tensors) => {
      const before = [...tensors];
      tensors.clear();
      for (const [name, tensor] of before) tensors.set(name.replace('.weight', '.default.weight'), tensor);
    });
    expect((await readAdapter(folder, target)).groups).toEqual(before.groups);
  });

  it('charges all its arrays, and none of them shares memory with another', async () => {
    for (const method of ['lora', 'bitfit', 'ia3', 'none'] as const) {
      await write(method);
      const adapter = await readAdapter(folder, target);
      const arrays = arraysOf(adapter);
      expect(new Set(arrays.map(({ buffer }) => buffer)).size).toBe(arrays.length);
      expect(adapter.bytes).toBe(arrays.reduce((sum, { buffer }) => sum + buffer.byteLength, 0));
    }
  });

  it('takes a plain PEFT folder as a text adapter without a projector', async () => {
    await write();
    folder = join(folder, 'text');
    expect(await readAdapter(folder, target)).toMatchObject({
      name: 'text',
      method: 'lora',
      matched: 14,
      projector: null,
      groups: [{ context: 'text' }],
    });
  });
});

describe('a version is what its digest says', () => {
  it('is refused as changed, whatever else is wrong with it, where the content is another', async () => {
    await write();
    const { digest } = await digestFolder(folder);
    await expect(readAdapter(folder, target, digest)).resolves.toMatchObject({ digest });
    await writeFile(join(folder, IMAGE_CONFIG), 'not JSON at all');
    expect(await refusal(target, digest)).toMatchObject({ code: 'adapter_changed', retryable: true });
    await rm(folder, { recursive: true });
    expect(await refusal(target, digest)).toMatchObject({ code: 'adapter_changed' });
  });
});

describe('every fault is named', () => {
  it('of all files at once', async () => {
    await write();
    await editJson('adapter.json', { prompt: 5 });
    await editTensors(IMAGE_TENSORS, (tensors) => {
      tensors.set(`base_model.model.${Q}.lora_A.weight`, zeros([2, 17]));
      tensors.delete(`base_model.model.${Q}.lora_B.weight`);
      tensors.set('base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight', zeros([1]));
      tensors.set('lm_head.weight', zeros([1]));
    });
    await unlink(join(folder, 'text/adapter_model.safetensors'));
    await editTensors('projector.safetensors', (tensors) => tensors.set('weight', zeros([16, 7])));
    await expectFaults([
      'adapter.json: Expected prompt to be a string but received 5',
      `${IMAGE_TENSORS}: Expected lora_A of ${Q} to be [2, 16] but received [2, 17]`,
      `${IMAGE_TENSORS}: Expected lora_B of ${Q} but received none`,
      `${IMAGE_TENSORS}: Expected tensors of modules that the backbone has but received "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"`,
      `${IMAGE_TENSORS}: Expected no other tensors but received "lm_head.weight"`,
      'text/adapter_model.safetensors: Expected a file but received none (only safetensors is read, never pickle)',
      'projector.safetensors: Expected weight to be [16, 6] but received [16, 7]',
    ]);
  });

  it.each([
    ['an unknown format', { format: 'context-peft/2' }, 'Expected format to be "context-peft/1" but received "context-peft/2"'],
    ['no format', { format: null }, 'Expected format to be "context-peft/1" but received nothing'],
    ['an unknown method', { method: 'dora' }, 'Expected method to be one of lora, bitfit, ia3, none but received "dora"'],
    [
      'a context that is a path',
      { contexts: ['../image'] },
      'Expected contexts to be a list in which each is a name of letters, digits, _ and - but received ["../image"]',
    ],
    ['no contexts', { contexts: [] }, 'Expected a context at least because method is lora but received []'],
    [
      'a context twice',
      { contexts: ['image', 'text', 'text'] },
      'Expected each context once but received ["image","text","text"]',
    ],
    [
      'a fingerprint that is none',
      { backbone: { language_fingerprint: 'sha256:12' } },
      'Expected language_fingerprint to be "sha256:" and 64 hex digits but received "sha256:12"',
    ],
    ['a backbone that is none', { backbone: { vision: 5 } }, 'Expected backbone.vision to be a name or an object but received 5'],
  ])('%s', async (_, change, fault) => {
    await write();
    await editJson('adapter.json', change);
    await expectFaults([`adapter.json: ${fault}`]);
  });

  it('the group of all contexts beside another', async () => {
    await write();
    await rename(join(folder, 'image'), join(folder, 'all'));
    await editJson('adapter.json', { contexts: ['all', 'text'] });
    await expectFaults(['adapter.json: Expected "all" to be the only context but received ["all","text"]']);
  });

  it('contexts of a method that has none', async () => {
    await write();
    await editJson('adapter.json', { method: 'none' });
    const error = await refusal();
    expect(error.faults).toContain('adapter.json: Expected no contexts because method is none but received ["image","text"]');
  });

  it('a context that the backbone lacks', async () => {
    await write();
    await rename(join(folder, 'image'), join(folder, 'audio'));
    await editJson('adapter.json', { contexts: ['audio', 'text'] });
    await expectFaults(['adapter.json: Expected contexts among image, text, all but received "audio"']);
  });

  it('a method that is not the one of the tensors', async () => {
    await write('ia3');
    await editJson('adapter.json', { method: 'lora' });
    await expectFaults(
      ['image', 'text'].map(
        (c) => `${c}/adapter_config.json: Expected peft_type LORA because the manifest's method is lora but received IA3`,
      ),
    );
  });

  it.each([
    ['use_dora', true],
    ['modules_to_save', ['lm_head']],
    ['lora_bias', true],
    ['trainable_token_indices', [1, 2]],
    ['layer_replication', [[0, 2]]],
    ['megatron_config', { tensor_model_parallel_size: 2 }],
    ['target_parameters', ['experts.down_proj']],
    ['use_qalora', true],
    ['use_bdlora', { nblocks: 2 }],
    ['use_something_yet_to_come', true],
    ['alora_invocation_tokens', [5]],
    ['arrow_config', { top_k: 2 }],
    ['kasa_config', { beta: 1 }],
  ])('the unimplemented feature %s, by name', async (key, value) => {
    await write();
    await editJson(IMAGE_CONFIG, { [key]: value });
    await expectFaults([
      `${IMAGE_CONFIG}: Expected ${key} to be off, because it is not implemented, but received ${JSON.stringify(value)}`,
    ]);
  });

  it.each(['pissa', 'pissa_niter_4', 'olora', 'corda', 'loftq', 'lora_ga', 'mica'])(
    'the initialisation %s, which changes the base',
    async (init) => {
      await write();
      await editJson(IMAGE_CONFIG, { init_lora_weights: init });
      const allowed = 'one that leaves the base weights alone (true, false, gaussian, eva, orthogonal)';
      await expectFaults([`${IMAGE_CONFIG}: Expected init_lora_weights to be ${allowed} but received "${init}"`]);
    },
  );

  it.each([
    [
      'trained biases',
      { bias: 'lora_only' },
      'Expected bias to be "none" (trained biases are not implemented) but received "lora_only"',
    ],
    ['an unknown type', { peft_type: 'VERA' }, 'Expected peft_type among LORA, IA3, BITFIT but received "VERA"'],
    ['no type', { peft_type: null }, 'Expected peft_type to be a string but received nothing'],
    ['a rank of zero', { r: 0 }, 'Expected r to be a positive integer but received 0'],
    [
      'a rank in words',
      { rank_pattern: { q_proj: '8' } },
      'Expected rank_pattern\'s "q_proj" to be a positive integer but received "8"',
    ],
    [
      'a pattern that is none',
      { alpha_pattern: { '(q_proj': 8 } },
      'Expected alpha_pattern to be a regular expression but received "(q_proj" (Invalid regular expression: /(q_proj/: Unterminated group)',
    ],
    ['no targets', { target_modules: null }, 'Expected target_modules to be a string or a list but received nothing'],
    [
      'layers beside a pattern',
      { target_modules: '.*', layers_to_transform: 1 },
      'Expected no layers_to_transform beside a regular expression but received [1]',
    ],
    [
      'an unknown module',
      { target_modules: ['q_proj', 'c_attn'], exclude_modules: '.*' },
      'Expected target_modules among q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj but received "c_attn"',
    ],
    [
      'no match at all',
      { target_modules: 'h\\.\\d+\\.attn' },
      'Expected target_modules to match a module of the backbone (q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj) but received "h\\\\.\\\\d+\\\\.attn"',
    ],
  ])('%s', async (_, change, fault) => {
    await write();
    await editJson(IMAGE_CONFIG, change);
    await expectFaults([`${IMAGE_CONFIG}: ${fault}`]);
  });

  it('a layout of weights that is not the backbone’s', async () => {
    await write();
    await editJson(IMAGE_CONFIG, { fan_in_fan_out: true });
    await expectFaults([
      `${IMAGE_CONFIG}: Expected fan_in_fan_out to be false, because the weight of model.layers.0.self_attn.q_proj is [out, in], but received true`,
    ]);
  });

  it('tensors of a module that the configuration does not target', async () => {
    await write();
    await editJson(IMAGE_CONFIG, { exclude_modules: ['1.self_attn.q_proj'] });
    const fault = (part: string) =>
      `${IMAGE_TENSORS}: Expected tensors of modules that the configuration targets but received "base_model.model.${Q}.${part}.weight"`;
    await expectFaults([fault('lora_A'), fault('lora_B')]);
  });

  it('a tensor under two names', async () => {
    await write();
    await editTensors(IMAGE_TENSORS, (tensors) => tensors.set(`base_model.model.${Q}.lora_A.default.weight`, zeros([2, 16])));
    const error = await refusal();
    expect(error.faults).toHaveLength(1);
    expect(error.faults?.[0]).toMatch(
      /Expected lora_A of model\.layers\.1\.self_attn\.q_proj once but received "base_model.* as well$/,
    );
  });

  it('values that are not finite: the tensor, and the first index', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(31),
        fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
        async (index, bad) => {
          await write();
          await editTensors(IMAGE_TENSORS, (tensors) => {
            const values = new Float32Array(32).fill(bad, index);
            tensors.set(`base_model.model.${Q}.lora_A.weight`, {
              dtype: 'float32',
              shape: [2, 16],
              data: new Uint8Array(values.buffer),
            });
          });
          await expectFaults([
            `${IMAGE_TENSORS}: Expected finite numbers in lora_A of ${Q} but received ${bad} at index ${index}`,
          ]);
        },
      ),
      { numRuns: 8 },
    );
  });

  it('a scale that makes values infinite', async () => {
    await write();
    await editJson(IMAGE_CONFIG, { alpha_pattern: { '1.self_attn.q_proj': 1e39 }, rank_pattern: {} });
    const error = await refusal();
    expect(error.faults?.[0]).toMatch(
      /Expected finite numbers in lora_B × 5e\+38 of model\.layers\.1\.self_attn\.q_proj but received -?Infinity at index 0/,
    );
  });

  it('integers in the place of floats', async () => {
    await write();
    await editTensors(IMAGE_TENSORS, (tensors) =>
      tensors.set(`base_model.model.${Q}.lora_A.weight`, { dtype: 'int32', shape: [2, 16], data: new Uint8Array(128) }),
    );
    await expectFaults([`${IMAGE_TENSORS}: Expected lora_A of ${Q} to be float32, float16 or bfloat16 but received int32`]);
  });

  it('IA3 where the backbone cannot scale, and on the wrong side', async () => {
    await write('ia3');
    await editJson(IMAGE_CONFIG, {
      target_modules: ['k_proj', 'v_proj', 'down_proj', '1.self_attn.q_proj'],
      feedforward_modules: ['down_proj', '1.self_attn.k_proj'],
    });
    await editTensors(IMAGE_TENSORS, (tensors) => {
      tensors.set(`base_model.model.${Q}.ia3_l`, zeros([16, 1]));
      tensors.set('base_model.model.model.layers.1.self_attn.k_proj.ia3_l', zeros([1, 16]));
    });
    await expectFaults([
      `${IMAGE_CONFIG}: ${Q}: Expected IA3 to leave it alone but received a scale of its output`,
      `${IMAGE_CONFIG}: model.layers.1.self_attn.k_proj: Expected IA3 to scale its output but received a scale of its input`,
    ]);
  });

  it('a projector that is missing, superfluous, or of a backbone that sees', async () => {
    await write();
    await expectFaults(
      ['projector.safetensors: Expected no projector, because the backbone has no vision encoder, but received one'],
      { ...target, imageDim: null },
    );
    await editJson('adapter.json', { projector: false });
    await expectFaults(['projector.safetensors: Expected no file, because the manifest says so, but received one']);
    await unlink(join(folder, 'projector.safetensors'));
    await expect(readAdapter(folder, target)).resolves.toMatchObject({ projector: null });
    await editJson('adapter.json', { projector: null });
    await expectFaults([
      'projector.safetensors: Expected a file but received none (an adapter without one says "projector": false)',
    ]);
  });

  it('a projector with other tensors, or without its own', async () => {
    await write();
    await writeSafetensors(join(folder, 'projector.safetensors'), [['kernel', zeros([2])]]);
    await expectFaults([
      'projector.safetensors: Expected the tensors weight and bias but received "kernel"',
      'projector.safetensors: Expected a tensor weight but received none',
      'projector.safetensors: Expected a tensor bias but received none',
    ]);
  });

  it('a backbone of another fingerprint', async () => {
    await write();
    const own = await fingerprint(target.languageFolder);
    const other = `sha256:${'0'.repeat(64)}`;
    for (const stated of [
      { language: 'tiny', language_fingerprint: other },
      { language: { name: 'tiny', fingerprint: other } },
    ]) {
      await editJson('adapter.json', { backbone: stated });
      await expectFaults([`adapter.json: Expected a language model of fingerprint ${other} but received ${own}`]);
    }
    await editJson('adapter.json', { backbone: { language: { name: 'tiny', fingerprint: own }, vision: null } });
    await expect(readAdapter(folder, target)).resolves.toMatchObject({ matched: 28 });
    await editJson('adapter.json', { backbone: { vision_fingerprint: other } });
    await expectFaults([
      `adapter.json: Expected a backbone with a vision model of fingerprint ${other} but received one without`,
    ]);
  });

  it('an encoder of the same weights and other features', async () => {
    await write();
    const encoder = { ...target, visionFolder: target.languageFolder };
    const chosen = { ...encoder, visionFeatures: 'layer 3, full' };
    const [own, other] = await Promise.all(
      [encoder, chosen].map((each) => encoderFingerprint(each.visionFolder, each.visionFeatures)),
    );
    await editJson('adapter.json', { backbone: { vision_fingerprint: own } });
    await expect(readAdapter(folder, encoder)).resolves.toMatchObject({ matched: 28 });
    const fault = `adapter.json: Expected a vision model of fingerprint ${own} but received ${other}`;
    await expectFaults([`${fault} (features chosen: layer 3, full)`], chosen);
    await editJson('adapter.json', { backbone: { vision_fingerprint: other } });
    await expect(readAdapter(folder, chosen)).resolves.toMatchObject({ matched: 28 });
    await expectFaults([`adapter.json: Expected a vision model of fingerprint ${other} but received ${own}`], encoder);
  });

  it('files that are cut short, too large, or no files', async () => {
    await write();
    const bytes = await readFile(join(folder, IMAGE_TENSORS));
    await writeFile(join(folder, IMAGE_TENSORS), bytes.subarray(0, -4));
    const [fault, ...others] = (await refusal()).faults ?? [];
    expect(fault).toMatch(
      /^image\/adapter_model\.safetensors: Expected all tensors within the \d+ bytes after the header but received/,
    );
    expect(others).toEqual([]);
    await writeFile(join(folder, IMAGE_CONFIG), ' '.repeat(1024 ** 2 + 1));
    await expectFaults([`${IMAGE_CONFIG}: Expected at most 1048576 bytes but received 1048577`]);
    await unlink(join(folder, IMAGE_CONFIG));
    await mkdir(join(folder, IMAGE_CONFIG));
    await expectFaults([`${IMAGE_CONFIG}: Expected a file but received something else`]);
  });

  it('a folder that is none of an adapter', async () => {
    await mkdir(folder);
    await expectFaults(['Expected adapter.json, or adapter_config.json of a plain PEFT adapter, but received neither']);
    await writeFile(join(folder, 'adapter.json'), '[]');
    await expectFaults(['adapter.json: Expected an object but received []']);
    await writeFile(join(folder, 'adapter.json'), new Uint8Array([0xff, 0xfe]));
    await expectFaults(['adapter.json: Expected JSON in UTF-8 but received other bytes']);
    await writeFile(join(folder, 'adapter.json'), '{"format": "context-peft/1", "format": "x"}');
    expect((await refusal()).faults?.[0]).toBe('adapter.json: Expected each key once but received "format" again');
  });

  it('a pattern that would run for ever', async () => {
    await write();
    await editJson(IMAGE_CONFIG, { target_modules: '((\\w|\\.)+)+!' });
    const error = await refusal();
    expect(error.faults?.[0]).toMatch(/^image\/adapter_config\.json: Expected target_modules to match within 2000 ms/);
  });

  it('and never anything but AppError, however the files are damaged', async () => {
    await write();
    const { length } = await readFile(join(folder, IMAGE_TENSORS));
    const paths = fc.constantFrom('adapter.json', IMAGE_CONFIG, IMAGE_TENSORS, 'projector.safetensors');
    const damage = fc.array(fc.tuple(fc.nat(length), fc.nat(255)), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(paths, damage, fc.boolean(), async (path, edits, cut) => {
        await write();
        const bytes = await readFile(join(folder, path));
        for (const [at, value] of edits) bytes[at % bytes.length] = value;
        await writeFile(join(folder, path), cut ? bytes.subarray(0, edits[0]?.[0]) : bytes);
        const outcome = await readAdapter(folder, target).catch((error: unknown) => error);
        if (outcome instanceof Error) expect(outcome).toMatchObject({ name: 'AppError', code: 'adapter_invalid' });
        else expect(outcome).toMatchObject({ name: 'probe', targeted: expect.any(Number) });
      }),
      { numRuns: 60 },
    );
  });
});

describe('a plain folder', () => {
  it('without tensors, or with an encoder for images that nobody asked for', async () => {
    await write();
    await mkdir(dirname(join(root, 'plain/x')));
    await writeFile(join(root, 'plain/adapter_config.json'), await readFile(join(folder, IMAGE_CONFIG)));
    await writeFile(join(root, 'plain/projector.safetensors'), encodeSafetensors([]));
    const error = await readAdapter(join(root, 'plain'), target).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'adapter_invalid',
      faults: ['adapter_model.safetensors: Expected a file but received none (only safetensors is read, never pickle)'],
    });
  });
});
