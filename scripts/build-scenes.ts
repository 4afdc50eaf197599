/**
 * `npm run build:scenes`: makes the backbone and the adapters that come with Graft again, from seeds, and says how they compare to those that
 * are there. Nothing is downloaded: pictures and sentences are drawn, a tokenizer is learned, the decoder reads text only, the encoder sees
 * pictures only, both are then frozen, and adapters bring them together.
 *
 *     npm run build:scenes                      into scratch/scenes; an hour on two cores
 *     npm run build:scenes -- --out FOLDER      into another folder; what is finished there is not made again
 *     npm run build:scenes -- --install         and takes the place of what is in models/scenes and adapters
 */
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { clock } from '../src/cli/progress.js';
import { AppError } from '../src/errors.js';
import { inChildren, type Work } from './scenes/children.js';
import * as recipe from './scenes/recipe.js';
import {
  assemble,
  compare,
  type DrawnPictures,
  drawPictures,
  install,
  makeAdapter,
  makeCaptions,
  makeDecoder,
  makeEncoder,
  makeText,
} from './scenes/stages.js';

const DECODER = 'decoder';
const ROOT = fileURLToPath(new URL('..', import.meta.url));

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

async function isThere(place: string): Promise<boolean> {
  return (await stat(place).catch(() => undefined)) !== undefined;
}

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: join(ROOT, 'scratch', 'scenes') },
    install: { type: 'boolean', default: false },
    // The decoder or one adapter and nothing else: how the build starts itself for those that are made at the same time as others.
    only: { type: 'string' },
  },
});
const out = resolve(values.out);
const started = Date.now();
const at = (...path: string[]): string => join(out, ...path);
try {
  if (out === resolve(ROOT))
    throw new AppError('invalid_config', `Expected --out to be a folder of its own but received the repository ${out}`);
  await claim();
  await (values.only === undefined ? build() : makeOnly(values.only));
} catch (error) {
  if (!(error instanceof AppError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

/** What is finished in the folder is only of use to a build with the same recipe. */
async function claim(): Promise<void> {
  await mkdir(out, { recursive: true });
  const own = JSON.stringify(recipe, null, 2);
  const found = await readFile(at('recipe.json'), 'utf8').catch(() => null);
  if (found !== null && found !== own)
    throw new AppError('invalid_config', `Expected ${out} to be of this recipe but its recipe.json is another: give a new --out`);
  await writeFile(at('recipe.json'), own);
}

async function makeOnly(name: string): Promise<void> {
  const adapter = recipe.ADAPTERS.find(({ task }) => task === name);
  if (adapter) await makeAdapter(out, adapter);
  else if (name === DECODER) await learnText();
  else
    throw new AppError(
      'invalid_config',
      `Expected --only ${DECODER} or the task of an adapter but received ${JSON.stringify(name)}`,
    );
}

async function learnText(): Promise<void> {
  await stage('text and tokenizer', at('text.jsonl'), () => makeText(out));
  await makeDecoder(out);
}

function child(name: string): Work {
  return { name, script: fileURLToPath(import.meta.url), args: ['--out', out, '--only', name] };
}

/** The decoder is made with one core while pictures are drawn with the other. Then the encoder has both. */
async function makeBackbone(): Promise<void> {
  const encoder = at('encoder', 'model.safetensors');
  const draw = async (): Promise<DrawnPictures | undefined> => {
    await stage('captioned pictures', at('captioned'), () => makeCaptions(out));
    return (await isThere(encoder)) ? undefined : drawPictures();
  };
  const learn = (): Promise<void> =>
    stage(DECODER, at('pretrained', 'language'), async () => {
      process.exitCode = await inChildren([child(DECODER)], 1);
    });
  const [drawn] = await Promise.all([draw(), learn()]);
  await stage('encoder', encoder, async () => makeEncoder(out, drawn ?? (await drawPictures())));
  await stage('backbone', at('models', 'scenes'), () => assemble(out));
}

/** Those that others begin with, one after another; then the others, some at a time. */
async function makeAdapters(): Promise<void> {
  const works: Work[] = [];
  for (const each of recipe.ADAPTERS) {
    const { task, from } = each;
    const result = at('adapters', task);
    if (from === undefined) await stage(`adapter ${task}`, result, () => makeAdapter(out, each));
    else if (await isThere(result)) console.error(`adapter ${task}: ${result} is there`);
    else works.push(child(task));
  }
  const begun = Date.now();
  // The longest first: at the end no core waits long for the other.
  works.sort((a, b) => epochsOf(b) - epochsOf(a));
  process.exitCode = await inChildren(works, recipe.ADAPTERS_AT_ONCE);
  if (process.exitCode !== 0) process.exit();
  console.error(`adapters: ${clock((Date.now() - begun) / 1000)}`);
}

function epochsOf({ name }: Work): number {
  return Number(recipe.ADAPTERS.find(({ task }) => task === name)?.flags['epochs']);
}

async function build(): Promise<void> {
  await makeBackbone();
  await makeAdapters();
  console.error(`\nmade in ${clock((Date.now() - started) / 1000)}: ${out}`);
  if (values.install) {
    await install(out, ROOT);
    console.error('now make the tables of models/scenes/README.md again (npm run examine:scenes) and the curl in README.md');
  } else if (await isThere(join(ROOT, 'models', 'scenes', 'backbone.json'))) await compare(out, ROOT);
}
