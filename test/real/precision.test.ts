/** What fewer bits cost on a trained model: the perplexity of captions that people wrote, and the captions that it writes. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluateAdapter } from '../../src/cli/eval.js';
import { hasShared, realBackbone, shared, withShared } from '../support/shared.js';

describe.runIf(hasShared)(`weights of fewer bits${withShared}`, () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-precision-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const measure = async (weights: string): Promise<{ perplexity: number; cider: number }> => {
    const flags = {
      backbone: realBackbone,
      adapter: shared('reference-adapter'),
      data: shared('flickr8k/dev'),
      normalize: 'caption',
    };
    const limits = { limit: '150', maxTokens: '24', weights, weightsCache: path.join(folder, 'cache'), json: true };
    return JSON.parse(await evaluateAdapter({ ...flags, ...limits }, folder)) as { perplexity: number; cider: number };
  };

  it('cost little in 8 bits, and more in 4', async () => {
    const full = await measure('float32');
    const int8 = await measure('int8');
    const int4 = await measure('int4');
    console.log([`float32 ${full.perplexity}`, `int8 ${int8.perplexity}`, `int4 ${int4.perplexity}`].join(', '));
    expect(Math.abs(int8.perplexity / full.perplexity - 1)).toBeLessThan(0.01);
    expect(int4.perplexity / full.perplexity).toBeLessThan(1.15);
    expect(int4.perplexity / full.perplexity).toBeGreaterThan(0.95);
    expect(int8.perplexity).not.toBe(full.perplexity);
  });
});
