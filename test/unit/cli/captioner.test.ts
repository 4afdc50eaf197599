/** Captions and losses against the decoder alone, one token and one row a run, with sums in double precision: nothing that the captioner batches. */
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedAdapter } from '../../../src/adapter/adapter.js';
import { readAdapter } from '../../../src/adapter/format.js';
import { type BackboneDescription, describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { Tokenizer } from '../../../src/backbone/tokenizer.js';
import { Captioner, type CaptionerOptions } from '../../../src/cli/captioner.js';
import { Decoder } from '../../../src/engine/decoder.js';
import type { Example } from '../../../src/training/data/example.js';
import { makeTinyFolder, writeTinyAdapter } from '../../support/server.js';
import { TINY } from '../../support/tiny.js';

const PROMPT = 'a cat on';
const COLOURS = ['#f00', '#0f0', '#00f', '#888', '#ff0'];

let folder: string;
let images: string[];
let backbone: BackboneDescription;
let adapter: LoadedAdapter;
let tokenizer: Tokenizer;
let decoder: Decoder;
let captioner: Captioner | undefined;

beforeAll(async () => {
  folder = await makeTinyFolder([]);
  await writeTinyAdapter(folder, 'prompted', 3, PROMPT);
  images = COLOURS.map((_, index) => path.join(folder, `${index}.png`));
  for (const [index, background] of COLOURS.entries()) {
    await sharp({ create: { width: 30 + index, height: 40, channels: 3, background } }).toFile(images[index] as string);
  }
  backbone = await describeBackbone(await readBackbone(path.join(folder, 'backbone')));
  adapter = await readAdapter(path.join(folder, 'adapters', 'prompted'), backbone.target);
  tokenizer = await Tokenizer.open(backbone.languageFolder);
  decoder = await Decoder.open(backbone, { threads: 1, rows: 1, maxLength: TINY.contextLength });
});
afterEach(async () => {
  await captioner?.close();
  captioner = undefined;
});
afterAll(async () => {
  await decoder.close();
  await rm(folder, { recursive: true });
});

async function open(options: Partial<CaptionerOptions> = {}): Promise<Captioner> {
  const defaults = { backbone: path.join(folder, 'backbone'), adapter: path.join(folder, 'adapters', 'prompted') };
  captioner = await Captioner.open({ ...defaults, threads: 1, batch: 3, maxTokens: 12, ...options });
  return captioner;
}

const example = (image: string | null, ...captions: string[]): Example => ({ image, captions, origin: 'data.jsonl:1' });

/** Logits of the token after these. */
async function logitsAfter(promptIds: readonly number[], imageEmbeddings: Float32Array | null, by: LoadedAdapter | null) {
  const [logits] = await decoder.prefill(0, [{ adapter: by, promptIds, imageEmbeddings }]);
  return [...(logits as Float32Array)];
}

async function lossesOf(ids: readonly number[], given: number, image: Float32Array | null, by: LoadedAdapter | null) {
  const losses: number[] = [];
  for (let at = given; at < ids.length; at++) {
    const logits = await logitsAfter(ids.slice(0, at), image, by);
    const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
    losses.push(Math.log(sum) - (logits[ids[at] as number] as number));
  }
  return losses;
}

function expectClose(received: readonly ArrayLike<number>[], expected: readonly (readonly number[])[]): void {
  expect(received.map(({ length }) => length)).toEqual(expected.map(({ length }) => length));
  received.forEach((losses, row) => {
    Array.from(losses).forEach((loss, index) => {
      expect(loss).toBeCloseTo(expected[row]?.[index] as number, 4);
    });
  });
}

describe('losses', () => {
  const CAPTIONS = ['the dog.', 'a', 'the cat is on the boat, as it seems.', 'b?'];

  it('are those of the logits after prompt and image, the end included, whatever is scored together', async () => {
    const opened = await open();
    const embedded = await Promise.all(images.slice(0, CAPTIONS.length).map((image) => opened.embed(image)));
    const { sequences, bad } = opened.tokenize(
      CAPTIONS.map((caption, index) => example(images[index] as string, caption)),
      'first',
    );
    expect(bad).toEqual([]);
    const whole = CAPTIONS.map((caption) => [...tokenizer.encode(`${PROMPT} ${caption}`), 2]);
    const given = tokenizer.encode(PROMPT).length;
    const rows = whole.map((_, index) => ({ ids: sequences.ids(index), image: embedded[index] as Float32Array }));
    expect(rows.map(({ ids }) => [...ids])).toEqual(whole);
    const expected: number[][] = [];
    for (const [index, ids] of whole.entries())
      expected.push(await lossesOf(ids, given, embedded[index] as Float32Array, adapter));
    expectClose(await opened.losses(rows), expected);
  });

  it('of rows with an image and without one, in one call', async () => {
    const opened = await open();
    const image = await opened.embed(images[0] as string);
    const ids = [...tokenizer.encode(`${PROMPT} the cat`), 2];
    const given = tokenizer.encode(PROMPT).length;
    const rows = [null, image, null].map((each) => ({ ids: Int32Array.from(ids), image: each }));
    const [text, seen] = [await lossesOf(ids, given, null, adapter), await lossesOf(ids, given, image, adapter)];
    expect(text).not.toEqual(seen);
    expectClose(await opened.losses(rows), [text, seen, text]);
  });

  it('of the bare backbone, which has no prompt and cannot see', async () => {
    const opened = await open({ adapter: null });
    const ids = [...tokenizer.encode('the dog.'), 2];
    expectClose(await opened.losses([{ ids: Int32Array.from(ids), image: null }]), [await lossesOf(ids, 1, null, null)]);
    await expect(opened.embed(images[0] as string)).rejects.toThrow('a bare backbone cannot see');
  });

  it('leave out what the context does not hold', async () => {
    const opened = await open();
    const { sequences, bad } = opened.tokenize([example(images[0] as string, 'x'.repeat(TINY.contextLength), 'a dog.')], 'all');
    expect(sequences.count).toBe(1);
    expect(bad).toEqual([
      { origin: 'data.jsonl:1', reason: expect.stringMatching(/^Expected a row of at most 128 tokens but received \d+$/) },
    ]);
  });
});

describe('captions', () => {
  /** Greedy, by a prefill of everything for each token. */
  async function greedy(image: Float32Array, maxTokens: number): Promise<string> {
    const promptIds = tokenizer.encode(PROMPT);
    const ids: number[] = [];
    while (ids.length < maxTokens) {
      const logits = await logitsAfter([...promptIds, ...ids], image, adapter);
      const best = logits.indexOf(Math.max(...logits));
      if (best === 2) break;
      ids.push(best);
    }
    return tokenizer
      .decode([...promptIds, ...ids])
      .slice(PROMPT.length)
      .trim();
  }

  it('are greedy after the prompt, in order, from files as from embeddings', async () => {
    const opened = await open();
    const embedded: Float32Array[] = [];
    for (const image of images) embedded.push(await opened.embed(image));
    const told: number[] = [];
    const captions = await opened.caption(images, (done) => told.push(done));
    const expected: string[] = [];
    for (const image of embedded) expected.push(await greedy(image, 12));
    expect(captions).toEqual(expected);
    expect(new Set(captions).size).toBeGreaterThan(1);
    expect(told.at(-1)).toBe(images.length);
    expect(told).toEqual([...told].sort((a, b) => a - b));
    expect(await opened.caption(embedded)).toEqual(captions);
  });

  it('are the same whatever runs beside them, with beams too, and more beams than rows', async () => {
    const greedyOnes = await (await open({ batch: 1 })).caption(images);
    await captioner?.close();
    const alone = await (await open({ batch: 1, numBeams: 4 })).caption(images);
    await captioner?.close();
    const together = await (await open({ batch: 16, numBeams: 4 })).caption(images);
    expect(together).toEqual(alone);
    expect(alone).not.toEqual(greedyOnes);
  });

  it('end where the context ends', async () => {
    const opened = await open({ maxTokens: 2 * TINY.contextLength, batch: 2 });
    const room = TINY.contextLength - tokenizer.encode(PROMPT).length - TINY.imageTokens;
    const [first, second] = images as [string, string];
    const expected = [await greedy(await opened.embed(first), room), await greedy(await opened.embed(second), room)];
    expect(await opened.caption([first, second])).toEqual(expected);
    // Nothing but the context ended it: with less room it is shorter.
    expect(await greedy(await opened.embed(first), room - 1)).not.toBe(expected[0]);
  });

  it('refuse a file that is no image, and go on with the next call', async () => {
    const opened = await open();
    const broken = path.join(folder, 'broken.png');
    await writeFile(broken, 'no image');
    const [good] = await opened.caption([images[0] as string]);
    const [first, second] = images as [string, string];
    await expect(opened.caption([first, second, broken])).rejects.toMatchObject({ code: 'invalid_image' });
    await expect(opened.caption([path.join(folder, 'nowhere.png')])).rejects.toThrow(
      'Expected a readable image file but received ENOENT',
    );
    expect(await opened.caption([first])).toEqual([good]);
  });

  it('of none are none', async () => {
    expect(await (await open()).caption([])).toEqual([]);
  });
});

it('one call at a time', async () => {
  const opened = await open();
  const first = opened.caption(images);
  await expect(opened.losses([])).rejects.toThrow(TypeError);
  expect(await first).toHaveLength(images.length);
});
