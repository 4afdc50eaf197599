/** `graft eval`: how well an adapter does on captioned images, measured through the engine that serves it. */
import { basename } from 'node:path';
import { AppError } from '../errors.js';
import { type CaptionScores, evaluateCaptions } from '../evaluation/captions.js';
import { userWeightsCache } from '../settings.js';
import type { BadRow, Example } from '../training/data/example.js';
import { readDataset } from '../training/data/read.js';
import { describeBadRows } from '../training/data/report.js';
import { Captioner } from './captioner.js';
import { checkOutputs, writeReferences, writeResults } from './eval/coco.js';
import { type Measurement, measure } from './eval/measure.js';
import { type EvalOptions, parseEvalOptions } from './eval/options.js';
import { countOf, notesOn, plainScores, type Row, scoreRows, tableOf } from './eval/scores.js';
import { Progress } from './progress.js';

/** Batches of images whose embeddings are in memory at once: the last captions of a part leave rows of the batch empty. */
const BATCHES_A_PART = 4;

/** What to print; files are written, and what cannot be used is told, on the way. Throws AppError for all that is wrong with what was given. */
export async function evaluateAdapter(flags: Readonly<Record<string, unknown>>, folder: string): Promise<string> {
  const options = parseEvalOptions(flags, folder);
  await checkOutputs(options);
  const { data, images, normalize, limit, results, references } = options;
  const dataset = await readDataset(data, { images: images ?? undefined, normalize });
  if (dataset.bad.length > 0) console.error(describeBadRows(dataset.bad));
  const examples = dataset.examples.slice(0, limit ?? undefined);
  checkKind(examples, options);

  const { backbone, measurement } = await run(examples, options);
  const { captioned, bad, captions } = measurement;
  if (bad.length > 0) console.error(describeBadRows(bad));
  if (captions === 0) throw nothingLeft(bad);
  if (results !== null) await writeResults(results, captioned, dataset.folder);
  if (references !== null) await writeReferences(references, captioned, dataset.folder);
  const scores =
    captioned.length === 0
      ? null
      : evaluateCaptions(
          new Map(captioned.map(({ id, example }) => [id, example.captions])),
          new Map(captioned.map(({ id, caption }) => [id, caption])),
        );
  const outcome = { backbone, measurement, scores, badRows: dataset.bad.length + bad.length };
  return options.json ? JSON.stringify(plainOutcome(options, outcome)) : table(options, outcome);
}

interface Outcome {
  /** Its name. */
  readonly backbone: string;
  readonly measurement: Measurement;
  /** null for text. */
  readonly scores: CaptionScores | null;
  readonly badRows: number;
}

/** What the data asks for and the options lack. */
function checkKind(examples: readonly Example[], { adapter, results, references }: EvalOptions): void {
  const hasImages = examples.some(({ image }) => image !== null);
  const faults: string[] = [];
  if (hasImages && adapter === null)
    faults.push('--adapter: Expected an adapter, since the data has images and a bare backbone cannot see, but received none');
  if (!hasImages && (results !== null || references !== null))
    faults.push('Expected images with --results and --references, since text gets no captions, but the data has text only');
  if (faults.length > 0) throw AppError.ofFaults('invalid_config', 'The options are wrong', faults);
}

async function run(
  examples: readonly Example[],
  { backbone, adapter, threads, weights, weightsCache, batch, maxTokens, numBeams, captions }: EvalOptions,
): Promise<{ backbone: string; measurement: Measurement }> {
  const captioner = await Captioner.open({
    backbone,
    adapter,
    threads,
    weights,
    weightsCache: weightsCache ?? userWeightsCache(process.env),
    batch,
    maxTokens,
    numBeams,
  });
  const bar = new Progress('eval', examples.length);
  try {
    const measurement = await measure(captioner, examples, {
      captions,
      part: batch * BATCHES_A_PART,
      onProgress: (done, loss) => bar.update(done, Number.isNaN(loss) ? '' : `ppl ${Math.exp(loss).toFixed(2)}`),
    });
    return { backbone: captioner.backbone.name, measurement };
  } finally {
    bar.stop();
    await captioner.close();
  }
}

function nothingLeft(bad: readonly BadRow[]): AppError {
  const faults = bad.map(({ origin, reason }) => `${origin} ${reason}`);
  return AppError.ofFaults('invalid_data', 'Expected a caption that can be scored but received none', faults);
}

function plainOutcome({ adapter, data }: EvalOptions, { backbone, measurement, scores, badRows }: Outcome) {
  const { loss, tokens, captions } = measurement;
  return {
    backbone,
    adapter: adapter && basename(adapter),
    data: basename(data),
    perplexity: Math.exp(loss),
    loss,
    tokens,
    captions,
    ...(scores && plainScores(scores)),
    bad_rows: badRows,
  };
}

function table({ adapter, data, captions: which, numBeams }: EvalOptions, { backbone, measurement, scores }: Outcome): string {
  const { loss, tokens, captions, captioned } = measurement;
  const references = captioned.reduce((sum, { example }) => sum + example.captions.length, 0);
  const size = scores
    ? `${countOf(scores.images, 'image')}, ${countOf(references, 'reference')}, ${numBeams > 1 ? `${numBeams} beams` : 'greedy'}`
    : countOf(captions, 'line');
  const rows: Row[] = [['perplexity', Math.exp(loss).toFixed(3)], ...(scores ? scoreRows(scores) : [])];
  const scored = scores ? countOf(captions, which === 'first' ? 'first caption' : 'caption') : countOf(captions, 'line');
  return tableOf(`${adapter ? basename(adapter) : backbone} on ${basename(data)}: ${size}`, rows, [
    `Perplexity is of ${countOf(tokens, 'token')} in ${scored}, each with its end: ${loss.toFixed(4)} nats a token.`,
    ...(scores ? notesOn(scores) : []),
  ]);
}
