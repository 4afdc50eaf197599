/** `graft pull`: a model or an adapter from the Hugging Face hub into the hub's own cache. Prints the folder, for people and for scripts. */
import { constants } from 'node:os';
import { basename } from 'node:path';
import { AppError } from '../errors.js';
import { type Pulled, pull } from '../hub/pull.js';
import { parseReference, type Reference, repositoryOf } from '../hub/reference.js';
import { USUAL } from '../hub/select.js';
import { readHubSettings } from '../hub/settings.js';
import { parseFlags } from '../settings.js';
import { clock, Progress } from './progress.js';
import { nextSteps } from './pull/next.js';
import { PULL_SETTINGS } from './pull/options.js';

/** What is smaller than this is told in kilobytes. */
const SMALL_BYTES = 10_000_000;
/** Between two changes of the bar: chunks come by the hundred a second. */
const UPDATE_MS = 100;

/** The snapshot's folder; what happens meanwhile goes to stderr. Throws AppError for all that is wrong with what was asked for or came. */
export async function pullRepository(
  name: string,
  flags: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  const reference = parseReference(name);
  const { include, exclude } = parseFlags(PULL_SETTINGS, flags, '.');
  const settings = await readHubSettings(env);
  const bar = new Bar();
  const release = onInterrupt(bar);
  try {
    const pulled = await pull({
      reference,
      settings,
      include: include ?? USUAL,
      exclude: exclude ?? [],
      patience: { onWait: (reason, waitMs) => bar.say(`${reason}; again in ${clock(Math.ceil(waitMs / 1000))}`) },
      onProgress: (...progress) => bar.update(...progress),
      onNote: (line) => bar.say(line),
    });
    bar.stop();
    console.error(await conclusion(reference, pulled));
    return pulled.folder;
  } catch (error) {
    throw explain(error);
  } finally {
    bar.stop();
    release();
  }
}

/** A bar in megabytes, once there is something to show. */
class Bar {
  #progress: Progress | undefined;
  #shown = -1;
  #shownMs = 0;
  #first = 0;
  #startMs = 0;

  update(done: number, total: number, path: string, others: number): void {
    const [unit, symbol] = total < SMALL_BYTES ? [1e3, 'kB'] : [1e6, 'MB'];
    const value = done === total ? Math.ceil(total / unit) : Math.floor(done / unit);
    if (this.#progress === undefined) {
      this.#progress = new Progress('pull', Math.ceil(total / unit), value);
      this.#first = done;
      this.#startMs = Date.now();
    }
    if (value === this.#shown || (done < total && Date.now() - this.#shownMs < UPDATE_MS)) return;
    this.#shown = value;
    this.#shownMs = Date.now();
    const rate = (done - this.#first) / (Date.now() - this.#startMs); // Bytes a millisecond.
    const left = rate > 0 ? `  ${clock((total - done) / rate / 1000)} left` : '';
    this.#progress.update(value, `${symbol}  ${basename(path)}${others > 0 ? ` and ${others} more` : ''}${left}`);
  }

  say(line: string): void {
    if (this.#progress) this.#progress.say(line);
    else console.error(line);
  }

  stop(): void {
    this.#progress?.stop();
    this.#progress = undefined;
  }
}

async function conclusion(reference: Reference, { folder, commit, files, fetched }: Pulled): Promise<string> {
  const what = `${repositoryOf(reference)} at ${commit.slice(0, 12)}: ${files.length} ${files.length === 1 ? 'file' : 'files'}`;
  const [kind, ...commands] = await nextSteps(folder, files, reference.name);
  const head = `${what}, ${fetched === 0 ? 'all of them here before' : `${fetched} fetched`}; ${kind}`;
  return [head, ...commands.map((command) => `  ${command}`)].join('\n');
}

/** What has come stays: the same command goes on with it. */
function onInterrupt(bar: Bar): () => void {
  const stop = (): void => {
    bar.stop();
    console.error('\nstopped; the same command goes on where it was');
    process.exit(128 + constants.signals.SIGINT);
  };
  process.on('SIGINT', stop);
  return () => process.off('SIGINT', stop);
}

/** What the system refuses, in words. */
function explain(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code))
    return new AppError(
      'disk_full',
      `Expected room on the disk but there is none (${code}); make room, and the same command goes on`,
      {
        cause: error,
      },
    );
  if (['EACCES', 'EPERM', 'EROFS'].includes(code))
    return new AppError(
      'invalid_config',
      `Expected a cache that can be written but received ${(error as Error).message}; HF_HOME says where it is`,
      {
        cause: error,
      },
    );
  return error;
}
