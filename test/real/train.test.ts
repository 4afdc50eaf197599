/** The trainer on real photos and real weights: it learns to caption, and the engine that serves agrees with it about how well. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluateAdapter } from '../../src/cli/eval.js';
import { train } from '../../src/cli/train.js';
import { hasShared, realBackbone, shared, withShared } from '../support/shared.js';

/** What a projector alone never gets below on this data (docs/paper.md); an untrained one is above a thousand. */
const PROJECTOR_ALONE = 47;

describe.skipIf(!hasShared)(`training on 700 photos${withShared}`, () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-train-'));
    const rows = (await readFile(shared('flickr8k/dev/captions.jsonl'), 'utf8')).trim().split('\n');
    await writeFile(path.join(folder, 'train.jsonl'), rows.slice(0, 700).join('\n'));
    await writeFile(path.join(folder, 'held.jsonl'), rows.slice(900, 1000).join('\n'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('lowers the perplexity of photos that it has not seen, to what the engine measures', async () => {
    const common = { backbone: realBackbone, images: shared('flickr8k/dev'), normalize: 'caption' };
    const flags = {
      data: 'train.jsonl',
      validation: 'held.jsonl',
      out: 'adapters/real',
      steps: '220',
      lr: '0.03',
      samples: '2',
    };
    await train({ ...common, ...flags }, folder);
    const manifest = JSON.parse(await readFile(path.join(folder, 'adapters/real/adapter.json'), 'utf8')) as {
      metrics: { validation_perplexity: number };
    };
    const told = manifest.metrics.validation_perplexity;
    expect(told).toBeLessThan(0.75 * PROJECTOR_ALONE);

    const measured = JSON.parse(
      await evaluateAdapter({ ...common, adapter: 'adapters/real', data: 'held.jsonl', json: true }, folder),
    ) as { perplexity: number; cider: number };
    // Features are rounded to float16 for training alone.
    expect(Math.abs(measured.perplexity / told - 1)).toBeLessThan(1e-3);
    expect(measured.cider).toBeGreaterThan(0);
  });
});
