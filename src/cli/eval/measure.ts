/**
 * One pass over a dataset with one adapter: the loss of its captions, and a caption of each image. Image by image both need the same
 * embeddings, so the two are done together, a part of the data at a time: what is in memory does not grow with the data.
 */

import { imageFault } from '../../images/refusal.js';
import { mapConcurrent } from '../../tensor/concurrent.js';
import type { BadRow, Example } from '../../training/data/example.js';
import type { Captioner, ScoredRow } from '../captioner.js';

/** An image with what the model says of it. */
export interface Captioned {
  /** Its place in the data, from 1. */
  readonly id: number;
  readonly example: Example;
  readonly caption: string;
}

export interface Measurement {
  /** Mean of all tokens, in nats; NaN where there are none. */
  readonly loss: number;
  readonly tokens: number;
  /** Captions that were scored. */
  readonly captions: number;
  /** Empty for text. */
  readonly captioned: readonly Captioned[];
  /** Images that are none, captions that are too long. */
  readonly bad: readonly BadRow[];
}

export interface MeasureOptions {
  /** Of an example with several captions, those that are scored. */
  readonly captions: 'first' | 'all';
  /** Examples that are in memory at once. */
  readonly part: number;
  /** `loss` is the mean so far. */
  readonly onProgress?: (done: number, loss: number) => void;
}

/** Images that are decoded while another one is encoded. */
const CONCURRENT_IMAGES = 4;

interface Ready {
  readonly id: number;
  readonly example: Example;
  readonly image: Float32Array | null; // [imageTokens, hiddenSize]
}

/** Examples have an image each, or none has one. */
export async function measure(
  captioner: Captioner,
  examples: readonly Example[],
  { captions, part, onProgress }: MeasureOptions,
): Promise<Measurement> {
  const bad: BadRow[] = [];
  const captioned: Captioned[] = [];
  let sum = 0;
  let tokens = 0;
  let scored = 0;
  for (let start = 0; start < examples.length; start += part) {
    const ready = await embed(captioner, examples.slice(start, start + part), start + 1, bad);
    const { rows, bad: tooLong } = tokenize(captioner, ready, captions);
    bad.push(...tooLong);
    for (const losses of await captioner.losses(rows)) {
      for (const loss of losses) sum += loss;
      tokens += losses.length;
      scored++;
    }
    const report = (done: number): void => onProgress?.(start + done, sum / tokens);
    captioned.push(...(await caption(captioner, ready, report)));
    report(Math.min(part, examples.length - start));
  }
  return { loss: sum / tokens, tokens, captions: scored, captioned, bad };
}

/** The examples whose images can be used. */
async function embed(captioner: Captioner, examples: readonly Example[], firstId: number, bad: BadRow[]): Promise<Ready[]> {
  const found = await mapConcurrent(
    [...examples.entries()],
    CONCURRENT_IMAGES,
    async ([index, example]): Promise<Ready | BadRow> => {
      const id = firstId + index;
      try {
        return { id, example, image: example.image === null ? null : await captioner.embed(example.image) };
      } catch (error) {
        const reason = imageFault(error);
        if (reason === undefined) throw error;
        return { origin: example.origin, reason };
      }
    },
  );
  bad.push(...found.filter((each) => 'reason' in each));
  return found.filter((each) => 'example' in each);
}

function tokenize(
  captioner: Captioner,
  ready: readonly Ready[],
  captions: MeasureOptions['captions'],
): { rows: ScoredRow[]; bad: readonly BadRow[] } {
  const { sequences, bad } = captioner.tokenize(
    ready.map(({ example }) => example),
    captions,
  );
  const rows = Array.from(sequences.examples, (owner, index) => ({
    ids: sequences.ids(index),
    image: ready[owner]?.image ?? null,
  }));
  return { rows, bad };
}

async function caption(captioner: Captioner, ready: readonly Ready[], onProgress: (done: number) => void): Promise<Captioned[]> {
  const seen = ready.flatMap(({ id, example, image }) => (image === null ? [] : [{ id, example, image }]));
  const texts = await captioner.caption(
    seen.map(({ image }) => image),
    (done) => {
      // The end of a part is told by the part, which may have had images that are none.
      if (done < seen.length) onProgress(done);
    },
  );
  return seen.map(({ id, example }, index) => ({ id, example, caption: texts[index] ?? '' }));
}
