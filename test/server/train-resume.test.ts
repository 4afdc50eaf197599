/**
 * Runs that are cut off go on as if they never had been: killed at any moment, or stopped with Ctrl-C, and resumed, they end with the same
 * bytes. With everything on that is drawn: dropout, views, batches, parts of steps, and evaluation.
 */
import { existsSync, watch } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  GRAFT,
  interrupt,
  logLength,
  makeTrainingFolder,
  readSteps,
  readTree,
  start,
  type TrainFlags,
  trainHere,
  trainWords,
} from '../support/training.js';

const FLAGS: TrainFlags = {
  batch: 4,
  accumulate: 2,
  steps: 60,
  lr: 0.005,
  holdout: 4,
  dropout: 0.1,
  residualDropout: 0.1,
  weightDecay: 0.01,
  flip: true,
  crop: true,
  views: 3,
  evalEvery: 4,
  evalCaptions: 'all',
  checkpointEvery: 3,
};

let folder: string;
beforeAll(async () => {
  folder = await makeTrainingFolder(3);
  await trainHere(folder, named('whole'));
});
afterAll(() => rm(folder, { recursive: true }));

/** The adapters have one name in folders of their own: their manifests are then equal too. */
function named(run: string, flags: TrainFlags = FLAGS): TrainFlags {
  return { ...flags, out: `${run}/dog`, run: `runs/${run}` };
}
const runOf = (run: string): string => path.join(folder, 'runs', run);
const adapterOf = (run: string) => readTree(path.join(folder, run, 'dog'));

/** That a run left what the uncut one left. */
async function expectWhole(run: string): Promise<void> {
  expect(await adapterOf(run)).toEqual(await adapterOf('whole'));
  expect(await readSteps(runOf(run))).toEqual(await readSteps(runOf('whole')));
  expect((await readdir(runOf(run))).sort()).toEqual(['checkpoint.safetensors', 'log.jsonl', 'report.html']);
}

describe('the same seed', () => {
  test('gives the same bytes, however many threads compute and however often it is saved', async () => {
    await trainHere(folder, named('again', { ...FLAGS, threads: 1, checkpointEvery: 100 }));
    await expectWhole('again');
  });

  test('gives others than another seed', async () => {
    await trainHere(folder, named('other', { ...FLAGS, seed: 1 }));
    const [one, other] = [await adapterOf('whole'), await adapterOf('other')];
    expect([...other.keys()]).toEqual([...one.keys()]);
    for (const [file, digest] of other) if (file.endsWith('.safetensors')) expect(digest, file).not.toBe(one.get(file));
  });
});

describe('killed and resumed, a run ends with the same bytes and the same losses', () => {
  test.each([8, 24, 40])('killed when its log has %d lines', async (lines) => {
    const run = `killed-${lines}`;
    const late = Math.random() * 20; // Anywhere in a step, a checkpoint or an evaluation.
    const { signal } = await interrupt(folder, named(run), 'SIGKILL', async () => {
      const isTime = (await logLength(runOf(run))) >= lines;
      if (isTime) await new Promise((resolve) => setTimeout(resolve, late));
      return isTime;
    });
    expect(signal).toBe('SIGKILL');
    await trainHere(folder, { ...named(run), resume: true });
    await expectWhole(run);
  });

  test('killed while it writes a checkpoint, whose half it clears away', async () => {
    const run = 'torn';
    await mkdir(runOf(run), { recursive: true });
    const { child, ended } = start(folder, [...GRAFT, ...trainWords(named(run))]);
    const watcher = watch(runOf(run), (_, name) => {
      const isFirst = !existsSync(path.join(runOf(run), 'checkpoint.safetensors'));
      if (name?.startsWith('.checkpoint') && !isFirst) child.kill('SIGKILL');
    });
    const { signal } = await ended;
    watcher.close();
    expect(signal).toBe('SIGKILL');
    // The kill may have come after the rename; this is what it leaves where it comes before.
    const half = `.checkpoint.safetensors.${crypto.randomUUID()}.tmp`;
    await writeFile(
      path.join(runOf(run), half),
      (await readFile(path.join(runOf(run), 'checkpoint.safetensors'))).subarray(1000),
    );
    await trainHere(folder, { ...named(run), resume: true });
    await expectWhole(run);
  });

  test('killed again and again', async () => {
    const run = 'often';
    let resume: TrainFlags = {};
    for (const lines of [7, 22, 37]) {
      const isTime = async (): Promise<boolean> => (await logLength(runOf(run))) >= lines;
      expect(await interrupt(folder, { ...named(run), ...resume }, 'SIGKILL', isTime)).toMatchObject({ signal: 'SIGKILL' });
      resume = { resume: true };
    }
    await trainHere(folder, { ...named(run), ...resume });
    await expectWhole(run);
  });
});

describe('stopped', () => {
  test.each(['SIGINT', 'SIGTERM'] as const)('with %s it saves, says how to go on, and that is how it goes on', async (signal) => {
    const run = signal.toLowerCase();
    const isTime = async (): Promise<boolean> => (await logLength(runOf(run))) >= 10;
    const { status, stdout, stderr } = await interrupt(folder, named(run), signal, isTime);
    expect(status).toBe(130);
    expect(stderr).toContain('stopping after this step');
    const step = Number(/^stopped after step (\d+) of 60, saved in runs\/\S+$/m.exec(stdout)?.[1]);
    expect((await readSteps(runOf(run))).steps).toHaveLength(step);
    expect(await readTree(runOf(run))).toHaveProperty('size', 3); // Checkpoint, log and report.
    expect(await readdir(path.join(folder, run)).catch(() => [])).toEqual([]);

    const command = /^go on with: {2}graft (.*)$/m.exec(stdout)?.[1]?.split(' ') ?? [];
    const { ended } = start(folder, [...GRAFT, ...command]);
    expect(await ended).toMatchObject({ status: 0, stderr: expect.stringContaining(`going on after step ${step} of 60\n`) });
    await expectWhole(run);
  });

  test('and asked to go on after its end, it publishes the same, and writes no checkpoint again', async () => {
    await trainHere(folder, { ...named('ended'), steps: 3 });
    const checkpoint = path.join(runOf('ended'), 'checkpoint.safetensors');
    const [adapter, { ino }] = [await adapterOf('ended'), await stat(checkpoint)];
    const { stdout, stderr } = await trainHere(folder, { ...named('ended'), steps: 3, resume: true });
    expect(stderr).toContain('going on after step 3 of 3');
    expect(stdout).toContain('trained 3 steps');
    expect(await adapterOf('ended')).toEqual(adapter);
    expect((await stat(checkpoint)).ino).toBe(ino);
  });

  test('before its first step there is nothing to save', async () => {
    const flags = { ...named('early'), views: 64, cache: 'early-cache' };
    const isTime = async (): Promise<boolean> =>
      (await readTree(path.join(folder, 'early-cache')).catch(() => new Map())).size > 0;
    const { status, stderr } = await interrupt(folder, flags, 'SIGINT', isTime);
    expect(status).toBe(1);
    expect(stderr).toMatch(/\ngraft: Stopped before the first step; nothing was trained\n$/);
    expect(await readdir(folder)).not.toContain('early');
    expect(await readdir(path.join(folder, 'runs'))).not.toContain('early');
  });
});
