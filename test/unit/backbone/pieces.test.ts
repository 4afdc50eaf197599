/** The bytes of single tokens, against what the tokenizer's own package decodes whole sequences to. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Pieces } from '../../../src/backbone/pieces.js';
import { Tokenizer } from '../../../src/backbone/tokenizer.js';
import { byteFallbackTokenizer, byteLevelTokenizer, writeTokenizer } from '../../support/tokenizers.js';

const METASPACE = fileURLToPath(new URL('../../fixtures/peft/checkpoint', import.meta.url));
const SHIPPED = fileURLToPath(new URL('../../../models/scenes/language', import.meta.url));
const KINDS = ['byte fallback', 'byte level', 'metaspace', 'shipped'] as const;

let folder = '';
const tokenizers = new Map<string, Tokenizer>();

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-pieces-'));
  const made = { 'byte fallback': byteFallbackTokenizer(), 'byte level': byteLevelTokenizer() };
  for (const [kind, tokenizer] of Object.entries(made))
    tokenizers.set(kind, await Tokenizer.open(await writeTokenizer(path.join(folder, kind.replace(' ', '-')), { tokenizer })));
  tokenizers.set('metaspace', await Tokenizer.open(METASPACE));
  tokenizers.set('shipped', await Tokenizer.open(SHIPPED));
});
afterAll(() => rm(folder, { recursive: true }));

function open(kind: string): { readonly tokenizer: Tokenizer; readonly pieces: Pieces } {
  const tokenizer = tokenizers.get(kind);
  if (!tokenizer?.pieces) throw new TypeError(`no tokenizer ${kind}, or one without bytes`);
  return { tokenizer, pieces: tokenizer.pieces };
}

describe.each(KINDS)('pieces of a %s tokenizer', (kind) => {
  test('one after the other are the text, for any ids; the space at its beginning apart', () => {
    const { tokenizer, pieces } = open(kind);
    const ids = fc.array(fc.nat({ max: tokenizer.vocabSize - 1 }), { maxLength: 60 });
    fc.assert(
      fc.property(ids, (given) => {
        const plain = given.filter((id) => !tokenizer.isSpecial(id));
        const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(plain.map((id) => pieces.bytesOf(id))));
        const stripped = pieces.stripsSpace && text.startsWith(' ') ? text.slice(1) : text;
        expect(stripped).toBe(tokenizer.decode(given));
      }),
      { numRuns: 400 },
    );
  });

  test('are the bytes of a text that it writes, whatever characters they split', () => {
    const { tokenizer, pieces } = open(kind);
    const units = kind === 'metaspace' ? ['a', 'dog', ' ', '.'] : ['a', 'the', ' ', 'é', '漢', '😀', '.'];
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...units), maxLength: 30 }), (text) => {
        const ids = tokenizer.encode(text).slice(1);
        fc.pre(ids.every((id) => !tokenizer.isSpecial(id)));
        const bytes = Buffer.concat(ids.map((id) => pieces.bytesOf(id)));
        const start = pieces.stripsSpace && bytes[0] === 0x20 ? 1 : 0;
        expect(bytes.subarray(start).toString('utf8')).toBe(tokenizer.decode(ids));
        expect(bytes.subarray(start).equals(Buffer.from(tokenizer.decode(ids)))).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

test.each<[string, unknown]>([
  ['none', null],
  ['WordPiece', { type: 'WordPiece', prefix: '##', cleanup: true }],
  ['suffixes', { type: 'BPEDecoder', suffix: '</w>' }],
  ['a pattern', { type: 'Sequence', decoders: [{ type: 'Replace', pattern: { Regex: '▁+' }, content: ' ' }] }],
  ['more than a space stripped', { type: 'Sequence', decoders: [{ type: 'Strip', content: ' ', start: 2, stop: 0 }] }],
  ['bytes and more', { type: 'Sequence', decoders: [{ type: 'ByteLevel' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }] }],
])('a decoder of another kind (%s) has no pieces', (_, decoder) => {
  expect(
    Pieces.of(
      decoder,
      () => 'a',
      () => false,
    ),
  ).toBeNull();
});
