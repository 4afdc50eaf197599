import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { Tokenizer } from '../../../src/backbone/tokenizer.js';
import { byteFallbackTokenizer, byteLevelTokenizer, writeTokenizer } from '../../support/tokenizers.js';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-tokenizer-'));
});
afterEach(() => rm(folder, { recursive: true }));

describe('Tokenizer', () => {
  test('puts BOS first, once, whatever the post-processor adds', async () => {
    const template = await Tokenizer.open(await writeTokenizer(path.join(folder, 'a'), { tokenizer: byteFallbackTokenizer() }));
    expect(template.encode('')).toEqual([1]);
    expect(template.encode('the').slice(0, 1)).toEqual([1]);
    expect(template.encode('the').filter((id) => id === 1)).toEqual([1]);

    const tokenizerConfig = { bos_token: { content: '<|endoftext|>' } };
    const plain = await Tokenizer.open(
      await writeTokenizer(path.join(folder, 'b'), { tokenizer: byteLevelTokenizer(), tokenizerConfig }),
    );
    expect(plain.encode('')).toEqual([1]);
    expect(plain.decode(plain.encode(' the cat'))).toBe(' the cat');
  });

  test('takes every end-of-sequence id of both config files', async () => {
    const config = { bos_token_id: 1, eos_token_id: 2 };
    const generationConfig = { eos_token_id: [2, 0] };
    const tokenizer = await Tokenizer.open(
      await writeTokenizer(folder, { tokenizer: byteFallbackTokenizer(), config, generationConfig }),
    );
    expect(tokenizer.eosIds).toEqual([2, 0]);
  });

  test('skips special tokens and leaves spaces before punctuation alone', async () => {
    const tokenizer = await Tokenizer.open(await writeTokenizer(folder, { tokenizer: byteFallbackTokenizer() }));
    expect(tokenizer.decode([1, ...tokenizer.encode('the end .').slice(1), 2])).toBe('the end .');
    expect(tokenizer.decode([1, 2])).toBe('');
    expect(tokenizer.decode([])).toBe('');
    expect(tokenizer.isSpecial(2)).toBe(true);
    expect(tokenizer.isSpecial(3)).toBe(false);
  });

  test('names the file where one is missing or is not what it should be', async () => {
    await expect(Tokenizer.open(folder)).rejects.toThrow('Expected a file tokenizer.json but there is none');
    await writeTokenizer(folder, { tokenizer: { model: {} } });
    await expect(Tokenizer.open(folder)).rejects.toMatchObject({ code: 'invalid_file' });
    await writeFile(path.join(folder, 'tokenizer.json'), 'not json');
    await expect(Tokenizer.open(folder)).rejects.toThrow('tokenizer.json: Expected JSON');
    await writeTokenizer(folder, { tokenizer: byteLevelTokenizer(), config: { eos_token_id: 'x' } });
    await expect(Tokenizer.open(folder)).rejects.toThrow('config.json: eos_token_id');
    await writeTokenizer(folder, { tokenizer: byteLevelTokenizer(), config: {} });
    await expect(Tokenizer.open(folder)).rejects.toThrow('beginning-of-sequence');
  });
});

describe('readBackbone', () => {
  const manifest = (value: object) => writeFile(path.join(folder, 'backbone.json'), JSON.stringify(value));

  test('takes a folder, its backbone.json, or a bare language folder', async () => {
    const languageFolder = await writeTokenizer(path.join(folder, 'language'), { tokenizer: byteFallbackTokenizer() });
    await manifest({ format: 'graft-backbone/1', name: 'pair', language: 'language', vision: './language' });
    const expected = { name: 'pair', languageFolder, visionFolder: languageFolder };
    expect(await readBackbone(folder)).toEqual(expected);
    expect(await readBackbone(path.join(folder, 'backbone.json'))).toEqual(expected);
    expect(await readBackbone(languageFolder)).toEqual({ name: 'language', languageFolder, visionFolder: null });
  });

  test('names every fault at once', async () => {
    await manifest({ format: 'graft-backbone/2', name: 'a b', language: 7, extra: true });
    await expect(readBackbone(folder)).rejects.toThrow(
      /format: Expected "graft-backbone\/1".*name: Expected letters.*language: Expected.*but received 7.*extra/s,
    );
    await manifest({ format: 'graft-backbone/1', name: 'x', language: 'gone', vision: 'gone-too' });
    await expect(readBackbone(folder)).rejects.toThrow(/language: Expected a checkpoint folder.*gone.*vision: .*gone-too/s);
  });

  test('takes a choice of features, or a part of one', async () => {
    await writeTokenizer(path.join(folder, 'both'), { tokenizer: byteFallbackTokenizer() });
    const both = { format: 'graft-backbone/1', name: 'x', language: 'both', vision: 'both' };
    const file = path.join(folder, 'backbone.json');
    const choiceOf = async (fields: object) => {
      await manifest({ ...both, ...fields });
      return (await readBackbone(folder)).visionFeatures;
    };
    expect(await choiceOf({ vision_feature_layer: -2, vision_feature_select_strategy: 'full' })).toEqual({
      file,
      layer: -2,
      select: 'full',
    });
    expect(await choiceOf({ vision_feature_layer: 0 })).toEqual({ file, layer: 0 });
    expect(await choiceOf({ vision_feature_layer: 'last_hidden_state' })).toEqual({ file, layer: 'last_hidden_state' });
    expect(await choiceOf({ vision_feature_layer: null, vision_feature_select_strategy: 'default' })).toEqual({
      file,
      select: 'default',
    });
    expect(await choiceOf({ vision_feature_layer: null })).toBeUndefined();
  });

  test('refuses a choice of features that is none, or of no encoder', async () => {
    const language = await writeTokenizer(path.join(folder, 'language'), { tokenizer: byteFallbackTokenizer() });
    const text = { format: 'graft-backbone/1', name: 'x', language };
    await manifest({ ...text, vision_feature_layer: [-2, -5], vision_feature_select_strategy: 'cls' });
    await expect(readBackbone(folder)).rejects.toMatchObject({
      code: 'invalid_file',
      faults: [
        'vision_feature_layer: Expected a whole number or "last_hidden_state" but received [-2,-5]',
        'vision_feature_select_strategy: Expected "default" or "full" but received "cls"',
      ],
    });
    await manifest({ ...text, vision_feature_layer: -2, vision_feature_select_strategy: 'full' });
    await expect(readBackbone(folder)).rejects.toMatchObject({
      message: expect.stringContaining(`${folder}/backbone.json: `),
      faults: [
        'vision_feature_layer: Expected none, because there is no vision encoder, but received -2',
        'vision_feature_select_strategy: Expected none, because there is no vision encoder, but received "full"',
      ],
    });
  });

  test('says what it looked for where there is nothing', async () => {
    await expect(readBackbone(path.join(folder, 'none'))).rejects.toThrow('but there is nothing');
    await expect(readBackbone(folder)).rejects.toThrow('but there is neither');
  });
});
