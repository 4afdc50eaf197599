/** Where weights of few bits come from: made once, found again, made again where they are not what they should be, and every refusal a sentence. */
import { spawnSync } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { describeBackbone } from '../../../src/backbone/backbone.js';
import type { Matrix } from '../../../src/backbone/language/model.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { blocksOf, tensorsOf } from '../../../src/engine/blocks.js';
import { Decoder } from '../../../src/engine/decoder.js';
import { Checkpoint } from '../../../src/tensor/checkpoint.js';
import { writeSafetensors } from '../../../src/tensor/safetensors.js';
import { elements } from '../../../src/tensor/tensor.js';
import { changedBackbone } from '../../support/checkpoint.js';
import { Gaussian, makeTinyBackbone, tensor } from '../../support/tiny.js';

let folder: string;
let tiny: string;
let cache: string;
let number = 0;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-weights-'));
  tiny = await makeTinyBackbone(path.join(folder, 'tiny'));
});
beforeEach(() => {
  cache = path.join(folder, `cache-${number++}`);
});
afterAll(() => rm(folder, { recursive: true }));

/** Logits in 8 bits. */
async function logitsOf(backbone = tiny, weights: 'int8' | 'int4' = 'int8'): Promise<number[]> {
  const description = await describeBackbone(await readBackbone(backbone));
  const decoder = await Decoder.open(description, { threads: 1, rows: 1, maxLength: 64, weights, weightsCache: cache });
  try {
    const [logits] = await decoder.prefill(0, [{ adapter: null, promptIds: [1, 5, 6, 7], imageEmbeddings: null }]);
    return [...(logits ?? [])];
  } finally {
    await decoder.close();
  }
}

async function files(): Promise<string[]> {
  return (await readdir(cache)).filter((name) => name !== 'fingerprints');
}

async function made(): Promise<{ readonly place: string; readonly ino: bigint }> {
  const [name] = await files();
  const place = path.join(cache, name as string);
  return { place, ino: (await stat(place, { bigint: true })).ino };
}

describe('the cache', () => {
  it('has one file for a checkpoint and a precision, which the next start finds, and copies of the checkpoint share', async () => {
    const first = await logitsOf();
    expect(await files()).toEqual([expect.stringMatching(/^[0-9a-f]{64}\.int8\.safetensors$/)]);
    const { ino } = await made();
    expect(await logitsOf()).toEqual(first);
    await cp(tiny, path.join(folder, 'copy'), { recursive: true });
    expect(await logitsOf(path.join(folder, 'copy'))).toEqual(first);
    expect((await made()).ino).toBe(ino);
    expect(await logitsOf(tiny, 'int4')).not.toEqual(first);
    expect(await files()).toHaveLength(2);
  });

  it('makes another file for other weights of the same name and size', async () => {
    const copy = await cp(tiny, path.join(folder, 'changing'), { recursive: true }).then(() => path.join(folder, 'changing'));
    const file = path.join(copy, 'language', 'model.safetensors');
    const { mtime } = await stat(file);
    const first = await logitsOf(copy);
    const bytes = await readFile(file);
    bytes.writeFloatLE(0.5, bytes.length - 400);
    await writeFile(file, bytes);
    await utimes(file, mtime, mtime);
    expect(await logitsOf(copy)).not.toEqual(first);
    expect(await files()).toHaveLength(2);
  });

  it.each([
    ['cut short', (place: string) => truncate(place, 1000)],
    ['empty', (place: string) => truncate(place, 0)],
    [
      'changed in one bit',
      async (place: string) => {
        const bytes = await readFile(place);
        bytes[bytes.length - 500] = (bytes[bytes.length - 500] as number) ^ 4;
        await writeFile(place, bytes);
      },
    ],
    ['another kind of file', (place: string) => writeFile(place, 'weights')],
    ['a checkpoint', (place: string) => cp(path.join(tiny, 'language', 'model.safetensors'), place)],
  ])('makes a file again that is %s', async (_, spoil) => {
    const first = await logitsOf();
    const { place } = await made();
    const bytes = await readFile(place);
    await spoil(place);
    expect(await logitsOf()).toEqual(first);
    expect((await readFile(place)).equals(bytes)).toBe(true);
    expect(await files()).toHaveLength(1);
  });

  it('does not take the word of a kept fingerprint that is none', async () => {
    const first = await logitsOf();
    const kept = path.join(cache, 'fingerprints');
    for (const name of await readdir(kept)) await writeFile(path.join(kept, name), '../../elsewhere');
    expect(await logitsOf()).toEqual(first);
    expect(await files()).toHaveLength(1);
  });

  it('sweeps what a writer that died has left, once it is old', async () => {
    await mkdir(cache);
    const [old, young] = [path.join(cache, '.old.safetensors.1.tmp'), path.join(cache, '.young.safetensors.2.tmp')];
    await writeFile(old, '');
    await utimes(old, 0, 0);
    await writeFile(young, '');
    await logitsOf();
    const left = await readdir(cache);
    expect(left).toContain(path.basename(young));
    expect(left).not.toContain(path.basename(old));
  });

  it('needs nothing of the model’s folder but to read it', async () => {
    const place = path.join(folder, 'read-only');
    await cp(tiny, place, { recursive: true });
    const before = await readdir(place, { recursive: true });
    await chmod(path.join(place, 'language'), 0o555);
    expect(await logitsOf(place)).toHaveLength((await logitsOf()).length);
    await chmod(path.join(place, 'language'), 0o755);
    expect(await readdir(place, { recursive: true })).toEqual(before);
  });
});

