/** The stages of `npm run build:scenes`, each from files of the folder `out` to files of it. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fingerprint } from '../../src/adapter/fingerprint.js';
import { describeBackbone } from '../../src/backbone/backbone.js';
import { readBackbone } from '../../src/backbone/manifest.js';
import { readVisionModel } from '../../src/backbone/vision/families.js';
import { readProcessor } from '../../src/backbone/vision/processor.js';
import { clock, Progress } from '../../src/cli/progress.js';
import { train } from '../../src/cli/train.js';
import { publishFolder, replaceFile } from '../../src/tensor/folder.js';
import { hasCheckpoint } from '../../src/training/checkpoint.js';
import { CHECKPOINT_FILE } from '../../src/training/run.js';
import { prepareDecoder } from './decoder.js';
import { EDGE, GRID, prepareEncoder, writeEncoder } from './encoder/checkpoint.js';
import { Pictures } from './encoder/pictures.js';
import { trainEncoder } from './encoder/train.js';
import { Examination, type Marks, table } from './examine.js';
import { writeScenes } from './folder.js';
import { ADAPTERS, type AdapterRecipe, CAPTIONED, DECODER, ENCODER, EXAMINED, PICTURE, SEEDS, TEXT } from './recipe.js';

const threads = availableParallelism();
/** What goes on with a build that was stopped. */
const again = (out: string): string => `npm run build:scenes -- --out ${out}`;

async function underBar(label: string, total: number, work: (done: (count: number) => void) => Promise<void>): Promise<void> {
  const bar = new Progress(label, total);
  try {
    await work((count) => bar.update(count, ''));
  } finally {
    bar.stop();
  }
}

export async function makeText(out: string): Promise<void> {
  await underBar('text', TEXT.scenes, (done) =>
    prepareDecoder(
      { checkpoint: join(out, 'decoder'), corpus: join(out, 'text.jsonl'), seed: SEEDS.text, scenes: TEXT.scenes },
      done,
    ),
  );
}

/** With one thread: pictures are drawn meanwhile. */
export async function makeDecoder(out: string): Promise<void> {
  const flags = { ...DECODER, threads: '1', backbone: 'decoder', data: 'text.jsonl', out: 'pretrained/language', replace: true };
  await train({ ...flags, resume: await isBegun(out, 'language') }, out, again(out));
}

export interface DrawnPictures {
  readonly pictures: Pictures;
  readonly heldOut: Pictures;
}

export async function drawPictures(): Promise<DrawnPictures> {
  const draw = (seed: number, count: number): Promise<Pictures> => {
    const bar = new Progress('pictures', count);
    return Pictures.draw({ seed, count, edge: EDGE, grid: GRID }, (done) => bar.update(done, '')).finally(() => bar.stop());
  };
  const pictures = await draw(SEEDS.pictures, ENCODER.pictures);
  return { pictures, heldOut: await draw(SEEDS.heldOutPictures, ENCODER.heldOut) };
}

export async function makeEncoder(out: string, drawn: DrawnPictures): Promise<void> {
  const folder = join(out, 'encoder');
  await prepareEncoder(folder);
  const model = await readVisionModel(folder);
  const { normalisation } = await readProcessor(folder);
  let bar: Progress | undefined;
  const started = Date.now();
  const parameters = await trainEncoder(
    { ...ENCODER, ...drawn, model, normalisation, edge: EDGE, seed: SEEDS.pictures, threads },
    {
      onStep: (step, steps, loss) => {
        bar ??= new Progress('encoder', steps);
        const left = ((Date.now() - started) / 1000 / step) * (steps - step);
        bar.update(step, `loss ${loss.toFixed(3)}  ${clock(left)} left`);
      },
      onScore: (step, score) => {
        const marks = Object.entries(score).map(([question, share]) => `${question} ${(100 * share).toFixed(1)} %`);
        bar?.say(`step ${step}: right about ${marks.join(', ')}`);
      },
    },
  ).finally(() => bar?.stop());
  await writeEncoder(folder, parameters);
}

