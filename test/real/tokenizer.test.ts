import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { Tokenizer } from '../../src/backbone/tokenizer.js';
import { hasShared, shared, withShared } from '../support/shared.js';

interface Case {
  readonly text: string;
  readonly ids: readonly number[];
  readonly decoded: string;
}

test.runIf(hasShared)(`tinystories' ids and texts are those of the Rust tokenizers${withShared}`, async () => {
  const file = new URL('../fixtures/tokenizer/tinystories.json', import.meta.url);
  const cases = JSON.parse(await readFile(file, 'utf8')) as Case[];
  const tokenizer = await Tokenizer.open(shared('tinystories-656k'));
  expect(cases.length).toBeGreaterThan(20);
  for (const { text, ids, decoded } of cases) {
    expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
    expect(tokenizer.decode(ids), JSON.stringify(text)).toBe(decoded);
  }
  expect(tokenizer).toMatchObject({ bosId: 1, eosIds: [2], vocabSize: 2048 });
});
