/** Work in processes of their own, some at a time: a thread each learns nearly twice as much in an hour as two threads on one. */
import { type ChildProcess, fork } from 'node:child_process';
import { createInterface } from 'node:readline';
import { AppError } from '../../src/errors.js';

/** A bar of this process may stand in the line. */
const CLEAR = process.stderr.isTTY ? '\r\u001b[K' : '';

export interface Work {
  /** Stands before every line that it prints. */
  readonly name: string;
  readonly script: string;
  readonly args: readonly string[];
}

/**
 * Does all of it, `atOnce` at a time. A signal that ends this process reaches those at work first, and they are waited for. Throws AppError
 * where one fails; then no other is begun. The status is that of the first that did not end with 0.
 */
export async function inChildren(works: readonly Work[], atOnce: number): Promise<number> {
  const queue = [...works];
  const children = new Set<ChildProcess>();
  let status = 0;
  const forward = (signal: NodeJS.Signals): void => {
    status ||= 128;
    for (const child of children) child.kill(signal);
  };
  process.on('SIGINT', forward).on('SIGTERM', forward);
  const lane = async (): Promise<void> => {
    for (let work = queue.shift(); work && status === 0; work = queue.shift()) {
      const code = await run(work, children);
      status ||= code;
    }
  };
  try {
    await Promise.all(Array.from({ length: atOnce }, lane));
  } finally {
    process.off('SIGINT', forward).off('SIGTERM', forward);
  }
  return status;
}

function run({ name, script, args }: Work, children: Set<ChildProcess>): Promise<number> {
  return new Promise((resolve, reject) => {
    // In a group of its own: of a Ctrl-C it hears through its parent, once.
    const child = fork(script, args, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'], detached: true });
    children.add(child);
    for (const output of [child.stdout, child.stderr])
      if (output) createInterface({ input: output }).on('line', (line) => console.error(`${CLEAR}${name}: ${line}`));
    child.on('error', (error) =>
      reject(new AppError('internal', `${name}: Expected a process for it but received ${error.message}`)),
    );
    child.on('close', (code, signal) => {
      children.delete(child);
      resolve(code ?? (signal === null ? 1 : 128));
    });
  });
}
