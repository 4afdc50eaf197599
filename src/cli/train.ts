/** `graft train`: from captioned images to an adapter that a running server takes up, with everything that people want to see meanwhile. */
import { readFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { basename, extname, join, resolve } from 'node:path';
import { AppError } from '../errors.js';
import { replaceFile } from '../tensor/folder.js';
import { hasCheckpoint } from '../training/checkpoint.js';
import { describeBadRows } from '../training/data/report.js';
import { type LogLine, readLog } from '../training/log.js';
import { parseTrainOptions, plain, type TrainOptions } from '../training/options.js';
import { checkPlaces } from '../training/place.js';
import { type Prepared, prepare } from '../training/prepare.js';
import { PROJECTOR } from '../training/program.js';
import { release } from '../training/release.js';
import { renderReport } from '../training/report/page.js';
import type { Report, ReportSample } from '../training/report/report.js';
import { CHECKPOINT_FILE, checkRunFolder, LOG_FILE, type RunResult, run } from '../training/run.js';
import { Captioner } from './captioner.js';
import { clock, Progress } from './progress.js';
import { shellWord } from './shell.js';

const REPORT_FILE = 'report.html';
/** What a shell gives a command that Ctrl-C ended: what comes after it in a script waits for an adapter that is not there. */
const STOPPED_STATUS = 128 + constants.signals.SIGINT;
/** Rows at once when samples are captioned. */
const SAMPLE_BATCH = 8;
const MIME: Readonly<Record<string, string>> = {
  '.jpg': 'image/jpeg',
  '.jpeg': 'image/jpeg',
  '.png': 'image/png',
  '.webp': 'image/webp',
};

interface Job {
  readonly options: TrainOptions;
  /** What relative paths are relative to. */
  readonly folder: string;
  readonly runFolder: string;
  /** The command that goes on with it. */
  readonly again: string;
}

/**
 * Trains as the flags say and prints what comes of it; `again` is the command that goes on with a run that was stopped. Throws AppError for
 * all that is wrong with what was given.
 */
export async function train(
  flags: Readonly<Record<string, unknown>>,
  folder: string,
  again: string = resumeCommand(),
): Promise<void> {
  const options = parseTrainOptions(flags, folder);
  const runFolder = options.run ?? resolve(folder, 'runs', basename(options.out));
  const job = { options, folder, runFolder, again };
  const stopping = new AbortController();
  const release = onInterrupt(stopping);
  try {
    await checkPlaces(options, runFolder);
    await checkRunFolder(runFolder, options);
    await trainWith(job, stopping.signal);
  } catch (error) {
    throw await explain(error, job);
  } finally {
    release();
  }
}

async function trainWith(job: Job, signal: AbortSignal): Promise<void> {
  const { options, folder, runFolder } = job;
  const name = basename(options.out);
  const prepared = await withProgress('images', (update) =>
    prepare(options, signal, { onImages: (done, total) => update(done, total, 'encoded') }),
  );
  try {
    const { bad } = prepared;
    if (bad.length > 0) console.error(describeBadRows(bad));
    console.error(introduction(name, prepared, options));
    const result = await follow(prepared, options, runFolder, signal);
    const status = await conclude(prepared, job, result);
    for (const line of status) console.log(line.replaceAll(`${folder}/`, ''));
    if (result.status === 'interrupted') process.exitCode = STOPPED_STATUS;
  } finally {
    await prepared.close();
  }
}

/** Runs the training under a bar. */
async function follow(prepared: Prepared, options: TrainOptions, runFolder: string, signal: AbortSignal): Promise<RunResult> {
  let bar: Progress | undefined;
  try {
    return await run(prepared, options, runFolder, signal, {
      onResume: (step, steps) => console.error(`going on after step ${step} of ${steps}`),
      onStep: ({ step, steps, loss, tokensPerSecond, secondsLeft }) => {
        bar ??= new Progress('train', steps, step - 1);
        const detail = `loss ${loss.toFixed(3)}  ppl ${Math.exp(loss).toFixed(2)}  ${Math.round(tokensPerSecond)} tok/s  ${clock(secondsLeft)} left`;
        bar.update(step, detail);
      },
      onEvaluation: (step, { loss, perplexity }, isBest) =>
        bar?.say(
          `step ${step}: held-out loss ${loss.toFixed(4)}, perplexity ${perplexity.toFixed(3)}${isBest ? ', the best so far' : ''}`,
        ),
    });
  } finally {
    bar?.stop();
  }
}

/** Publishes, captions samples, writes the report; what to print. */
async function conclude(prepared: Prepared, job: Job, result: RunResult): Promise<string[]> {
  const { options, runFolder, again } = job;
  const { progress, status, steps, failure } = result;
  const isDone = status === 'finished' || status === 'stopped early';
  if (isDone) await release(prepared, options, result);
  const samples = isDone && prepared.plan && prepared.store ? await sample(prepared, options) : [];
  const report = join(runFolder, REPORT_FILE);
  const lines = await readLog(join(runFolder, LOG_FILE));
  await replaceFile(report, new TextEncoder().encode(renderReport(reportOf(prepared, job, result, lines, samples))));
  if (failure) {
    console.error(`how it went until then: ${report}`);
    throw failure;
  }
  if (!isDone) {
    return [`stopped after step ${progress.step} of ${steps}, saved in ${runFolder}`, `go on with:  ${again}`];
  }
  const best = progress.best && `, held-out perplexity ${Math.exp(progress.best.loss).toFixed(3)} at step ${progress.best.step}`;
  return [
    `${status === 'finished' ? 'trained' : 'stopped early:'} ${progress.step} ${progress.step === 1 ? 'step' : 'steps'} in ${clock(progress.seconds)}${best ?? ''}`,
    `${prepared.plan ? 'adapter' : 'backbone'}  ${options.out}`,
    `report   ${report}`,
  ];
}

/** Captions of held-out images (of images of the training data where none are held out) through the engine that serves. */
async function sample({ validation, train }: Prepared, options: TrainOptions): Promise<ReportSample[]> {
  const chosen = (validation ?? train).examples.slice(0, options.samples);
  if (chosen.length === 0) return [];
  const captioner = await Captioner.open({
    backbone: options.backbone,
    adapter: options.out,
    threads: options.threads,
    batch: SAMPLE_BATCH,
  });
  try {
    const captions = await captioner.caption(chosen.map(({ image }) => image as string));
    return await Promise.all(
      chosen.map(async ({ image, captions: references }, index): Promise<ReportSample> => {
        const mime = MIME[extname(image ?? '').toLowerCase()];
        return {
          image: image !== null && mime !== undefined ? { mime, bytes: await readFile(image) } : null,
          caption: captions[index] ?? '',
          references,
        };
      }),
    );
  } finally {
    await captioner.close();
  }
}

function reportOf(
  { backbone, plan, model, store, bad }: Prepared,
  { options, again }: Job,
  { status, progress }: RunResult,
  lines: readonly LogLine[],
  samples: readonly ReportSample[],
): Report {
  const { parameters } = model;
  const count = (isCounted: (name: string) => boolean): number =>
    parameters.shapes.filter((each) => isCounted(each.name)).reduce((sum, each) => sum + parameters.view(each.name).length, 0);
  const projector = count((name) => name === PROJECTOR.weight || name === PROJECTOR.bias);
  return {
    name: basename(options.out),
    task: options.task,
    status,
    createdAt: new Date(),
    seconds: progress.seconds,
    steps: progress.step,
    tokens: progress.tokens,
    backbone: {
      language: basename(backbone.languageFolder),
      vision: store && backbone.vision && basename(backbone.vision.folder),
    },
    parameters: {
      adapter: parameters.values.length - projector,
      projector,
      frozen: plan ? backbone.language.parameterCount : 0,
      groups: Object.fromEntries(
        (plan?.contexts ?? []).map((context) => [context, count((name) => name.startsWith(`${context}/`))]),
      ),
    },
    configuration: Object.fromEntries(Object.entries(options).map(([key, value]) => [key, plain(value) as string])),
    points: lines.flatMap((line) =>
      'loss' in line
        ? [
            {
              step: line.step,
              loss: line.loss,
              tokensPerSecond: line.tokens_per_second,
              learningRate: line.learning_rate,
              gradientNorm: line.gradient_norm,
            },
          ]
        : [],
    ),
    evaluations: lines.flatMap((line) =>
      'validation_loss' in line ? [{ step: line.step, loss: line.validation_loss, perplexity: line.validation_perplexity }] : [],
    ),
    bestStep: progress.best?.step ?? null,
    scores: null,
    badRows: bad,
    samples,
    resumeCommand: status === 'interrupted' ? again : null,
  };
}

function introduction(name: string, prepared: Prepared, options: TrainOptions): string {
  const { plan, model, train, validation, backbone, beginning } = prepared;
  const { parameters } = model;
  const trained = parameters.values.length.toLocaleString('en-US');
  const what = plan ? `${plan.method}${plan.contexts.length > 0 ? ` on ${plan.contexts.join(' and ')}` : ''}` : 'all weights';
  const held = validation ? `, ${validation.sequences.count} held out` : '';
  const captions = `${train.sequences.count} ${train.sequences.count === 1 ? 'caption' : 'captions'}`;
  const from = beginning ? `; begins with ${beginning.part} of ${beginning.name}` : '';
  return `${name}: ${what}, ${trained} parameters on ${backbone.name}; ${captions}${held}; seed ${options.seed}${from}`;
}

/** The command that goes on with this one. */
function resumeCommand(): string {
  const given = process.argv.slice(2).filter((argument) => argument !== '--restart' && argument !== '--resume');
  return ['graft', ...given.map(shellWord), '--resume'].join(' ');
}

/** The first Ctrl-C asks to stop after the step that is under way, the second one stops at once. */
function onInterrupt(stopping: AbortController): () => void {
  const stop = (): void => {
    if (stopping.signal.aborted) process.exit(STOPPED_STATUS);
    console.error('\nstopping after this step; once more to stop at once (the last checkpoint stays)');
    stopping.abort(new AppError('cancelled', 'Stopped before the first step; nothing was trained'));
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop);
  return () => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, stop);
  };
}

async function withProgress<T>(
  label: string,
  work: (update: (done: number, total: number, detail: string) => void) => Promise<T>,
): Promise<T> {
  let bar: Progress | undefined;
  try {
    return await work((done, total, detail) => {
      bar ??= new Progress(label, total);
      bar.update(done, detail, total);
    });
  } finally {
    bar?.stop();
  }
}

/** A full disk in words; anything else as it is. */
async function explain(error: unknown, { runFolder, again }: Job): Promise<unknown> {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (!['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code)) return error;
  const next = (await hasCheckpoint(join(runFolder, CHECKPOINT_FILE)))
    ? `the last checkpoint is as it was: make room and go on with:  ${again}`
    : 'make room and begin again';
  return new AppError('disk_full', `Expected room on the disk but there is none (${code}); ${next}`, { cause: error });
}
