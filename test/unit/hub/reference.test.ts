import { describe, expect, it } from 'vitest';
import { isPlainPath, parseReference } from '../../../src/hub/reference.js';

describe('a reference', () => {
  it.each([
    ['owner/name', 'owner', 'name', 'main'],
    ['HuggingFaceTB/SmolLM-135M@v1.0', 'HuggingFaceTB', 'SmolLM-135M', 'v1.0'],
    ['a.b/c_d@refs/pr/12', 'a.b', 'c_d', 'refs/pr/12'],
    [`o/n@${'a'.repeat(40)}`, 'o', 'n', 'a'.repeat(40)],
    ['gpt2', null, 'gpt2', 'main'],
    ['distilbert-base-uncased@v2/x', null, 'distilbert-base-uncased', 'v2/x'],
  ])('%s', (text, owner, name, revision) => {
    expect(parseReference(text)).toEqual({ owner, name, revision });
  });

  it.each([
    '',
    '.',
    'a/',
    '/a',
    '@main',
    'a--b',
    'a/b/c',
    '../b',
    'a/..',
    'a/b@',
    'a/b@../c',
    'a/b@c//d',
    'a/b@/c',
    'a--x/b',
    'https://huggingface.co/a/b',
    'a/b c',
    'a/b@c\n',
  ])('%j is none', (text) => {
    expect(() => parseReference(text)).toThrow(
      `Expected OWNER/NAME or NAME, with @REVISION or without, but received ${JSON.stringify(text)}`,
    );
  });
});

it('a path is plain where it stays where it is put', () => {
  for (const path of ['a', 'a/b.json', '.gitattributes', '..a/b..', 'ä b/c:d']) expect(isPlainPath(path), path).toBe(true);
  for (const path of ['', '/', '/a', 'a/', 'a//b', '.', '..', 'a/../b', 'a/./b', 'a\\b', 'c:/a', 'a\0b', 'a\u009fb'])
    expect(isPlainPath(path), path).toBe(false);
});
