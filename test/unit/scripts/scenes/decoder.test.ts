/** The decoder begins as a checkpoint folder that everything reads, with a tokenizer for its text and without a weight. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { documentsOf } from '../../../../scripts/scenes/corpus.js';
import { prepareDecoder } from '../../../../scripts/scenes/decoder.js';
import { readLanguageModel } from '../../../../src/backbone/language/families.js';
import { Tokenizer } from '../../../../src/backbone/tokenizer.js';

let folder: string;
const heard: number[] = [];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-decoder-'));
  const checkpoint = join(folder, 'decoder');
  await prepareDecoder({ checkpoint, corpus: join(folder, 'text.jsonl'), seed: 1, scenes: 200 }, (scenes) => heard.push(scenes));
});
afterAll(() => rm(folder, { recursive: true }));

describe('prepareDecoder', () => {
  it('writes a llama that is described without weights', async () => {
    const { family, vocabSize, maxPositions } = await readLanguageModel(join(folder, 'decoder'));
    expect({ family, maxPositions }).toEqual({ family: 'llama', maxPositions: 256 });
    expect(vocabSize).toBeGreaterThan(500);
    expect(heard.at(-1)).toBe(200);
  });

  it('has a tokenizer that gives every text back, most words in one token', async () => {
    const tokenizer = await Tokenizer.open(join(folder, 'decoder'));
    const texts = (await readFile(join(folder, 'text.jsonl'), 'utf8'))
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { text: string }).text);
    expect(texts).toEqual(Array.from({ length: 200 }, (_, index) => documentsOf(1, index)).flat());
    let [tokens, words] = [0, 0];
    for (const text of texts) {
      const ids = tokenizer.encode(text);
      expect(tokenizer.decode(ids.slice(1))).toBe(text);
      tokens += ids.length - 1;
      words += text.match(/[\p{L}\p{N}]+|[^\p{L}\p{N}\s]|\n/gu)?.length ?? 0;
    }
    expect(tokens / words).toBeLessThan(1.2);
  });
});

describe('documentsOf', () => {
  it('is the same for ever, and another for another scene', () => {
    expect(documentsOf(1, 7)).toEqual(documentsOf(1, 7));
    expect(documentsOf(1, 7)).not.toEqual(documentsOf(1, 8));
    expect(documentsOf(2, 7)).not.toEqual(documentsOf(1, 7));
  });

  it('mostly says several things of one scene', () => {
    const lines = Array.from({ length: 300 }, (_, index) => documentsOf(3, index))
      .flat()
      .map((text) => text.split('\n').length);
    const share = (count: number): number => lines.filter((each) => each === count).length / lines.length;
    for (const [count, expected] of [
      [1, 0.1],
      [2, 0.4],
      [3, 0.5],
    ] as const)
      expect(share(count)).toBeCloseTo(expected, 1);
  });
});