/** The two as a backbone. */
export async function assemble(out: string): Promise<void> {
  await publishFolder(join(out, 'models', 'scenes'), async (folder) => {
    await cp(join(out, 'pretrained', 'language', 'language'), join(folder, 'language'), { recursive: true });
    await cp(join(out, 'encoder'), join(folder, 'vision'), { recursive: true });
    const manifest = { format: 'graft-backbone/1', name: 'scenes', vision: 'vision', language: 'language' };
    await writeFile(join(folder, 'backbone.json'), `${JSON.stringify(manifest, null, 2)}\n`);
    await describeBackbone(await readBackbone(folder));
  });
}

export async function makeCaptions(out: string): Promise<void> {
  const tasks = ADAPTERS.map(({ task }) => task);
  const { pictures: count } = CAPTIONED;
  const options = { ...PICTURE, out: join(out, 'captioned'), count, seed: SEEDS.captions, tasks };
  await underBar('captioned pictures', count, (done) => writeScenes(options, done));
}

export async function makeAdapter(out: string, { task, from, about, flags }: AdapterRecipe): Promise<void> {
  await train(
    {
      ...flags,
      ...(from === undefined ? {} : { from: `adapters/${from}`, threads: '1' }),
      backbone: 'models/scenes',
      data: `captioned/${task}.jsonl`,
      holdout: String(CAPTIONED.heldOut),
      out: `adapters/${task}`,
      task: about,
      replace: true,
      resume: await isBegun(out, task),
    },
    out,
    again(out),
  );
}

/** Whether an earlier start was stopped in the middle of this run: it goes on from there, if the recipe is the same. */
function isBegun(out: string, name: string): Promise<boolean> {
  return hasCheckpoint(join(out, 'runs', name, CHECKPOINT_FILE));
}

/** Both on the same pictures, side by side; and whether they are the same to the byte. */
export async function compare(out: string, root: string): Promise<void> {
  const tasks = ADAPTERS.map(({ task }) => task);
  const sides = [out, root].map((root) => ({ backbone: join(root, 'models', 'scenes'), adapters: join(root, 'adapters') }));
  const bar = new Progress('examination', EXAMINED * (1 + sides.length * tasks.length));
  let before = 0;
  const examination = await Examination.draw({ ...PICTURE, count: EXAMINED, seed: SEEDS.examination, threads }, (done) =>
    bar.update(done, ''),
  );
  try {
    const rows: { name: string; marks: Marks }[] = [];
    for (const task of tasks)
      for (const [index, { backbone, adapters }] of sides.entries()) {
        before += EXAMINED;
        const captions = await examination.captions(backbone, join(adapters, task), (done) => bar.update(before + done, task));
        rows.push({ name: `${task}, ${index === 0 ? 'made here' : 'that ships'}`, marks: examination.mark(task, captions) });
      }
    bar.stop();
    console.log(table(rows));
  } finally {
    await examination.close();
  }
  const digests = await Promise.all(
    sides.map(({ backbone }) => Promise.all(['vision', 'language'].map((part) => fingerprint(join(backbone, part))))),
  );
  const [here, there] = digests.map((digest) => digest.join(' '));
  console.log(
    here === there
      ? 'The backbone is the one that ships, byte for byte.'
      : 'The backbone has other bytes than the one that ships.',
  );
}

/** Takes the place of what is in the repository, folder by folder, each whole; what else lies there stays. */
export async function install(out: string, root: string): Promise<void> {
  const backbone = join('models', 'scenes');
  for (const part of [
    join(backbone, 'language'),
    join(backbone, 'vision'),
    ...ADAPTERS.map(({ task }) => join('adapters', task)),
  ])
    await publishFolder(join(root, part), (folder) => cp(join(out, part), folder, { recursive: true }));
  const manifest = join(backbone, 'backbone.json');
  await replaceFile(join(root, manifest), await readFile(join(out, manifest)));
}
