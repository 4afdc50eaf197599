/**
 * `graft train` on the tiny backbone: invented photos of plain colours, and the command in this process (quick) or as a process of its own
 * (what can be killed, limited, or given a terminal).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import sharp from 'sharp';
import { vi } from 'vitest';
import { train } from '../../src/cli/train.js';
import type { EvaluationLine, StepLine } from '../../src/training/log.js';
import { until } from './server.js';
import { makeTinyBackbone } from './tiny.js';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const NODE = ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href, MAIN];

/** What each photo shows: a colour, and a word for it that its captions say. */
export const PHOTOS = [
  ['red', '#f00', 'dog'],
  ['green', '#0f0', 'cat'],
  ['blue', '#00f', 'boat'],
  ['white', '#fff', 'bird'],
  ['black', '#000', 'horse'],
  ['yellow', '#ff0', 'house'],
  ['pink', '#f9c', 'tree'],
  ['grey', '#777', 'road'],
] as const;

/** A folder with `backbone/`, photos and data; `copies` photos of each colour, each a little different. */
export async function makeTrainingFolder(copies = 1): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-train-'));
  await makeTinyBackbone(path.join(folder, 'backbone'));
  await makePhotos(folder, copies);
  return folder;
}

/** `photos/COLOUR-COPY.png`; `captions.jsonl` with one or two captions each, `short.jsonl` and `other.jsonl` with one, and `stories.txt`. */
export async function makePhotos(folder: string, copies: number): Promise<void> {
  await mkdir(path.join(folder, 'photos'));
  const rows = Array.from({ length: copies }, (_, copy) => PHOTOS.map((photo, index) => ({ photo, index, copy }))).flat();
  for (const { photo, index, copy } of rows) {
    const spot = { create: { width: 4 + copy, height: 6, channels: 3, background: '#888' } } as const;
    await sharp({ create: { width: 40, height: 30, channels: 3, background: photo[1] } })
      .composite([{ input: await sharp(spot).png().toBuffer(), left: 2 * index, top: 3 + copy }])
      .png()
      .toFile(path.join(folder, 'photos', `${photo[0]}-${copy}.png`));
  }
  const write = (name: string, captions: (row: (typeof rows)[number]) => readonly string[]): Promise<void> =>
    writeFile(
      path.join(folder, name),
      rows
        .map((row) => `${JSON.stringify({ image: `photos/${row.photo[0]}-${row.copy}.png`, captions: captions(row) })}\n`)
        .join(''),
    );
  await write('captions.jsonl', ({ photo: [colour, , thing], index }) =>
    [`a ${colour} ${thing}.`, `the ${thing} is very ${colour}, as it seems.`].slice(0, index % 3 === 0 ? 2 : 1),
  );
  await write('short.jsonl', ({ photo: [colour, , thing] }) => [`a ${colour} ${thing}.`]);
  await write('other.jsonl', ({ photo: [, , thing] }) => [`this is no ${thing}!`]);
  const stories = PHOTOS.map(([colour, , thing]) => `once there was a ${thing} that was ${colour}.\n`);
  await writeFile(path.join(folder, 'stories.txt'), stories.join(''));
}

export type TrainFlags = Readonly<Record<string, string | number | true>>;

/** What every run here has in common; a test adds what it is about. */
const COMMON: TrainFlags = {
  backbone: 'backbone',
  data: 'captions.jsonl',
  batch: 8,
  lr: 0.01,
  warmup: 2,
  holdout: 0,
  samples: 0,
  threads: 2,
};

/** The command in this process: what it printed. Rejects with what the command would say. */
export async function trainHere(folder: string, flags: TrainFlags): Promise<{ stdout: string; stderr: string }> {
  const printed = { stdout: '', stderr: '' };
  const into = (key: keyof typeof printed) => (text: unknown) => {
    printed[key] += `${String(text)}\n`;
  };
  const spies = [
    vi.spyOn(console, 'log').mockImplementation(into('stdout')),
    vi.spyOn(console, 'error').mockImplementation(into('stderr')),
  ];
  try {
    const given = Object.entries({ ...COMMON, ...flags }).map(([key, value]) => [key, value === true ? true : String(value)]);
    await train(Object.fromEntries(given) as TrainFlags, folder);
    return printed;
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

/** The same flags as words of a command line. */
export function trainWords(flags: TrainFlags): string[] {
  const words = Object.entries({ ...COMMON, ...flags }).flatMap(([key, value]) => {
    const flag = `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    return value === true ? [flag] : [flag, String(value)];
  });
  return ['train', ...words];
}

/** What starts the command: for shells, which put limits around it. */
export const GRAFT = [process.execPath, ...NODE];

export interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program as a process of its own, and how it ends. */
export function start(
  folder: string,
  [program = '', ...words]: readonly string[],
): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(program, words, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env['PATH'] } });
  const printed = { stdout: '', stderr: '' };
  for (const key of ['stdout', 'stderr'] as const)
    child[key].setEncoding('utf8').on('data', (text: string) => {
      printed[key] += text;
    });
  const ended = once(child, 'close').then(([status, signal]) => ({
    status: status as number | null,
    signal: signal as NodeJS.Signals | null,
    ...printed,
  }));
  return { child, ended };
}

/** Starts the command and sends it a signal as soon as `isTime` says so. */
export async function interrupt(
  folder: string,
  flags: TrainFlags,
  signal: NodeJS.Signals,
  isTime: () => Promise<boolean>,
): Promise<Ended> {
  const { child, ended } = start(folder, [...GRAFT, ...trainWords(flags)]);
  await until(async () => child.exitCode !== null || (await isTime()));
  child.kill(signal);
  return ended;
}

/** Lines of a run's log so far. */
export async function logLength(run: string): Promise<number> {
  const text = await readFile(path.join(run, 'log.jsonl'), 'utf8').catch(() => '');
  return text.split('\n').length - 1;
}

/** The log's lines, steps without what differs between any two runs: the time they took. */
export async function readSteps(
  run: string,
): Promise<{ steps: Omit<StepLine, 'tokens_per_second'>[]; evaluations: EvaluationLine[]; order: number[] }> {
  const lines = (await readFile(path.join(run, 'log.jsonl'), 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as StepLine | EvaluationLine);
  return {
    steps: lines.flatMap((line) => {
      if (!('loss' in line)) return [];
      const { tokens_per_second: _, ...rest } = line;
      return [rest];
    }),
    evaluations: lines.filter((line) => 'validation_loss' in line),
    order: lines.map(({ step }) => step),
  };
}

/** The digest of every file below a folder, by relative path. */
export async function readTree(folder: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const name of (await readdir(folder, { recursive: true })).sort()) {
    const place = path.join(folder, name);
    if ((await stat(place)).isFile()) files.set(name, digestOf(await readFile(place)));
  }
  return files;
}

export function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
