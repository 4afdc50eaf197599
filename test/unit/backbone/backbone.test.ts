/** A backbone whose `backbone.json` chooses the features of a whole CLIP: what adapters, the engine and people are told of it. */
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type BackboneDescription, describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { inspect } from '../../../src/cli/inspect.js';
import { VisionEncoder } from '../../../src/engine/vision.js';
import { makeTinyBackbone } from '../../support/tiny.js';

const TOWERS = fileURLToPath(new URL('../../fixtures/backbone/vision-towers/', import.meta.url));

let folder: string;
beforeEach(async () => {
  folder = await makeTinyBackbone(await mkdtemp(path.join(tmpdir(), 'graft-chosen-features-')));
  await rm(path.join(folder, 'vision'), { recursive: true });
});
afterEach(() => rm(folder, { recursive: true }));

async function choose(tower: string, fields: object): Promise<void> {
  const vision = path.join(folder, tower);
  await cp(`${TOWERS}${tower}`, vision, { recursive: true });
  const processor = { image_processor_type: 'CLIPImageProcessor', size: { shortest_edge: 14 }, crop_size: 14 };
  await writeFile(path.join(vision, 'preprocessor_config.json'), JSON.stringify(processor));
  const manifest = { format: 'graft-backbone/1', name: 'tiny', vision: tower, language: 'language', ...fields };
  await writeFile(path.join(folder, 'backbone.json'), JSON.stringify(manifest));
}

const described = async (): Promise<BackboneDescription> => describeBackbone(await readBackbone(folder));

describe('the features of a backbone', () => {
  it('are those of its family where nothing is chosen', async () => {
    await choose('clip-whole', {});
    const { vision, target } = await described();
    expect(vision).toMatchObject({ imageTokens: 9, model: { family: 'clip_vision_model' } });
    expect(target.visionFeatures).toBeUndefined();
    expect((await inspect(folder)).text).toMatch(
      new RegExp(`vision checkpoint ${folder}/clip-whole: fits\\n {2}family +clip_vision_model\\n {2}parameters`),
    );
  });

  it('are those that are chosen: the engine gives them, adapters and people are told', async () => {
    const states: Float32Array[] = [];
    for (const [fields, tokens, name] of [
      [{}, 9, undefined],
      [{ vision_feature_select_strategy: 'full' }, 10, 'layer 2, full'],
      [{ vision_feature_layer: -1 }, 9, 'layer 3, default'],
    ] as const) {
      await choose('clip-whole', { ...fields });
      const { vision, target } = await described();
      if (!vision) throw new TypeError('Expected a vision encoder');
      expect([vision.imageTokens, target.visionFeatures]).toEqual([tokens, name]);
      if (name !== undefined) expect((await inspect(folder)).text).toMatch(new RegExp(`\\n {2}features +${name}\\n`));
      const encoder = await VisionEncoder.open(vision, 1, 0);
      const data = new Uint8Array(14 * 14 * 3).map((_, index) => (index * 7919) % 256);
      states.push(await encoder.encode({ data, height: 14, width: 14, digest: 'x' }));
      await encoder.close();
    }
    const [own, withToken, last] = states as [Float32Array, Float32Array, Float32Array];
    expect(withToken.subarray(16)).toEqual(own);
    expect(last).toHaveLength(own.length);
    expect(last).not.toEqual(own);
  });

  it.each([
    ['clip', { vision_feature_layer: 4 }, /backbone\.json: vision_feature_layer: Expected .* from -4 to 3, .* but received 4$/],
    [
      'siglip-whole',
      { vision_feature_select_strategy: 'full' },
      /backbone\.json: vision_feature_select_strategy: Expected "default", because siglip_vision_model has no class token, but received "full"$/,
    ],
  ])('are refused by file and field where %s has none such: %j', async (tower, fields, message) => {
    await choose(tower, fields);
    await expect(described()).rejects.toThrow(message);
  });
});
