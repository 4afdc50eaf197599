/** Trains the encoder to answer what stands in every cell, and says how well it does on scenes that it never saw. */
import { AppError } from '../../../src/errors.js';
import { float32, int64, Session, type Tensor, uint8 } from '../../../src/runtime/session.js';
import { shuffled } from '../../../src/scenes/dice.js';
import { elements } from '../../../src/tensor/tensor.js';
import { AdamW, learningRate, norm } from '../../../src/training/optimizer.js';
import { Parameters } from '../../../src/training/parameters.js';
import { stream } from '../../../src/training/random.js';
import { QUESTION_NAMES, QUESTIONS, type Question } from './cells.js';
import { buildPrograms, decays, type EncoderTask, names } from './network.js';
import type { PictureBatch, Pictures } from './pictures.js';
import { wavesOf } from './start.js';

export interface EncoderRun extends EncoderTask {
  readonly pictures: Pictures;
  readonly heldOut: Pictures;
  readonly seed: number;
  readonly batch: number;
  readonly epochs: number;
  readonly rate: number;
  readonly threads: number;
}

/** Of the cells where something is, the share that is answered rightly; of all cells for the kind and the background. */
export type EncoderScore = Readonly<Record<Question, number>>;

export interface EncoderListener {
  readonly onStep: (step: number, steps: number, loss: number) => void;
  readonly onScore: (step: number, score: EncoderScore) => void;
}

const BETAS = [0.9, 0.99] as const;
const WEIGHT_DECAY = 0.02;
const CLIP = 1;

export async function trainEncoder(run: EncoderRun, listener: EncoderListener): Promise<Parameters> {
  const { pictures, seed, batch, epochs, threads } = run;
  const program = await buildPrograms(run);
  const parameters = new Parameters(program.parameters);
  await parameters.start(seed, async (name, shape) => wavesOf(name, shape));
  const gradients = new Float32Array(parameters.values.length);
  const tensors = (of: Float32Array, name: (parameter: string) => string): Record<string, Tensor> =>
    Object.fromEntries(program.parameters.map((each) => [name(each.name), float32(parameters.view(each.name, of), each.shape)]));
  const feeds = tensors(parameters.values, (name) => name);
  const fetches = { [names.loss]: null, ...tensors(gradients, names.gradient) };
  const optimizer = new AdamW(
    parameters.values.length,
    { betas: BETAS, epsilon: 1e-8, weightDecay: WEIGHT_DECAY },
    decaying(parameters),
  );
  const perEpoch = Math.floor(pictures.count / batch);
  const steps = perEpoch * epochs;
  const schedule = { peak: run.rate, warmup: Math.ceil(steps / 20), steps, shape: 'cosine', floor: 0.01 } as const;
  const training = await Session.open(program.training, { folder: null, threads, training: true, spinning: true });
  const reading = await Session.open(program.reading, { folder: null, threads, training: true });
  try {
    for (let epoch = 0, step = 0; epoch < epochs; epoch++) {
      const random = stream(seed, 'epoch', epoch);
      const order = shuffled(
        random,
        Array.from({ length: pictures.count }, (_, index) => index),
      );
      for (let part = 0; part < perEpoch; part++) {
        step++;
        const examples = pictures.batch(order.slice(part * batch, (part + 1) * batch), () => random() < 0.5);
        const results = await training.run({ ...feeds, ...feedsOf(examples, run.edge) }, fetches);
        const loss = Number(results[names.loss]?.data[0]);
        const length = norm(gradients);
        if (!Number.isFinite(loss) || !Number.isFinite(length))
          throw new AppError(
            'training_diverged',
            `Step ${step} of the encoder: Expected a finite loss and gradient but received ${loss} and ${length}`,
          );
        const scale = Math.min(1, CLIP / length);
        optimizer.update(parameters.values, gradients, scale, step, learningRate(schedule, step));
        listener.onStep(step, steps, loss);
      }
      listener.onScore(step, await scoreOf(reading, feeds, run));
    }
  } finally {
    await training.close();
    await reading.close();
  }
  return parameters;
}

function feedsOf({ images, pixels, answers }: PictureBatch, edge: number): Record<string, Tensor> {
  return {
    [names.pixels]: uint8(pixels, [images, edge, edge, 3]),
    [names.divisor]: float32(Float32Array.of(answers.kind.length), []),
    ...Object.fromEntries(QUESTION_NAMES.map((name) => [names.targets(name), int64(answers[name], [answers[name].length])])),
  };
}

async function scoreOf(session: Session, feeds: Record<string, Tensor>, run: EncoderRun): Promise<EncoderScore> {
  const { heldOut, batch, edge } = run;
  const right = Object.fromEntries(QUESTION_NAMES.map((name) => [name, 0])) as Record<Question, number>;
  let [cells, things] = [0, 0];
  for (let start = 0; start < heldOut.count; start += batch) {
    const indexes = Array.from({ length: Math.min(batch, heldOut.count - start) }, (_, at) => start + at);
    const { images, pixels, answers } = heldOut.batch(indexes, () => false);
    const results = await session.run(
      { ...feeds, [names.pixels]: uint8(pixels, [images, edge, edge, 3]) },
      Object.fromEntries(QUESTION_NAMES.map((name) => [names.answers(name), null])),
    );
    const isThing = Array.from(answers.kind, (kind) => kind > 0n);
    cells += isThing.length;
    things += isThing.filter(Boolean).length;
    for (const name of QUESTION_NAMES) {
      const guesses = greatest(results[names.answers(name)]?.data as Float32Array, QUESTIONS[name]);
      for (const [at, guess] of guesses.entries())
        if ((ofAll(name) || isThing[at]) && BigInt(guess) === answers[name][at]) right[name]++;
    }
  }
  return Object.fromEntries(QUESTION_NAMES.map((name) => [name, right[name] / (ofAll(name) ? cells : things)])) as Record<
    Question,
    number
  >;
}

const ofAll = (question: Question): boolean => question === 'kind' || question === 'background' || question === 'groups';

/** Index of the greatest value of each row. */
function greatest(values: Float32Array, width: number): number[] {
  return Array.from({ length: values.length / width }, (_, row) => {
    let best = 0;
    for (let at = 1; at < width; at++)
      if ((values[row * width + at] as number) > (values[row * width + best] as number)) best = at;
    return best;
  });
}

/** 1 where a parameter decays. */
function decaying({ shapes, values }: Parameters): Uint8Array {
  const marks = new Uint8Array(values.length);
  let start = 0;
  for (const shape of shapes) {
    const end = start + elements(shape.shape);
    if (decays(shape)) marks.fill(1, start, end);
    start = end;
  }
  return marks;
}
