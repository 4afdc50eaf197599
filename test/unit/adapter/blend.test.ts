/** The digest of a blend, computed here by hand; what its parts add up to; and its way through loader and cache. */
import { createHash } from 'node:crypto';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AdapterRef, FolderRef, LoadedAdapter, WeightedRef } from '../../../src/adapter/adapter.js';
import { blendName, blendRef } from '../../../src/adapter/blend.js';
import { AdapterCache } from '../../../src/adapter/cache.js';
import { digestFolder } from '../../../src/adapter/digest.js';
import { arraysOf, readAdapter } from '../../../src/adapter/format.js';
import { AdapterLoader } from '../../../src/adapter/loader.js';
import { mixAdapters } from '../../../src/adapter/mix.js';
import { FIXTURES, tinyTarget } from '../../fixtures/adapter/draft.js';
import { randomAdapter } from '../../support/adapter.js';

const target = await tinyTarget();

const refOf = async (path: string): Promise<FolderRef> => {
  const folder = join(FIXTURES, path);
  return { name: path, digest: (await digestFolder(folder)).digest, folder };
};
const part = (letter: string, weight: number): WeightedRef => ({
  ref: { name: letter, digest: `sha256:${letter.repeat(64)}`, folder: `/${letter}` },
  weight,
});

describe('the reference of a blend', () => {
  it('has the digest of its parts’ digests and weights, each with its length before it, in order', () => {
    const hash = createHash('sha256');
    for (const [letter, weight] of [
      ['a', 0.7],
      ['b', -0.3],
    ] as const) {
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(71n);
      const eight = Buffer.alloc(8);
      eight.writeBigUInt64LE(8n);
      const number = Buffer.alloc(8);
      number.writeDoubleLE(weight);
      hash.update(Buffer.concat([length, Buffer.from(`sha256:${letter.repeat(64)}`), eight, number]));
    }
    const ref = blendRef('mix', [part('a', 0.7), part('b', -0.3)]);
    expect(ref).toEqual({
      name: 'mix',
      digest: `sha256:${hash.digest('hex')}`,
      folder: '',
      blend: [part('a', 0.7), part('b', -0.3)],
    });
  });

  it('is another for other parts, weights or orders, and the same for other names and folders', () => {
    const digest = (...parts: WeightedRef[]): string => blendRef('x', parts).digest;
    const all = [
      digest(part('a', 0.7), part('b', 0.3)),
      digest(part('b', 0.3), part('a', 0.7)),
      digest(part('a', 0.3), part('b', 0.7)),
      digest(part('a', 0.7), part('c', 0.3)),
      digest(part('a', 0.7), part('b', 0.3), part('c', 0)),
      digest(part('a', 0.7), part('b', -0.3)),
    ];
    expect(new Set(all).size).toBe(all.length);
    const renamed = { ...part('a', 0.7), ref: { ...part('a', 0.7).ref, name: 'alias', folder: '/elsewhere' } };
    expect(digest(renamed, part('b', 0.3))).toBe(all[0]);
    expect(digest(part('a', -0), part('b', 1))).toBe(digest(part('a', 0), part('b', 1)));
  });

  it('is shown as what it adds up to', () => {
    expect(
      blendName([part('a', 0.7), part('b', -0.3), part('c', 1)].map(({ ref, weight }) => ({ name: ref.name, weight }))),
    ).toBe('0.7*a+-0.3*b+1*c');
  });
});

