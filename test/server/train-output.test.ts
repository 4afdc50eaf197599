/** What a run prints: plain lines into a file or a pipe, a bar for somebody who is looking. And that it gives back every descriptor. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GRAFT, makeTrainingFolder, start, type TrainFlags, trainHere, trainWords } from '../support/training.js';

const FLAGS: TrainFlags = { steps: 40, holdout: 3, evalEvery: 10, restart: true, replace: true };
const hasScript = spawnSync('bash', ['-c', 'script --version'], { encoding: 'utf8' }).stdout.includes('util-linux');

let folder: string;
beforeAll(async () => {
  folder = await makeTrainingFolder();
});
afterAll(() => rm(folder, { recursive: true }));

test('into a pipe it writes plain lines, the result alone on standard output', async () => {
  const { stdout, stderr } = await start(folder, [...GRAFT, ...trainWords({ ...FLAGS, out: 'adapters/dog' })]).ended;
  expect(stdout).toMatch(
    /^trained 40 steps in 0:\d\d, held-out perplexity [\d.]+ at step \d+\nadapter {2}adapters\/dog\nreport {3}runs\/dog\/report.html\n$/,
  );
  expect(stderr).toMatch(/^[\x20-\x7e\n]+$/);
  expect(stderr.split('\n').filter((line) => !line.startsWith('step '))).toEqual([
    'images 8/8 encoded',
    'dog: lora on image and text, 18,976 parameters on tiny; 7 captions, 3 held out; seed 0',
    expect.stringMatching(/^train 40\/40 loss [\d.]+ {2}ppl [\d.]+ {2}\d+ tok\/s {2}0:00 left$/),
    '',
  ]);
  expect(stderr.match(/^step (10|20|30|40): held-out loss [\d.]+, perplexity [\d.]+(, the best so far)?$/gm)).toHaveLength(4);
});

test.skipIf(!hasScript)('on a terminal it draws a bar, and writes over nothing that it said', async () => {
  const command = [...GRAFT, ...trainWords({ ...FLAGS, out: 'adapters/dog' })].map((word) => `'${word}'`).join(' ');
  const { stdout } = await start(folder, ['script', '-qec', command, '/dev/null']).ended;
  const screen = render(stdout);
  expect(screen.filter((line) => /^(images|train) █+ \d+\/\d+ /.test(line))).toHaveLength(2);
  expect(screen.filter((line) => line.startsWith('step ')).map((line) => line.slice(0, 7))).toEqual(
    ['10', '20', '30', '40'].map((step) => `step ${step}`),
  );
  expect(screen.slice(-3)).toEqual([
    expect.stringMatching(/^trained 40 steps/),
    'adapter  adapters/dog',
    'report   runs/dog/report.html',
  ]);
});

test.skipIf(!existsSync('/proc/self/fd'))('closes what it opened, also where it fails', async () => {
  const flags = { ...FLAGS, out: 'adapters/many', checkpointEvery: 1, samples: 2 };
  const diverging = { ...flags, lr: 10, clip: 'none', weightDecay: 10, schedule: 'constant' };
  const open = async (): Promise<number> => (await readdir('/proc/self/fd')).length;
  await trainHere(folder, flags); // Libraries open what they keep.
  const before = await open();
  await trainHere(folder, flags);
  await expect(trainHere(folder, diverging)).rejects.toThrow('Expected a finite loss');
  await expect(trainHere(folder, { ...flags, prompt: 'a'.repeat(200) })).rejects.toThrow('Expected a prompt');
  expect(await open()).toBe(before);
});

/** The lines of a terminal that was sent this: as much of one as a bar needs. */
function render(sent: string): string[] {
  const lines: string[] = [''];
  let at = { row: 0, column: 0 };
  let saved = at;
  for (const [token] of sent.replaceAll('\u001b', '⎋').matchAll(/⎋\[[\d?]*[a-zA-Z]|⎋[78]|[\s\S]/gu)) {
    const line = lines[at.row] ?? '';
    if (token === '\r' || token === '⎋[1G') at = { ...at, column: 0 };
    else if (token === '\n') at = { ...at, row: at.row + 1 };
    else if (token === '⎋7') saved = at;
    else if (token === '⎋8') at = saved;
    else if (/^⎋\[0?K$/.test(token)) lines[at.row] = line.slice(0, at.column);
    else if (token.startsWith('⎋')) throw new Error(`Expected nothing that changes the terminal but received ${token}`);
    else {
      lines[at.row] = `${line.slice(0, at.column).padEnd(at.column)}${token}${line.slice(at.column + 1)}`;
      at = { ...at, column: at.column + 1 };
    }
  }
  return lines.map((line) => line.trimEnd()).filter((line) => line !== '');
}
