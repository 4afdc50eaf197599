/**
 * `npm run build:scenes`: makes the backbone and the adapters that come with Graft again, from seeds, and says how they compare to those that
 * are there. Nothing is downloaded: pictures and sentences are drawn, a tokenizer is learned, the decoder reads text only, the encoder sees
 * pictures only, both are then frozen, and adapters bring them together.
 *
 *     npm run build:scenes                      into scratch/scenes; an hour on two cores
 *     npm run build:scenes -- --out FOLDER      into another folder; what is finished there is not made again
 *     npm run build:scenes -- --install         and takes the place of what is in models/scenes and adapters
 */
import { cp, mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { fingerprint } from '../src/adapter/fingerprint.js';
import { describeBackbone } from '../src/backbone/backbone.js';
import { readBackbone } from '../src/backbone/manifest.js';
import { readVisionModel } from '../src/backbone/vision/families.js';
import { readProcessor } from '../src/backbone/vision/processor.js';
import { clock, Progress } from '../src/cli/progress.js';
import { train } from '../src/cli/train.js';
import { prepareDecoder } from './scenes/decoder.js';
import { EDGE, GRID, prepareEncoder, writeEncoder } from './scenes/encoder/checkpoint.js';
import { Pictures } from './scenes/encoder/pictures.js';
import { trainEncoder } from './scenes/encoder/train.js';
import { Examination, type Marks, table } from './scenes/examine.js';
import { writeScenes } from './scenes/folder.js';
import { ADAPTERS, type AdapterRecipe, CAPTIONED, DECODER, ENCODER, EXAMINED, PICTURE, SEEDS, TEXT } from './scenes/recipe.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const threads = availableParallelism();

/** Does a stage, unless what it makes is there already. */
async function stage(title: string, result: string, work: () => Promise<void>): Promise<void> {
  if (await isThere(result)) {
    console.error(`${title}: ${result} is there`);
    return;
  }
  const started = Date.now();
  console.error(`\n${title}`);
  await work();
  if (process.exitCode) process.exit();
  console.error(`${title}: ${clock((Date.now() - started) / 1000)}`);
}

async function underBar(label: string, total: number, work: (done: (count: number) => void) => Promise<void>): Promise<void> {
  const bar = new Progress(label, total);
  try {
    await work((count) => bar.update(count, ''));
  } finally {
    bar.stop();
  }
}

async function makeText(out: string): Promise<void> {
  await underBar('text', TEXT.scenes, (done) =>
    prepareDecoder(
      { checkpoint: join(out, 'decoder'), corpus: join(out, 'text.jsonl'), seed: SEEDS.text, scenes: TEXT.scenes },
      done,
    ),
  );
}

async function makeDecoder(out: string): Promise<void> {
  const flags = { ...DECODER, backbone: 'decoder', data: 'text.jsonl', out: 'pretrained/language', restart: true };
  await train(flags, out);
}

async function makeEncoder(out: string): Promise<void> {
  const folder = join(out, 'encoder');
  await prepareEncoder(folder);
  const draw = (seed: number, count: number): Promise<Pictures> => {
    const bar = new Progress('pictures', count);
    return Pictures.draw({ seed, count, edge: EDGE, grid: GRID }, (done) => bar.update(done, '')).finally(() => bar.stop());
  };
  const pictures = await draw(SEEDS.pictures, ENCODER.pictures);
  const heldOut = await draw(SEEDS.heldOutPictures, ENCODER.heldOut);
  const model = await readVisionModel(folder);
  const { normalisation } = await readProcessor(folder);
  let bar: Progress | undefined;
  const started = Date.now();
  const parameters = await trainEncoder(
    { ...ENCODER, model, normalisation, edge: EDGE, pictures, heldOut, seed: SEEDS.pictures, threads },
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
async function assemble(out: string): Promise<void> {
  const folder = join(out, 'models', 'scenes');
  const temporary = `${folder}.tmp`;
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  await cp(join(out, 'pretrained', 'language', 'language'), join(temporary, 'language'), { recursive: true });
  await cp(join(out, 'encoder'), join(temporary, 'vision'), { recursive: true });
  const manifest = { format: 'graft-backbone/1', name: 'scenes', vision: 'vision', language: 'language' };
  await writeFile(join(temporary, 'backbone.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  await describeBackbone(await readBackbone(temporary));
  await rename(temporary, folder);
}

async function makeCaptions(out: string): Promise<void> {
  const tasks = ADAPTERS.map(({ task }) => task);
  const { pictures: count } = CAPTIONED;
  const options = { ...PICTURE, out: join(out, 'captioned'), count, seed: SEEDS.captions, tasks };
  await underBar('captioned pictures', count, (done) => writeScenes(options, done));
}

async function makeAdapter(out: string, { task, about, flags }: AdapterRecipe): Promise<void> {
  await train(
    {
      ...flags,
      backbone: 'models/scenes',
      data: `captioned/${task}.jsonl`,
      holdout: String(CAPTIONED.heldOut),
      out: `adapters/${task}`,
      task: about,
      restart: true,
    },
    out,
  );
}

async function isThere(place: string): Promise<boolean> {
  return (await stat(place).catch(() => undefined)) !== undefined;
}

/** Both on the same pictures, side by side; and whether they are the same to the byte. */
async function compare(out: string): Promise<void> {
  const tasks = ADAPTERS.map(({ task }) => task);
  const sides = [out, ROOT].map((root) => ({ backbone: join(root, 'models', 'scenes'), adapters: join(root, 'adapters') }));
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

/** Takes the place of what is in the repository. */
async function install(out: string): Promise<void> {
  const parts = ['backbone.json', 'language', 'vision'].map((part) => join('models', 'scenes', part));
  for (const part of [...parts, ...ADAPTERS.map(({ task }) => join('adapters', task))]) {
    await rm(join(ROOT, part), { recursive: true, force: true });
    await cp(join(out, part), join(ROOT, part), { recursive: true });
  }
}

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: join(ROOT, 'scratch', 'scenes') },
    install: { type: 'boolean', default: false },
  },
});
const out = resolve(values.out);
const started = Date.now();
await mkdir(out, { recursive: true });
const at = (...path: string[]): string => join(out, ...path);
await stage('text and tokenizer', at('text.jsonl'), () => makeText(out));
await stage('decoder', at('pretrained', 'language'), () => makeDecoder(out));
await stage('encoder', at('encoder', 'model.safetensors'), () => makeEncoder(out));
await stage('backbone', at('models', 'scenes'), () => assemble(out));
await stage('captioned pictures', at('captioned'), () => makeCaptions(out));
for (const recipe of ADAPTERS) await stage(`adapter ${recipe.task}`, at('adapters', recipe.task), () => makeAdapter(out, recipe));
console.error(`\nmade in ${clock((Date.now() - started) / 1000)}: ${out}`);
if (values.install) await install(out);
else if (await isThere(join(ROOT, 'models', 'scenes', 'backbone.json'))) await compare(out);
