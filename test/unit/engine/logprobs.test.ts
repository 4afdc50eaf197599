/**
 * How likely tokens are, against transformers' log_softmax of its own logits in float64 (test/fixtures/logprobs/make.py), and against the formula
 * written out for any logits.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readAdapter } from '../../../src/adapter/format.js';
import { type BackboneDescription, describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { Batch, type Member } from '../../../src/engine/batch.js';
import { Decoder } from '../../../src/engine/decoder.js';
import { type TokenLogprobs, tokenLogprobs } from '../../../src/engine/logprobs.js';
import { GREEDY, type Sampling, strategyFor } from '../../../src/engine/strategy.js';
import { makeBackbone } from '../../fixtures/peft/make.js';

interface Expected {
  readonly ids: readonly number[];
  readonly cases: Readonly<
    Record<
      string,
      {
        readonly adapter: string | null;
        readonly penalty: number;
        readonly tokens: readonly number[];
        readonly logprobs: readonly number[];
        readonly top: readonly (readonly (readonly [number, number])[])[];
      }
    >
  >;
}

const FIXTURES = fileURLToPath(new URL('../../fixtures/', import.meta.url));
const expected = JSON.parse(await readFile(join(FIXTURES, 'logprobs/expected.json'), 'utf8')) as Expected;
/** The logits themselves, in float32, are this far apart. */
const BOUND = 3e-5;

describe('generated tokens', () => {
  let folder: string;
  let backbone: BackboneDescription;
  let decoder: Decoder;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'graft-logprobs-'));
    backbone = await describeBackbone(await readBackbone(await makeBackbone(folder)));
    decoder = await Decoder.open(backbone, { threads: 1, rows: 4, maxLength: 64 });
  });
  afterAll(async () => {
    await decoder.close();
    await rm(folder, { recursive: true });
  });

  /** Every token that a request is told, in order. */
  async function generate(sampling: Sampling, adapter: string | null = null) {
    const batch = new Batch<Member>(decoder);
    const loaded = adapter === null ? null : await readAdapter(join(FIXTURES, 'peft/adapters', adapter), backbone.target);
    const vocabulary = { size: backbone.language.vocabSize, eosIds: [] };
    const strategy = strategyFor(sampling, vocabulary, expected.ids);
    const emitted: { tokenId: number; logprobs: TokenLogprobs | undefined }[] = [];
    const member = { adapter: loaded, promptIds: expected.ids, imageEmbeddings: null, imageTokens: 0, strategy };
    for (let joining: Member[] = [member]; joining.length > 0 || batch.size > 0; joining = []) {
      const outcome = await batch.step(joining);
      expect(outcome.failed).toEqual([]);
      emitted.push(...outcome.emitted);
    }
    return emitted;
  }

  it.each(Object.keys(expected.cases))('%s: as likely as transformers finds them, whatever chose them', async (name) => {
    const { adapter, penalty, tokens, logprobs, top } = expected.cases[name] as Expected['cases'][string];
    const emitted = await generate({ ...GREEDY, maxTokens: tokens.length, repetitionPenalty: penalty, logprobs: 5 }, adapter);
    expect(emitted.map(({ tokenId }) => tokenId)).toEqual(tokens);
    for (const [index, { logprobs: told }] of emitted.entries()) {
      expect(Math.abs((told?.logprob ?? Number.NaN) - (logprobs[index] as number))).toBeLessThan(BOUND);
      expect(told?.top.map(([id]) => id)).toEqual(top[index]?.map(([id]) => id));
      for (const [place, [, value]] of (told?.top ?? []).entries())
        expect(Math.abs(value - (top[index]?.[place]?.[1] ?? Number.NaN))).toBeLessThan(BOUND);
    }
  });

  it('are told to nobody who did not ask, and change for nobody', async () => {
    const sampling = { ...GREEDY, maxTokens: 8, temperature: 0.9, seed: 3 };
    const silent = await generate(sampling);
    expect(silent.every(({ logprobs }) => logprobs === undefined)).toBe(true);
    const told = await generate({ ...sampling, logprobs: 0 });
    expect(told.map(({ tokenId }) => tokenId)).toEqual(silent.map(({ tokenId }) => tokenId));
    expect(told.every(({ logprobs }) => logprobs?.top.length === 0)).toBe(true);
  });
});

describe('tokenLogprobs', () => {
  const logits = fc.array(fc.oneof(fc.float({ min: -90, max: 90, noNaN: true }), fc.constantFrom(-Infinity, 0, 3)), {
    minLength: 1,
    maxLength: 60,
  });

  it('is the log of softmax, with the best in order, for any logits of which one is finite (property)', () => {
    fc.assert(
      fc.property(logits, fc.nat(59), fc.nat(70), (values, at, count) => {
        const row = Float32Array.from([...values, 1]);
        const id = at % row.length;
        const { logprob, top } = tokenLogprobs(row, id, count);
        const total = Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0));
        const exact = [...row].map((value) => value - total);
        const near = (value: number, wanted: number | undefined) =>
          value === wanted || Math.abs(value - (wanted ?? Number.NaN)) < 1e-9;
        expect(near(logprob, exact[id])).toBe(true);
        // Of equals (and the impossible are equal) the lower id comes first.
        const ranked = [...row.entries()].sort(([a, x], [b, y]) => (x === y ? a - b : y - x)).slice(0, count);
        expect(top.map(([best]) => best)).toEqual(ranked.map(([best]) => best));
        for (const [place, [best]] of ranked.entries()) expect(near(top[place]?.[1] as number, exact[best])).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});
