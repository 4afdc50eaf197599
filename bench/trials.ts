/**
 * Many training runs, two at a time with a thread each, every one in a process of its own. Results stay in a file, a line a run, so that an
 * interrupted experiment goes on where it was.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';

const WORKERS = 2;

export interface TrialsOptions<Task, Result extends Task> {
  /** The file of results. */
  readonly file: string;
  /** The script that does one task when it is started with `--one TASK`. */
  readonly script: string;
  /** Equal for tasks that would give equal results. */
  readonly keyOf: (task: Task) => string;
  readonly describe: (result: Result) => string;
}

export class Trials<Task, Result extends Task> {
  readonly #options: TrialsOptions<Task, Result>;
  readonly #children = new Set<ChildProcess>();

  constructor(options: TrialsOptions<Task, Result>) {
    this.#options = options;
  }

  results(): Result[] {
    const { file } = this.#options;
    if (!existsSync(file)) return [];
    return readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Result);
  }

  /** Does the tasks that have no result yet, and keeps each result as it comes. */
  async run(tasks: readonly Task[]): Promise<void> {
    const { file, keyOf, describe } = this.#options;
    const done = new Set(this.results().map(keyOf));
    const queue = tasks.filter((task) => !done.has(keyOf(task)));
    const total = queue.length;
    const started = Date.now();
    let finished = 0;
    const worker = async (): Promise<void> => {
      for (let task = queue.shift(); task; task = queue.shift()) {
        const result = await this.#inChild(task);
        appendFileSync(file, `${JSON.stringify(result)}\n`);
        const minutes = ((Date.now() - started) / 60_000).toFixed(1);
        console.log(`${++finished}/${total} (${minutes} min) ${describe(result)}`);
      }
    };
    try {
      await Promise.all(Array.from({ length: WORKERS }, worker));
    } finally {
      // One that failed ends the run: the other must not train on for nobody.
      for (const child of this.#children) child.kill();
    }
  }

  #inChild(task: Task): Promise<Result> {
    const { script, keyOf } = this.#options;
    return new Promise((resolve, reject) => {
      const child = fork(script, ['--one', JSON.stringify(task)]);
      this.#children.add(child);
      let result: Result | undefined;
      child.on('message', (message) => {
        result = message as Result;
      });
      child.on('exit', (code, signal) => {
        this.#children.delete(child);
        if (result) resolve(result);
        else reject(new Error(`Expected a result of ${keyOf(task)} but its process ended with ${code ?? signal}`));
      });
    });
  }
}

/** In the child: does the one task that it was started for and tells the result. */
export async function answer(work: (task: never) => Promise<object>): Promise<void> {
  process.send?.(await work(JSON.parse(process.argv[3] ?? '') as never));
  process.disconnect?.();
}

export const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
export const deviation = (values: readonly number[]): number =>
  Math.sqrt(values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / (values.length - 1));

/** Puts texts between the markers of a page that have their names. */
export function writeParts(page: string, parts: Readonly<Record<string, string>>): void {
  let text = readFileSync(page, 'utf8');
  for (const [marker, part] of Object.entries(parts)) {
    const [start, end] = [`<!-- ${marker} -->`, `<!-- end of ${marker} -->`];
    const [from, to] = [text.indexOf(start), text.indexOf(end)];
    if (from < 0 || to < 0) throw new Error(`Expected ${start} and ${end} in ${page}`);
    text = `${text.slice(0, from + start.length)}\n${part}\n${text.slice(to)}`;
  }
  writeFileSync(page, text);
}
