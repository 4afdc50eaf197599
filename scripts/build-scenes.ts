/**
 * `npm run build:scenes`: makes the backbone and the adapters that come with Graft again, from seeds, and says how they compare to those that
 * are there. Nothing is downloaded: pictures and sentences are drawn, a tokenizer is learned, the decoder reads text only, the encoder sees
 * pictures only, both are then frozen, and adapters bring them together.
 *
 *     npm run build:scenes                      into scratch/scenes; a little more than an hour on two cores
 *     npm run build:scenes -- --out FOLDER      into another folder; what is finished there is not made again
 *     npm run build:scenes -- --install         and takes the place of what is in models/scenes and adapters
 */
import { mkdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { clock } from '../src/cli/progress.js';
import { ADAPTERS } from './scenes/recipe.js';
import { assemble, compare, install, makeAdapter, makeCaptions, makeDecoder, makeEncoder, makeText } from './scenes/stages.js';

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
if (values.install) await install(out, ROOT);
else if (await isThere(join(ROOT, 'models', 'scenes', 'backbone.json'))) await compare(out, ROOT);
