/** `graft top`: what a running server does now, in a terminal. It asks over HTTP like anybody else, so that it shows any server that can be reached. */
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../errors.js';
import { type Figures, figuresOf, type Reading } from './top/figures.js';
import { frameOf } from './top/frame.js';
import { Reader } from './top/reader.js';
import { Screen } from './top/screen.js';

export interface TopFlags {
  readonly url: string;
  readonly key?: string;
  readonly interval: string;
  readonly once?: boolean;
}

const MIN_INTERVAL_S = 0.1;
const MAX_INTERVAL_S = 3600;

/** Shows frame after frame until somebody quits; with `once` one frame, over one interval. Throws AppError. */
export async function top(flags: TopFlags, env: Readonly<Record<string, string | undefined>>): Promise<void> {
  const intervalSeconds = Number(flags.interval);
  if (!(intervalSeconds >= MIN_INTERVAL_S && intervalSeconds <= MAX_INTERVAL_S))
    throw new AppError(
      'invalid_config',
      `--interval: Expected seconds from ${MIN_INTERVAL_S} to ${MAX_INTERVAL_S} but received ${JSON.stringify(flags.interval)}`,
    );
  const reader = new Reader(flags.url, flags.key ?? env['GRAFT_KEY']);
  const screen = new Screen(process.stdin, process.stdout, env);
  if (flags.once) await once(reader, screen, intervalSeconds);
  else await live(reader, screen, intervalSeconds);
}

async function once(reader: Reader, screen: Screen, intervalSeconds: number): Promise<void> {
  const before = await reader.read();
  await sleep(intervalSeconds * 1000);
  const figures = figuresOf(before, await reader.read());
  screen.draw(frameOf(figures, heading(reader, intervalSeconds, null), screen.canvas));
}

async function live(reader: Reader, screen: Screen, intervalSeconds: number): Promise<void> {
  const quitting = new AbortController();
  const quit = (): void => quitting.abort();
  let before: Reading | null = null;
  let figures: Figures | null = null;
  let trouble: string | null = null;
  const draw = (): void => screen.draw(frameOf(figures, heading(reader, intervalSeconds, trouble), screen.canvas));

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, quit);
  screen.open(quit, draw);
  try {
    while (!quitting.signal.aborted) {
      try {
        const reading = await reader.read();
        figures = figuresOf(before, reading);
        before = reading;
        trouble = null;
      } catch (error) {
        trouble = `${AppError.from(error).message}; trying again`;
      }
      if (quitting.signal.aborted) break;
      draw();
      await sleep(intervalSeconds * 1000, undefined, { signal: quitting.signal }).catch(() => undefined);
    }
  } finally {
    screen.close();
  }
}

function heading({ url }: Reader, intervalSeconds: number, trouble: string | null) {
  return { url, intervalSeconds, time: new Date().toTimeString().slice(0, 8), trouble };
}
