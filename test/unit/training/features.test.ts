/** Features of a dataset's images: those that serving would compute, each computed once, and a bad image costs its own row and no other. */
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { describeBackbone, type VisionPart } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { VisionEncoder } from '../../../src/engine/vision.js';
import { AppError } from '../../../src/errors.js';
import { decodePixels } from '../../../src/images/decode.js';
import { float16FromFloat32 } from '../../../src/tensor/convert.js';
import type { Example } from '../../../src/training/data/example.js';
import { type AugmentOptions, encodeImages, featureFolder, viewsOf } from '../../../src/training/features.js';
import { FeatureStore } from '../../../src/training/store.js';
import { noisePng } from '../../support/server.js';
import { makeTinyBackbone, TINY } from '../../support/tiny.js';

const NUMBERS = TINY.imageTokens * TINY.imageDim;
const NO_AUGMENT: AugmentOptions = { flip: false, crop: false, views: 4, seed: 0 };
const PLAIN = viewsOf(NO_AUGMENT);
const LIMITS = { maxPixels: 1e6, timeoutMs: 60_000 };

let root: string;
let part: VisionPart;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'graft-features-'));
  const { vision } = await describeBackbone(await readBackbone(await makeTinyBackbone(join(root, 'backbone'))));
  if (!vision) throw new Error('Expected a backbone with a vision encoder');
  part = vision;
});
afterAll(() => rm(root, { recursive: true }));

let folder: string;
let store: FeatureStore;
beforeEach(async () => {
  folder = await mkdtemp(join(root, 'case-'));
  store = await FeatureStore.open(join(folder, 'store'), NUMBERS);
});
afterEach(() => store.close());

const example = (image: string, index = 0): Example => ({ image, captions: ['x'], origin: `captions.jsonl:${index + 1}` });

/** Images of noise, by the seeds of their noise. */
async function write(...seeds: readonly number[]): Promise<Example[]> {
  return Promise.all(
    seeds.map(async (seed, index) => {
      const path = join(folder, `${index}.png`);
      await writeFile(path, await noisePng(seed));
      return example(path, index);
    }),
  );
}

const encode = (examples: readonly Example[], options: Partial<Parameters<typeof encodeImages>[3]> = {}, into = store) =>
  encodeImages(examples, part, into, { views: PLAIN, threads: 1, ...options });

