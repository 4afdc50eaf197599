/** A backbone whose every file is a link, as in the cache that `graft pull` fills: the runtime, left alone, refuses weights that a link leads to. */
import { cp, mkdir, mkdtemp, readdir, rename, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { Decoder } from '../../../src/engine/decoder.js';
import { VisionEncoder } from '../../../src/engine/vision.js';

/** It has weights that are used where they are, in both of its parts. */
const SHIPPED = fileURLToPath(new URL('../../../models/scenes', import.meta.url));

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'graft-links-'));
});
afterAll(() => rm(root, { recursive: true }));

/** Moves every file of a folder among the blobs, and puts a link in its place. */
async function linkAll(folder: string): Promise<void> {
  const blobs = path.join(root, 'blobs');
  await mkdir(blobs, { recursive: true });
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  for (const [index, entry] of entries.entries()) {
    if (!entry.isFile()) continue;
    const place = path.join(entry.parentPath, entry.name);
    await rename(place, path.join(blobs, String(index)));
    await symlink(path.relative(entry.parentPath, path.join(blobs, String(index))), place);
  }
}

/** Logits after a prompt, and features of an image. */
async function numbersOf(folder: string): Promise<{ logits: number[]; features: number[] }> {
  const backbone = await describeBackbone(await readBackbone(folder));
  if (!backbone.vision) throw new TypeError('Expected a backbone that can see');
  const decoder = await Decoder.open(backbone, { threads: 1, rows: 1, maxLength: 64 });
  const encoder = await VisionEncoder.open(backbone.vision, 1, 0);
  try {
    const [logits] = await decoder.prefill(0, [{ adapter: null, promptIds: [1, 5, 6], imageEmbeddings: null }]);
    const { height, width } = backbone.vision.recipe;
    const data = Uint8Array.from({ length: height * width * 3 }, (_, index) => index % 251);
    const features = await encoder.encode({ digest: 'image', height, width, data });
    return { logits: [...(logits ?? [])], features: [...features] };
  } finally {
    await decoder.close();
    await encoder.close();
  }
}

it('gives the same numbers through links', async () => {
  const folder = path.join(root, 'backbone');
  await cp(SHIPPED, folder, { recursive: true });
  const before = await numbersOf(folder);
  expect(before.logits.length * before.features.length).toBeGreaterThan(0);
  await linkAll(folder);
  expect(await numbersOf(folder)).toEqual(before);
});