describe('refusals', () => {
  it('names a cache folder that cannot be one', async () => {
    await writeFile(cache, 'a file');
    await expect(logitsOf()).rejects.toMatchObject({
      code: 'invalid_config',
      message: expect.stringMatching(
        /^Expected a folder that can be written, for \d+ bytes of int8 weights, at .*cache-\d+ but received EEXIST: --weights-cache names another$/,
      ) as string,
    });
  });

  it('names a matrix with a number that is none, and leaves nothing', async () => {
    const broken = await changedBackbone(tiny, path.join(folder, 'broken'), (name, each) => {
      if (!name.endsWith('1.mlp.up_proj.weight')) return [[name, each]];
      const values = new Gaussian(1).array(elements(each.shape), 1);
      values[100] = Number.NaN;
      return [[name, tensor(each.shape, values)]];
    });
    await expect(logitsOf(broken)).rejects.toMatchObject({
      code: 'invalid_file',
      message: `${path.join(broken, 'language')}: Expected model.layers.1.mlp.up_proj.weight to hold finite numbers but received NaN`,
    });
    expect(await files()).toEqual([]);
  });

  it('names every fault of the checkpoint before anything is made', async () => {
    const broken = await changedBackbone(tiny, path.join(folder, 'faulty'), (name, each) => {
      if (name.endsWith('0.mlp.up_proj.weight')) return [];
      return [[name, name.endsWith('1.self_attn.o_proj.weight') ? tensor([1], new Float32Array(1)) : each]];
    });
    await expect(logitsOf(broken)).rejects.toMatchObject({
      code: 'invalid_file',
      faults: [
        'Expected a tensor model.layers.0.mlp.up_proj.weight of [48, 32] but the checkpoint has none',
        'Expected model.layers.1.self_attn.o_proj.weight to be [32, 32] but received [1]',
      ],
    });
    await expect(readdir(cache)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it.runIf(process.platform !== 'win32')('says that the disk takes no more, and leaves nothing', async () => {
    await mkdir(cache);
    const child = fileURLToPath(new URL('../../fixtures/engine/open.ts', import.meta.url));
    const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
    const node = [process.execPath, '--import', loader, child, tiny, cache];
    // The loader would keep what it compiles, and that has to fit as well.
    const env = { ...process.env, TSX_DISABLE_CACHE: '1' };
    const { stdout } = spawnSync('sh', ['-c', 'ulimit -f 24; exec "$@"', 'sh', ...node], { encoding: 'utf8', env });
    expect(stdout.trim()).toMatch(
      /^disk_full: Expected room for \d+ bytes of int8 weights in .*cache-\d+ but there is none \(EFBIG\)$/,
    );
    expect(await files()).toEqual([]);
  });
});

describe('a matrix of GPT-2’s layout', () => {
  it.each([
    { bits: 8, block: 64, zeroPoints: false },
    { bits: 4, block: 32, zeroPoints: true },
  ] as const)('is turned: %j', async (scheme) => {
    const [inFeatures, outFeatures] = [100, 24];
    const values = new Gaussian(5).array(inFeatures * outFeatures, 1);
    const turned = Float32Array.from(
      values,
      (_, at) => values[(at % inFeatures) * outFeatures + Math.floor(at / inFeatures)] ?? 0,
    );
    const place = await mkdtemp(path.join(folder, 'layouts-'));
    await writeSafetensors(path.join(place, 'model.safetensors'), [
      ['in_out', tensor([inFeatures, outFeatures], values)],
      ['out_in', tensor([outFeatures, inFeatures], turned)],
    ]);
    const checkpoint = await Checkpoint.open(place);
    const bytesOf = async (layout: Matrix['layout']): Promise<Buffer> => {
      const matrix = { name: layout, inFeatures, outFeatures, layout };
      const pieces: Uint8Array[] = [];
      for await (const piece of blocksOf(checkpoint, [matrix], scheme)) pieces.push(piece);
      const expected = tensorsOf([matrix], scheme).reduce(
        (sum, [, { dtype, shape }]) => sum + elements(shape) * (dtype === 'float32' ? 4 : 1),
        0,
      );
      const bytes = Buffer.concat(pieces);
      expect(bytes).toHaveLength(expected);
      return bytes;
    };
    expect((await bytesOf('in_out')).equals(await bytesOf('out_in'))).toBe(true);
    await checkpoint.close();
  });
});
