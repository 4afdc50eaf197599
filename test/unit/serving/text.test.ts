import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Tokenizer } from '../../../src/backbone/tokenizer.js';
import { StopFilter, TextStream } from '../../../src/serving/text.js';
import { byteFallbackTokenizer, byteLevelTokenizer, writeTokenizer } from '../../support/tokenizers.js';

let folder = '';
const tokenizers = new Map<string, Tokenizer>();

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-text-'));
  const kinds = { 'byte fallback': byteFallbackTokenizer(), 'byte level': byteLevelTokenizer() };
  for (const [kind, tokenizer] of Object.entries(kinds)) {
    tokenizers.set(kind, await Tokenizer.open(await writeTokenizer(path.join(folder, kind.replace(' ', '-')), { tokenizer })));
  }
});

afterAll(() => rm(folder, { recursive: true }));

function open(kind: string): Tokenizer {
  const tokenizer = tokenizers.get(kind);
  if (!tokenizer) throw new TypeError(`no tokenizer ${kind}`);
  return tokenizer;
}

/** All pieces of a stream, in order. */
function pieces(stream: TextStream, ids: readonly number[]): string[] {
  return [...ids.map((id) => stream.push(id)), stream.finish()];
}

/** The text of decoding everything at once, cut before the first stop string to be complete. */
function cut(text: string, stops: readonly string[]): string {
  for (let end = 1; end <= text.length; end++) {
    const found = stops.filter((stop) => stop !== '' && text.slice(0, end).endsWith(stop));
    if (found.length > 0) return text.slice(0, end - Math.max(...found.map((stop) => stop.length)));
  }
  return text;
}

describe.each(['byte fallback', 'byte level'])('TextStream over a %s tokenizer', (kind) => {
  const anyIds = () => fc.array(fc.nat({ max: open(kind).vocabSize - 1 }), { maxLength: 60 });

  test('its pieces add up to what decoding all ids at once gives, for any ids', () => {
    fc.assert(
      fc.property(anyIds(), (ids) => {
        expect(pieces(new TextStream(open(kind)), ids).join('')).toBe(open(kind).decode(ids));
      }),
      { numRuns: 400 },
    );
  });

  test('no piece of well-formed text holds half a character', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('a', 'the', ' ', 'é', '漢', '😀', '👩‍🚀', '.'), maxLength: 30 }), (text) => {
        const ids = open(kind).encode(text).slice(1);
        const all = pieces(new TextStream(open(kind)), ids);
        expect(all.join('')).toBe(text);
        for (const piece of all) expect(piece).not.toMatch(/\p{Surrogate}|\uFFFD/u);
      }),
      { numRuns: 300 },
    );
  });

  test('after a prefix, its pieces are what the prefix and they decode to together', () => {
    const words = fc.array(fc.constantFrom('a', 'the', 'cat', 'é', '.', ' '), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(words, words, (before, after) => {
        const tokenizer = open(kind);
        const prefixIds = tokenizer.encode(before.join(' '));
        const ids = tokenizer.encode(after.join(' ')).slice(1);
        const together = tokenizer.decode([...prefixIds, ...ids]);
        expect(tokenizer.decode(prefixIds) + pieces(new TextStream(tokenizer, { prefixIds }), ids).join('')).toBe(together);
      }),
      { numRuns: 300 },
    );
  });

  test('with stop strings it ends before the first that is complete', () => {
    const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 't', 'h', ' ', 'é'), minLength: 1, maxLength: 4 }), {
      maxLength: 4,
    });
    const text = fc.string({ unit: fc.constantFrom('a', 't', 'h', 'the', ' ', 'é'), maxLength: 40 });
    fc.assert(
      fc.property(text, stops, (text, stop) => {
        const ids = open(kind).encode(text).slice(1);
        const stream = new TextStream(open(kind), { stop });
        expect(pieces(stream, ids).join('')).toBe(cut(text, stop));
        expect(stream.stopped).toBe(cut(text, stop) !== text);
      }),
      { numRuns: 400 },
    );
  });
});

describe('StopFilter', () => {
  test('hands text on at once where no stop string can begin', () => {
    const filter = new StopFilter(['###']);
    expect(filter.push('a dog')).toBe('a dog');
    expect(filter.push(' #')).toBe(' ');
    expect(filter.push('#1')).toBe('##1');
    expect(filter.push('x##')).toBe('x');
    expect(filter.finish()).toBe('##');
    expect(filter.stopped).toBe(false);
  });

  test('gives the same text whatever pieces the characters come in', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 30 });
    fc.assert(
      fc.property(
        text,
        fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 4 }), { maxLength: 3 }),
        fc.array(fc.nat(4)),
        (text, stops, sizes) => {
          const filter = new StopFilter(stops);
          let out = '';
          let rest = text;
          for (const size of sizes) {
            out += filter.push(rest.slice(0, size));
            rest = rest.slice(size);
          }
          out += filter.push(rest) + filter.finish();
          expect(out).toBe(cut(text, stops));
        },
      ),
      { numRuns: 500 },
    );
  });

  test('says nothing more after a stop string', () => {
    const filter = new StopFilter(['stop']);
    expect(filter.push('go stop go')).toBe('go ');
    expect(filter.push('more')).toBe('');
    expect(filter.finish()).toBe('');
  });
});
