/**
 * `npm run examine:scenes`: how well the adapters that come with Graft do at pictures that nobody trained on, how badly without an adapter,
 * and that another adapter does another task. A caption counts as right in an aspect only if all that it says is true and nothing is left out.
 *
 *     npm run examine:scenes
 *     npm run examine:scenes -- --backbone scratch/scenes/models/scenes --adapters scratch/scenes/adapters --count 100
 */
import { readdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Progress } from '../src/cli/progress.js';
import { TASK_NAMES } from './scenes/captions.js';
import { Examination, table } from './scenes/examine.js';
import { EXAMINED, PICTURE, SEEDS } from './scenes/recipe.js';

const { values } = parseArgs({
  options: {
    backbone: { type: 'string', default: 'models/scenes' },
    adapters: { type: 'string', default: 'adapters' },
    count: { type: 'string', default: String(EXAMINED) },
    seed: { type: 'string', default: String(SEEDS.examination) },
    size: { type: 'string', default: String(PICTURE.size) },
    /** Scenes to print, each with its captions. */
    show: { type: 'string', default: '0' },
  },
});
/** Ends the command with a line where a flag is wrong. */
function expect(isGood: boolean, expected: string, received: string): void {
  if (isGood) return;
  console.error(`Expected ${expected} but received ${JSON.stringify(received)}`);
  process.exit(1);
}

for (const [name, least, most] of [
  ['count', 1, 100_000],
  ['seed', 0, 2 ** 32 - 1],
  ['size', 32, 1024],
  ['show', 0, 100_000],
] as const) {
  const value = values[name];
  const isGood = /^\d+$/.test(value) && Number(value) >= least && Number(value) <= most;
  expect(isGood, `--${name} to be a whole number from ${least} to ${most}`, value);
}
const folder = resolve(values.adapters);
const there = new Set(await readdir(folder).catch(() => []));
const tasks = TASK_NAMES.filter((task) => there.has(task));
expect(tasks.length > 0, `--adapters to be a folder with some of ${TASK_NAMES.join(', ')}`, values.adapters);
const [count, seed, size] = [Number(values.count), Number(values.seed), Number(values.size)];
const shown = Math.min(count, Number(values.show));

const bar = new Progress('examination', count * (tasks.length + 2));
let done = 0;
const counting = (): ((now: number) => void) => {
  const before = done;
  return (now) => {
    done = before + now;
    bar.update(done, '');
  };
};
const examination = await Examination.draw({ count, seed, size, threads: availableParallelism() }, counting());
try {
  const captions = new Map<string, string[]>();
  for (const task of tasks) captions.set(task, await examination.captions(values.backbone, join(folder, task), counting()));
  const bare = await examination.captions(values.backbone, null, counting());
  bar.stop();
  console.log(table(tasks.map((task) => ({ name: task, marks: examination.mark(task, captions.get(task) ?? []) }))));
  console.log('\nWithout an adapter:\n');
  console.log(table(tasks.map((task) => ({ name: task, marks: examination.mark(task, bare) }))));
  console.log(
    '\nCaptions of each adapter that are right as those of another task (rows: adapters), in per cent. A sentence tells all that a list asks for, and the judge minds what is said, not its form:\n',
  );
  console.log(`| | ${tasks.join(' | ')} |\n|---|${tasks.map(() => '---:').join('|')}|`);
  for (const adapter of tasks) {
    const marks = tasks.map((task) => (100 * (examination.mark(task, captions.get(adapter) ?? []).all ?? 0)).toFixed(1));
    console.log(`| ${adapter} | ${marks.join(' | ')} |`);
  }
  for (let index = 0; index < shown; index++) {
    console.log(
      `\n${JSON.stringify(examination.scenes[index]?.groups.map(({ kind, colour, size, count }) => `${count} ${size} ${colour} ${kind}`))}`,
    );
    for (const task of tasks) console.log(`  ${task}: ${captions.get(task)?.[index]}`);
  }
} finally {
  await examination.close();
}