describe('a mixture', () => {
  const make = (name: string, method: 'lora' | 'bitfit' | 'ia3', contexts: string[], seed: number): LoadedAdapter =>
    randomAdapter(target, { name, method, rank: 3, contexts, seed });
  const mix = (...parts: readonly (readonly [LoadedAdapter, number])[]): LoadedAdapter => {
    const weighted = parts.map(([adapter, weight]) => ({ adapter, weight }));
    return mixAdapters(
      blendRef(
        'mix',
        weighted.map(({ adapter, weight }) => ({ ref: { ...adapter, folder: '' }, weight })),
      ),
      weighted,
    );
  };
  const both = ['image', 'text'];

  it('has of each context one group for what is multiplied and scaled, and one for constants', () => {
    const mixed = mix(
      [make('a', 'lora', both, 1), 0.5],
      [make('b', 'lora', ['text'], 2), 1],
      [make('c', 'ia3', both, 3), 1],
      [make('d', 'bitfit', ['text'], 4), 1],
      [make('e', 'bitfit', ['text'], 5), -1],
      [make('f', 'lora', ['all'], 6), 1],
    );
    expect(mixed.groups.map(({ context, a0 }) => [context, a0])).toEqual([
      ['image', 0],
      ['text', 0],
      ['text', 1],
      ['all', 0],
    ]);
    expect(mixed.groups[2]?.rank).toBe(1);
    expect(mixed.method).toBe('mixed');
    expect(mixed.bytes).toBe(arraysOf(mixed).reduce((sum, { byteLength }) => sum + byteLength, 0));
    // Arrays move between threads: none may be another's, or a part's.
    expect(new Set(arraysOf(mixed).map(({ buffer }) => buffer)).size).toBe(arraysOf(mixed).length);
  });

  it('leaves its parts as they were', () => {
    const parts = [make('a', 'lora', both, 1), make('b', 'bitfit', both, 2), make('c', 'ia3', both, 3)];
    const copies = structuredClone(parts);
    mix(...parts.map((adapter) => [adapter, 2] as const));
    expect(parts).toEqual(copies);
  });

  it('is what a part alone is where the others weigh nothing', () => {
    const [a, b] = [make('a', 'ia3', both, 1), make('b', 'ia3', both, 2)];
    const mixed = mix([a, 1], [b, 0]);
    expect(mixed.groups.map(({ scales }) => scales)).toEqual(a.groups.map(({ scales }) => scales));
    expect(mixed.projector).toEqual(a.projector);
  });

  it('has a projector where a part has one, and none where none has', () => {
    const [a, b] = [make('a', 'lora', both, 1), { ...make('b', 'lora', ['text'], 2), projector: null }];
    expect(mix([b, 0.5], [a, 1]).projector).toEqual(a.projector);
    expect(mix([b, 0.5], [{ ...a, projector: null }, 1]).projector).toBeNull();
  });

  it('is refused where its numbers leave float32', () => {
    const large = make('a', 'bitfit', ['text'], 1);
    for (const { b } of large.groups[0]?.columns.values() ?? []) b.fill(3e38);
    expect(() => mix([large, 1], [make('b', 'lora', both, 2), 1])).not.toThrow();
    expect(() => mix([large, 1], [large, 1])).toThrow(
      'blend mix: Expected finite numbers in what its parts add up to but received Infinity at index 0',
    );
  });
});

describe('through loader and cache', () => {
  let loader: AdapterLoader;
  let folder: string;
  let refs: FolderRef[];
  const blend = (...weights: number[]): AdapterRef =>
    blendRef(
      'mix',
      weights.map((weight, index) => ({ ref: refs[index] as FolderRef, weight })),
    );

  beforeAll(async () => {
    loader = new AdapterLoader(target);
    folder = await mkdtemp(join(tmpdir(), 'graft-blend-'));
    refs = await Promise.all(['written/lora', 'written/ia3', 'ia3'].map(refOf));
  });
  afterAll(async () => {
    await loader.close();
    await rm(folder, { recursive: true });
  });

  it('is read in the thread, part by part, and arrives mixed', async () => {
    const ref = blend(0.5, 0.25, 1);
    const parts = await Promise.all(refs.map((each) => readAdapter(each.folder, target)));
    const weighted = parts.map((adapter, index) => ({ adapter, weight: ref.blend?.[index]?.weight as number }));
    expect(await loader.load(ref)).toEqual(mixAdapters(ref, weighted));
  });

  it('tells what is wrong with a part: faults, or another content than the reference says', async () => {
    const copy = join(folder, 'changed');
    await cp((refs[0] as FolderRef).folder, copy, { recursive: true });
    const changed = { ...(refs[0] as FolderRef), folder: copy };
    const of = (first: FolderRef): AdapterRef =>
      blendRef('mix', [
        { ref: first, weight: 1 },
        { ref: refs[1] as FolderRef, weight: 1 },
      ]);
    await expect(loader.load(of(changed))).resolves.toMatchObject({ name: 'mix', digest: of(changed).digest });
    await rm(join(copy, 'projector.safetensors'));
    await expect(loader.load(of(changed))).rejects.toMatchObject({ code: 'adapter_changed' });
    const { digest } = await digestFolder(copy);
    await expect(loader.load(of({ ...changed, digest }))).rejects.toMatchObject({ code: 'adapter_invalid' });
  });

  it('misses, hits, is charged its own bytes, stays where it is pinned, and is evicted as any adapter is', async () => {
    const { bytes } = await loader.load(blend(1, 1));
    const single = (await loader.load(refs[0] as FolderRef)).bytes;
    expect(bytes).toBeGreaterThan(single);
    const cache = new AdapterCache({ maxBytes: 2 * bytes, load: (ref) => loader.load(ref) });
    const first = await cache.acquire(blend(1, 1));
    expect(first.hit).toBe(false);
    const again = await cache.acquire(blend(1, 1));
    expect([again.hit, again.adapter === first.adapter]).toEqual([true, true]);
    first.release();
    again.release();
    // Its parts have not come into memory by themselves.
    expect(cache.resident()).toMatchObject([{ name: 'mix', digest: blend(1, 1).digest, bytes, pinned: false }]);

    cache.setPinned(blend(1, 1), true);
    for (const weight of [2, 3]) (await cache.acquire(blend(1, weight))).release();
    expect(cache.stats()).toMatchObject({ hits: 1, misses: 3, loads: 3, evictions: 1, bytes: 2 * bytes });
    expect((await cache.acquire(blend(1, 1))).hit).toBe(true);
    expect(cache.tryAcquire(blend(1, 2))).toBeUndefined();
  });
});
