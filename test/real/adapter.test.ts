/** Adapters that another program wrote and trained, on real checkpoints. */
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { digestFolder } from '../../src/adapter/digest.js';
import { fingerprint } from '../../src/adapter/fingerprint.js';
import { readAdapter } from '../../src/adapter/format.js';
import { AdapterLoader } from '../../src/adapter/loader.js';
import { AdapterRegistry } from '../../src/adapter/registry.js';
import { readLlama } from '../../src/backbone/language/llama.js';
import type { AdapterTarget } from '../../src/backbone/module.js';
import { hasShared, shared, withShared } from '../support/shared.js';

async function targetOf(imageDim: number): Promise<AdapterTarget> {
  const languageFolder = shared('tinystories-656k');
  const { modules, hiddenSize } = readLlama(JSON.parse(await readFile(`${languageFolder}/config.json`, 'utf8')), languageFolder);
  return {
    modules,
    hiddenSize,
    imageDim,
    contexts: ['image', 'text'],
    languageFolder,
    visionFolder: shared('mobilenet_v2_1.0_224'),
  };
}

describe.skipIf(!hasShared)(`real adapters${withShared}`, () => {
  it.each([
    ['golden/lora', 'lora', 28, [4, 4], 24],
    ['golden/lora-agnostic', 'lora', 14, [8], 24],
    ['golden/bitfit', 'bitfit', 28, [1, 1], 24],
    ['golden/ia3', 'ia3', 12, [0, 0], 24],
    ['golden/base', 'none', 0, [], 24],
    ['reference-adapter', 'lora', 28, [8, 8], 1280],
  ])('%s is read whole', async (path, method, modules, ranks, imageDim) => {
    const target = await targetOf(imageDim);
    const folder = shared(path);
    const { digest } = await digestFolder(folder);
    const adapter = await readAdapter(folder, target, digest);
    expect(`matched ${adapter.matched} of ${adapter.targeted}`).toBe(`matched ${modules} of ${modules}`);
    expect(adapter.method).toBe(method);
    expect(adapter.groups.map(({ rank }) => rank)).toEqual(ranks);
    expect(adapter.projector?.weight).toHaveLength(128 * imageDim);

    const loader = new AdapterLoader(target);
    expect(await loader.load({ name: adapter.name, digest, folder })).toEqual(adapter);
    await loader.close();
  });

  it('an adapter of other image features is refused', async () => {
    await expect(readAdapter(shared('reference-adapter'), await targetOf(24))).rejects.toMatchObject({
      code: 'adapter_invalid',
      faults: ['projector.safetensors: Expected weight to be [128, 24] but received [128, 1280]'],
    });
  });

  it('the registry lists them without a fault', async () => {
    const registry = await AdapterRegistry.open(shared(''));
    const found = registry.list().map(({ name, summary, fault }) => [name, summary.method, summary.rank, fault]);
    await registry.close();
    expect(found).toEqual([
      ['golden/base', 'none', undefined, undefined],
      ['golden/bitfit', 'bitfit', undefined, undefined],
      ['golden/ia3', 'ia3', undefined, undefined],
      ['golden/lora', 'lora', 4, undefined],
      ['golden/lora-agnostic', 'lora', 8, undefined],
      ['reference-adapter', 'lora', 8, undefined],
    ]);
  });

  it('checkpoints have fingerprints of their own', async () => {
    const { languageFolder, visionFolder } = await targetOf(24);
    const prints = await Promise.all([languageFolder, visionFolder, languageFolder].map((folder) => fingerprint(String(folder))));
    expect(prints[0]).toBe(prints[2]);
    expect(prints[0]).not.toBe(prints[1]);
  });
});
