/**
 * `npm run scenes`: drawn pictures with captions for several tasks, to train and try adapters on without downloading anything.
 *
 *     npm run scenes -- --out scenes --count 2000 --seed 1
 *     npm run scenes -- --out scenes --tasks english,counting --size 224
 *
 * Writes images/*.jpg, TASK.jsonl (an image and its captions a line) and scenes.jsonl (the truth of every picture).
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Progress } from '../src/cli/progress.js';
import { AppError } from '../src/errors.js';
import { Faults } from '../src/tensor/faults.js';
import { quote } from '../src/tensor/json.js';
import { TASK_NAMES, type Task } from './scenes/captions.js';
import { type FolderOptions, writeScenes } from './scenes/folder.js';

/** What stands behind a command on the command line, checked. Throws AppError `invalid_config` with every fault. */
export function parseSceneOptions(args: readonly string[]): FolderOptions {
  const faults = new Faults();
  const values = readFlags(args, faults);
  const whole = (name: 'count' | 'seed' | 'size', least: number, most: number): number => {
    const value = Number(values[name]);
    const good = /^\d+$/.test(values[name]) && value >= least && value <= most;
    if (!good) faults.add(`Expected --${name} to be a whole number from ${least} to ${most} but received ${quote(values[name])}`);
    return value;
  };
  const names = values.tasks.split(',');
  const tasks = TASK_NAMES.filter((task) => names.includes(task));
  for (const name of names)
    if (!tasks.includes(name as Task))
      faults.add(`Expected --tasks to be of ${TASK_NAMES.join(', ')} but received ${quote(name)}`);
  if (values.out === '') faults.add('Expected --out to be a folder but received none');
  const options = {
    out: values.out,
    count: whole('count', 1, 100_000),
    seed: whole('seed', 0, 2 ** 32 - 1),
    tasks,
    size: whole('size', 32, 1024),
  };
  faults.check('invalid_config', 'scenes');
  return options;
}

function readFlags(args: readonly string[], faults: Faults): Record<'count' | 'seed' | 'out' | 'tasks' | 'size', string> {
  const text = (value: string) => ({ type: 'string', default: value }) as const;
  const options = { count: text('2000'), seed: text('0'), out: text(''), tasks: text(TASK_NAMES.join(',')), size: text('128') };
  try {
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    faults.add(error instanceof Error ? error.message : String(error));
    throw faults.error('invalid_config', 'scenes', error);
  }
}

async function main(): Promise<void> {
  const options = parseSceneOptions(process.argv.slice(2));
  const progress = new Progress('scenes', options.count);
  try {
    await writeScenes(options, (pictures) => progress.update(pictures, ''));
  } finally {
    progress.stop();
  }
  console.log(`${options.count} scenes in ${options.out}, captions for ${options.tasks.join(', ')}`);
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
