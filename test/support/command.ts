/** The `graft` command as people start it, out of the sources. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { tinyFlags } from './server.js';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

/** Node's arguments for a command; `process.execPath` runs them. */
export const GRAFT = ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href, MAIN];

export interface ServeCommand {
  readonly child: ChildProcess;
  readonly url: string;
  /** All that it has written so far, to both streams. */
  readonly output: () => string;
}

/** `graft serve` on the tiny folder's backbone, once it says that it is ready. */
export async function serveCommand(folder: string, flags: Readonly<Record<string, string>>): Promise<ServeCommand> {
  const all = Object.entries({ ...tinyFlags(folder), ...flags }).flatMap(([key, value]) => [
    `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
    value,
  ]);
  const child = spawn(process.execPath, [...GRAFT, 'serve', ...all], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let printed = '';
  const url = await new Promise<string>((resolve, reject) => {
    const take = (chunk: Buffer): void => {
      printed += chunk.toString();
      const found = /graft is ready on (\S+)/.exec(printed)?.[1];
      if (found) resolve(found);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.once('exit', () => reject(new Error(`Expected a ready server but it printed ${printed}`)));
  });
  return { child, url, output: () => printed };
}

/** A port that nobody listens on, for programs that cannot choose one themselves. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