describe('encodeImages', () => {
  it('gives what the engine that serves computes, to the bit of float16', async () => {
    const examples = await write(1, 2);
    const { keys } = await encode(examples);
    const engine = await VisionEncoder.open(part, 1, 0);
    for (const [index, seed] of [1, 2].entries()) {
      const features = await engine.encode(await decodePixels(await noisePng(seed), part.recipe, LIMITS));
      expect(await store.read([...(keys[index] as string[])])).toEqual(float16FromFloat32(features));
    }
    await engine.close();
  });

  it('encodes each content once: not again in this run, nor in the next', async () => {
    const examples = await write(1, 2, 1, 1, 3);
    const first = await encode(examples);
    expect([first.encoded, store.size]).toEqual([3, 3]);
    expect(first.keys[2]).toEqual(first.keys[0]);
    expect(new Set(first.keys.flat()).size).toBe(3);
    const seen: [number, number][] = [];
    const second = await encode(examples, { onProgress: (done, total) => seen.push([done, total]) });
    expect(second).toEqual({ ...first, encoded: 0 });
    expect(seen).toEqual([1, 2, 3, 4, 5].map((done) => [done, 5]));
    await store.close();
    store = await FeatureStore.open(join(folder, 'store'), NUMBERS);
    expect(await encode(examples)).toEqual({ ...first, encoded: 0 });
    expect((await readdir(join(folder, 'store'))).length).toBe(2);
  });

  it('keeps views apart: a mirror image has its own features, and is that of the mirrored pixels', async () => {
    const examples = await write(1);
    const { keys, encoded } = await encode(examples, { views: viewsOf({ ...NO_AUGMENT, flip: true }) });
    expect(encoded).toBe(2);
    const [plain = '', mirror = ''] = keys[0] as string[];
    const mirrored = await decodePixels(await noisePng(1), part.recipe, LIMITS, { mirror: true, crop: null });
    const engine = await VisionEncoder.open(part, 1, 0);
    expect(await store.read([mirror])).toEqual(float16FromFloat32(await engine.encode(mirrored)));
    await engine.close();
    expect(await store.read([plain])).not.toEqual(await store.read([mirror]));
    expect((await encode(examples)).keys[0]).toEqual([plain]);
  });

  it('tells of images that cannot be used and goes on with the others', async () => {
    const examples = await write(1, 2, 3, 4, 5, 6, 7, 8);
    const [, broken, gone, text, empty, isFolder] = examples.map(({ image }) => image as string);
    await writeFile(broken as string, (await noisePng(2)).subarray(0, 600));
    await rm(gone as string);
    await writeFile(text as string, 'GIF89a: no image that we take');
    await writeFile(empty as string, '');
    await rm(isFolder as string);
    await mkdir(isFolder as string);
    const { keys, bad, encoded } = await encode(examples, { views: viewsOf({ ...NO_AUGMENT, flip: true }) });
    expect(keys.map(({ length }) => length)).toEqual([2, 0, 0, 0, 0, 0, 2, 2]);
    expect(encoded).toBe(6);
    expect(bad.map(({ origin }) => origin)).toEqual([2, 3, 4, 5, 6].map((line) => `captions.jsonl:${line}`));
    expect(bad[1]?.reason).toBe('Expected a readable image file but received ENOENT');
    expect(bad[4]?.reason).toBe('Expected a readable image file but received EISDIR');
    for (const { reason } of bad) expect(reason).toMatch(/^Expected .+ but /);
  });

  it('stops where it is told, between two images, and what it has done is kept', async () => {
    const examples = await write(1, 2, 3, 4, 5, 6);
    const stopping = new AbortController();
    const reason = new AppError('cancelled', 'enough');
    const options = { signal: stopping.signal, onProgress: (done: number) => done === 2 && stopping.abort(reason) };
    await expect(encode(examples, options as Parameters<typeof encode>[1])).rejects.toBe(reason);
    expect(store.size).toBe(2);
    await store.close();
    store = await FeatureStore.open(join(folder, 'store'), NUMBERS);
    expect(store.size).toBe(2);
    expect(await encode(examples)).toMatchObject({ encoded: 4, bad: [] });
    const before = AbortSignal.abort(reason);
    await expect(encode(examples, { signal: before })).rejects.toBe(reason);
  });

  it('does not blame the images where the store cannot be written', async () => {
    const examples = await write(1, 2);
    await rm(join(folder, 'store'), { recursive: true });
    await expect(encode(examples)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it.runIf(process.getuid?.() !== 0 && process.platform !== 'win32')('blames an image that it may not read', async () => {
    const examples = await write(1, 2);
    await chmod(examples[0]?.image as string, 0);
    expect((await encode(examples)).bad[0]?.reason).toContain('EACCES');
  });

  it.runIf(process.platform === 'linux')('leaves no file open', async () => {
    const examples = await write(...Array.from({ length: 12 }, (_, seed) => seed + 1));
    await rm(examples[3]?.image as string);
    await writeFile(examples[5]?.image as string, 'x');
    await encode(examples);
    const before = (await readdir('/proc/self/fd')).length;
    for (let turn = 0; turn < 3; turn++) await encode(await write(...Array.from({ length: 12 }, (_, seed) => 100 * turn + seed)));
    const reason = new Error('enough');
    await expect(encode(examples, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect((await readdir('/proc/self/fd')).length).toBe(before);
  });

  it('has nothing to do for text', async () => {
    const text: Example = { image: null, captions: ['x'], origin: 'a.txt:1' };
    expect(await encode([text])).toEqual({ keys: [[]], bad: [], encoded: 0 });
    expect(await encode([])).toEqual({ keys: [], bad: [], encoded: 0 });
  });
});

describe('viewsOf', () => {
  const names = (options: Partial<AugmentOptions>): string[] => viewsOf({ ...NO_AUGMENT, ...options }).map(({ name }) => name);

  it('is the plain image unless told, and its mirror image', () => {
    expect(names({})).toEqual(['plain']);
    expect(names({ flip: true, views: 9 })).toEqual(['plain', '{"mirror":true,"crop":null}']);
    expect(names({ crop: true, views: 2 })).toHaveLength(2);
    expect(names({ crop: true, views: 1 })).toEqual(['plain']);
  });

  it('are parts of 70 % of each edge and more, within the image, the same for the same seed', () => {
    const views = viewsOf({ flip: true, crop: true, views: 40, seed: 3 });
    expect(views).toHaveLength(40);
    expect(views[0]).toEqual({ name: 'plain', alteration: null });
    for (const { alteration } of views.slice(1)) {
      const { top, left, height, width } = alteration?.crop ?? { top: -1, left: -1, height: 0, width: 0 };
      for (const [start, length] of [
        [top, height],
        [left, width],
      ] as const) {
        expect(length).toBeGreaterThanOrEqual(0.7);
        expect(start).toBeGreaterThanOrEqual(0);
        expect(start + length).toBeLessThanOrEqual(1);
      }
    }
    const mirrored = views.filter(({ alteration }) => alteration?.mirror).length;
    expect(mirrored).toBeGreaterThan(8);
    expect(mirrored).toBeLessThan(32);
    const all = { flip: true, crop: true, views: 40, seed: 3 };
    expect(names(all)).toEqual(views.map(({ name }) => name));
    expect(new Set(names(all)).size).toBe(40);
    expect(names({ ...all, seed: 4 })[1]).not.toBe(names(all)[1]);
    // More views keep those that there were.
    expect(names({ ...all, views: 5 })).toEqual(names(all).slice(0, 5));
    expect(viewsOf({ crop: true, flip: false, views: 9, seed: 3 }).some(({ alteration }) => alteration?.mirror)).toBe(false);
  });
});

describe('featureFolder', () => {
  it('is another one for another checkpoint, choice of features, recipe or normalisation, wherever the checkpoint lies', async () => {
    const of = (each: VisionPart): Promise<string> => featureFolder('/cache', each);
    const own = await of(part);
    expect(own).toMatch(/^\/cache\/features\/[0-9a-f]{16}$/);
    const copy = await makeTinyBackbone(join(folder, 'copy'));
    const other = await makeTinyBackbone(join(folder, 'other'), 5);
    expect(await of({ ...part, folder: join(copy, 'vision') })).toBe(own);
    const all = [
      own,
      await of({ ...part, folder: join(other, 'vision') }),
      await of({ ...part, model: { ...part.model, features: 'layer 3, full' } }),
      await of({ ...part, recipe: { ...part.recipe, height: part.recipe.height * 2 } }),
      await of({ ...part, normalisation: { ...part.normalisation, mean: [0, 0, 0] } }),
    ];
    expect(new Set(all).size).toBe(5);
  });
});
