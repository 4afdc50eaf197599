/** Tokens told beside the text that they make: none too early, none twice, none of what a stop string cuts off. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Tokenizer } from '../../../src/backbone/tokenizer.js';
import { LikelihoodStream, type TokenLikelihood } from '../../../src/serving/likelihood.js';
import { TextStream } from '../../../src/serving/text.js';
import { byteFallbackTokenizer, byteLevelTokenizer, writeTokenizer } from '../../support/tokenizers.js';

let folder = '';
const tokenizers = new Map<string, Tokenizer>();

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-likelihood-'));
  const kinds = { 'byte fallback': byteFallbackTokenizer(), 'byte level': byteLevelTokenizer() };
  for (const [kind, tokenizer] of Object.entries(kinds))
    tokenizers.set(kind, await Tokenizer.open(await writeTokenizer(path.join(folder, kind.replace(' ', '-')), { tokenizer })));
});
afterAll(() => rm(folder, { recursive: true }));

function open(kind: string): Tokenizer {
  const tokenizer = tokenizers.get(kind);
  if (!tokenizer) throw new TypeError(`no tokenizer ${kind}`);
  return tokenizer;
}

interface Told {
  readonly text: string;
  readonly tokens: readonly TokenLikelihood[];
}

/** As a generation runs the two streams. */
function run(tokenizer: Tokenizer, ids: readonly number[], stop: readonly string[], prefixIds: readonly number[]) {
  const text = new TextStream(tokenizer, { stop, prefixIds });
  const likelihoods = new LikelihoodStream(tokenizer, prefixIds);
  const pieces: Told[] = [];
  for (const [index, id] of ids.entries()) {
    if (text.stopped) break;
    // The log-probability tells which token it was.
    likelihoods.push(id, { logprob: -index, top: [[id, -index]] });
    const piece = text.push(id);
    pieces.push({ text: piece, tokens: likelihoods.take(piece) });
  }
  const rest = text.finish();
  const tokens = likelihoods.take(rest);
  pieces.push({ text: rest, tokens: text.stopped ? tokens : [...tokens, ...likelihoods.finish()] });
  return { pieces, stopped: text.stopped, text: pieces.map((piece) => piece.text).join('') };
}

const bytesOf = (tokens: readonly TokenLikelihood[]): Buffer => Buffer.from(tokens.flatMap(({ bytes }) => bytes ?? []));
const decoded = (bytes: Buffer): string => new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);

describe.each(['byte fallback', 'byte level'])('tokens of a %s tokenizer', (kind) => {
  const anyIds = fc.array(fc.nat({ max: 250 }), { maxLength: 40 });
  const anyText = fc.string({ unit: fc.constantFrom('a', 'the', ' ', 'é', '漢', '😀', 't', '.'), maxLength: 25 });
  const anyStop = fc.array(fc.string({ unit: fc.constantFrom('a', 't', 'h', ' ', 'é', '漢'), minLength: 1, maxLength: 3 }), {
    maxLength: 3,
  });

  test('are all told, in order, and add up to the text, for any ids', () => {
    fc.assert(
      fc.property(anyIds, (ids) => {
        const { pieces, text } = run(open(kind), ids, [], []);
        const tokens = pieces.flatMap((piece) => piece.tokens);
        expect(tokens.map(({ logprob }) => -logprob)).toEqual(ids.map((_, index) => index));
        expect(decoded(bytesOf(tokens))).toBe(text);
      }),
      { numRuns: 400 },
    );
  });

  test('have the bytes of the text, and the place of their first character in it', () => {
    fc.assert(
      fc.property(anyText, (written) => {
        const tokenizer = open(kind);
        const { pieces, text } = run(tokenizer, tokenizer.encode(written).slice(1), [], []);
        const tokens = pieces.flatMap((piece) => piece.tokens);
        expect(bytesOf(tokens).equals(Buffer.from(text))).toBe(true);
        const characters = Array.from(text);
        for (const [index, { offset, token }] of tokens.entries()) {
          const before = bytesOf(tokens.slice(0, index));
          // Whole characters before it: of half a one there is U+FFFD at the end.
          expect(Array.from(decoded(before).replace(/\uFFFD$/, ''))).toEqual(characters.slice(0, offset));
          if (!token.includes('\uFFFD')) expect(characters.slice(offset, offset + Array.from(token).length).join('')).toBe(token);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('come with the text that they begin, and not after it is cut', () => {
    fc.assert(
      fc.property(anyText, anyStop, fc.boolean(), (written, stop, continues) => {
        const tokenizer = open(kind);
        const prefixIds = continues ? tokenizer.encode('a the') : [];
        const { pieces, text, stopped } = run(tokenizer, tokenizer.encode(written).slice(1), stop, prefixIds);
        let before = 0;
        let seen = 0;
        for (const piece of pieces) {
          const after = before + Array.from(piece.text).length;
          for (const { offset } of piece.tokens) {
            expect(offset).toBeGreaterThanOrEqual(before);
            expect(offset < after || (!stopped && offset === after)).toBe(true);
            seen++;
          }
          before = after;
        }
        const tokens = pieces.flatMap((piece) => piece.tokens);
        const all = decoded(bytesOf(tokens));
        // The token in which a stop string begins is told whole.
        if (stopped) expect(all.startsWith(text)).toBe(true);
        else expect(all).toBe(text);
        if (stopped && tokens.length > 0) expect(Array.from(text).length).toBeGreaterThan(tokens.at(-1)?.offset as number);
        expect(seen).toBe(tokens.length);
      }),
      { numRuns: 400 },
    );
  });

  test('that are special have a name and no bytes', () => {
    const { pieces } = run(open(kind), [2, 4], [], []);
    expect(pieces.flatMap(({ tokens }) => tokens)[0]).toMatchObject({
      token: kind === 'byte level' ? '<|end|>' : '</s>',
      bytes: null,
      offset: 0,
      top: [{ bytes: null }],
    });
  });
});
