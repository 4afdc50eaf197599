/**
 * `npm run build:scenes`: makes the backbone and the adapters that come with Graft again, from seeds, and says how they compare to those that
 * are there. Nothing is downloaded: pictures and sentences are drawn, a tokenizer is learned, the decoder reads text only, the encoder sees
 * pictures only, both are then frozen, and adapters bring them together.
 *
 *     npm run build:scenes                      into scratch/scenes; an hour on two cores
 *     npm run build:scenes -- --out FOLDER      into another folder; what is finished there is not made again
 *     npm run build:scenes -- --install         and takes the place of models/scenes and adapters
 */
import { cp, mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
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
import { writeScenes } from './scenes/folder.js';
import { ADAPTERS, type AdapterRecipe, CAPTIONED, DECODER, ENCODER, SEEDS, TEXT } from './scenes/recipe.js';

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

async function makeCaptions(out: string, name: string, count: number, seed: number): Promise<void> {
  const tasks = ADAPTERS.map(({ task }) => task);
  await underBar(name, count, (done) => writeScenes({ out: join(out, name), count, seed, tasks, size: EDGE }, done));
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

const { values } = parseArgs({
  options: { out: { type: 'string', default: join(ROOT, 'scratch', 'scenes') }, only: { type: 'string' } },
});
const out = resolve(values.out);
const only = values.only?.split(',');
await mkdir(out, { recursive: true });
const at = (...path: string[]): string => join(out, ...path);
await stage('text and tokenizer', at('text.jsonl'), () => makeText(out));
await stage('decoder', at('pretrained', 'language'), () => makeDecoder(out));
await stage('encoder', at('encoder', 'model.safetensors'), () => makeEncoder(out));
await stage('backbone', at('models', 'scenes'), () => assemble(out));
await stage('captioned pictures', at('captioned'), () => makeCaptions(out, 'captioned', CAPTIONED.pictures, SEEDS.captions));
for (const recipe of ADAPTERS)
  if (!only || only.includes(recipe.task))
    await stage(`adapter ${recipe.task}`, at('adapters', recipe.task), () => makeAdapter(out, recipe));
console.error(`all of it is in ${basename(out)}`);
