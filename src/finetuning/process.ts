/**
 * The trainer's process: one job from its file to its adapter, by the functions of `graft train`. It goes on from the checkpoint where its
 * folder has one, and ends when its parent does, with a checkpoint. Whatever it decodes or computes may end it: that costs this job alone.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readAlone } from '../adapter/alone.js';
import { AppError } from '../errors.js';
import { serveParent } from '../runtime/parent.js';
import { hasCheckpoint } from '../training/checkpoint.js';
import { type LogLine, readLog } from '../training/log.js';
import { parseTrainOptions, type TrainOptions } from '../training/options.js';
import { prepare } from '../training/prepare.js';
import { release } from '../training/release.js';
import { CHECKPOINT_FILE, LOG_FILE, run } from '../training/run.js';
import { diskFull } from './files.js';
import type { PastLine, StopCommand, TrainCommand, TrainerEvent, TrainingTask } from './protocol.js';
import { unpack } from './unpack.js';

/** What a multiplier of 1 is: `graft train`'s own default. */
const LEARNING_RATE = 2e-3;
const EVALUATIONS = 10;
/** What a kill costs at most: files of a few megabytes are written as often. */
const STEPS_A_CHECKPOINT = 20;
/** Lines of a log that are told again: what is done between the end of a server and that of its trainer. */
const PAST_LINES = 200;
/** Rows that are told of those that cannot be used. */
const TOLD_ROWS = 20;

const stopping = new AbortController();
let work: Promise<void> | undefined;

const parent = serveParent<TrainCommand | StopCommand, TrainerEvent>(
  (command) => {
    if (command.type === 'stop') void stop();
    else work = attempt(command.task);
  },
  { onClose: stop },
);
// Where memory runs out, Linux ends this process before those that serve.
await writeFile('/proc/self/oom_score_adj', '1000').catch(() => undefined);
parent.send({ type: 'ready' });

async function stop(): Promise<void> {
  stopping.abort(new AppError('cancelled', 'Training was stopped'));
  await work;
  parent.send({ type: 'stopped' });
}

/** Never rejects. */
async function attempt(task: TrainingTask): Promise<void> {
  try {
    await train(task, stopping.signal);
  } catch (error) {
    if (!stopping.signal.aborted)
      parent.send({ type: 'failed', error: inWordsOf(task, AppError.from(diskFull(error))).toData() });
  }
}

async function train(task: TrainingTask, signal: AbortSignal): Promise<void> {
  const options = await optionsOf(task, await readData(task, signal));
  const prepared = await prepare(options, signal, {});
  try {
    const { model, train: trained, validation, bad } = prepared;
    parent.send({
      type: 'prepared',
      captions: trained.sequences.count,
      heldOut: validation?.sequences.count ?? 0,
      parameters: model.parameters.values.length,
      bad: bad.slice(0, TOLD_ROWS).map(({ origin, reason }) => `${origin} ${reason}`),
    });
    // A run that goes on cuts it back to its checkpoint.
    const log = await readLog(join(runFolder(task), LOG_FILE));
    const result = await run(prepared, options, runFolder(task), signal, {
      onResume: (step) => parent.send({ type: 'resumed', step, past: pastOf(log, step) }),
      onStep: ({ step, loss, learningRate, secondsLeft }) => parent.send({ type: 'step', step, loss, learningRate, secondsLeft }),
      onEvaluation: (step, { loss }, isBest) => parent.send({ type: 'evaluation', step, loss, isBest }),
    });
    if (result.failure) throw result.failure;
    if (result.status === 'interrupted') return;
    await release(prepared, options, result);
    parent.send({ type: 'finished', tokens: result.progress.tokens });
  } finally {
    await prepared.close();
  }
}

function pastOf(log: readonly LogLine[], step: number): PastLine[] {
  const past = log.filter((line) => line.step <= step).slice(-PAST_LINES);
  return past.map((line) =>
    'loss' in line
      ? { step: line.step, loss: line.loss, learningRate: line.learning_rate }
      : { step: line.step, validationLoss: line.validation_loss },
  );
}

interface Data {
  readonly training: string;
  readonly validation: string | null;
}

async function readData({ folder, training, validation, maxImageBytes }: TrainingTask, signal: AbortSignal): Promise<Data> {
  const read = async (source: string, name: string): Promise<string> => {
    const file = join(folder, 'data', `${name}.jsonl`);
    await unpack(source, file, { maxImageBytes }, signal);
    return file;
  };
  return {
    training: await read(training, 'training_file'),
    validation: validation === null ? null : await read(validation, 'validation_file'),
  };
}

async function optionsOf(task: TrainingTask, { training, validation }: Data): Promise<TrainOptions> {
  const { folder, backbone, out, from, prompt, steps, batch, rateMultiplier, seed, threads, maxImagePixels } = task;
  const numbers = {
    steps,
    batch,
    lr: LEARNING_RATE * rateMultiplier,
    seed,
    threads,
    maxImagePixels,
    evalEvery: Math.ceil(steps / EVALUATIONS),
    checkpointEvery: STEPS_A_CHECKPOINT,
    holdout: 0,
  };
  const flags = {
    ...Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, String(value)])),
    ...(await planFlags(task)),
    ...(from === null ? {} : { from }),
    ...(validation === null ? {} : { validation }),
    backbone,
    data: training,
    out,
    prompt,
    run: runFolder(task),
    cache: join(folder, 'cache'),
    // Of a run that was cut off after its adapter was written.
    replace: true,
    resume: await hasCheckpoint(join(runFolder(task), CHECKPOINT_FILE)),
  };
  return parseTrainOptions(flags, folder);
}

/** What is trained: as the job says, else as the adapter has it that it begins with. */
async function planFlags({ from, graft }: TrainingTask): Promise<Readonly<Record<string, string>>> {
  const before = from === null ? null : await readAlone(from);
  const method = graft.method ?? (before && before.method !== 'none' ? before.method : 'lora');
  const groups = before?.method === method ? before.groups.map(({ group }) => group) : [];
  const contexts = graft.contexts ?? groups.map(({ context }) => context);
  const modules = groups.slice(0, 1).flatMap(({ columns, scales }) => [...columns.keys(), ...scales.keys()]);
  const flags: Record<string, string> = { method };
  if (contexts.length > 0) flags['contexts'] = contexts.join();
  if (modules.length > 0) flags['targetModules'] = modules.join();
  const rank = graft.rank ?? Object.fromEntries(groups.map((group) => [group.context, group.rank]));
  const ranks =
    typeof rank === 'number'
      ? String(rank)
      : Object.entries(rank)
          .map(([name, value]) => `${name}=${value}`)
          .join();
  if (method === 'lora' && ranks !== '') flags['rank'] = ranks;
  return flags;
}

function runFolder({ folder }: TrainingTask): string {
  return join(folder, 'run');
}

/** An error as a job's owner may read it: without this server's paths, and in the words of the request. */
function inWordsOf({ folder }: TrainingTask, error: AppError): AppError {
  const plain = error.message
    .replaceAll(`${join(folder, 'data')}/`, '')
    .replaceAll(`${folder}/`, '')
    .replace(/^--from: /, 'model: ');
  if (error.code !== 'training_diverged') return AppError.fromData({ ...error.toData(), message: plain });
  const [what] = plain.split('. Nothing of this step');
  return new AppError('training_diverged', `${what}. A lower learning_rate_multiplier helps most often`);
}
