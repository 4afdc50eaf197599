/**
 * A server that is killed with SIGKILL, again and again, at any moment of publishing, changing, deleting and of its own start, on one store: what it
 * acknowledged is there when the store is opened again, what it had begun is there whole or not at all, and nothing else is.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { digestFolder } from '../../../src/adapter/digest.js';
import { AdapterStore } from '../../../src/store/store.js';
import { type Command, type Name, note, shownOf } from '../../support/blackboard.js';
import { Gaussian } from '../../support/tiny.js';

const DOOMED = fileURLToPath(new URL('../../support/doomed.ts', import.meta.url));
const ROUNDS = 24;
/** Every so many rounds it is killed while it opens the store. */
const EARLY = 4;
/** It says so many lines at most, and lives so much longer, when it is to die. */
const MOST_LINES = 24;
const LONGEST_MS = 20;

interface Line {
  readonly opening?: true;
  readonly name?: string;
  readonly begun?: Command;
  readonly done?: string | null;
}

/** What it said until it was killed. */
async function live(folder: string, seed: number, random: Gaussian): Promise<Line[]> {
  const child = spawn(process.execPath, ['--import', 'tsx', DOOMED, folder, String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: Line[] = [];
  const closed = once(child, 'close');
  const most = seed % EARLY === 0 ? 1 : 2 + Math.floor(random.uniform() * MOST_LINES);
  for await (const text of createInterface({ input: child.stdout })) {
    const line = JSON.parse(text) as Line;
    lines.push(line);
    if (lines.length === most) void sleep(random.uniform() * LONGEST_MS).then(() => child.kill('SIGKILL'));
  }
  const [code, signal] = (await closed) as [number | null, string | null];
  expect([code, signal], 'it lives until it is killed').toEqual([null, 'SIGKILL']);
  return lines;
}

it('kill -9 loses nothing that was acknowledged and leaves nothing by half', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-killed-'));
  const random = new Gaussian(7);
  const models = new Map<string, Name | undefined>();
  let changes = 0;
  let cut = 0;
  try {
    for (let round = 1; round <= ROUNDS; round++) {
      const begun = new Map<string, Command>();
      for (const { name, begun: command, done } of await live(folder, round, random)) {
        if (name === undefined) continue;
        if (command) begun.set(name, command);
        else {
          const { model, said } = note(models.get(name), begun.get(name) ?? { type: 'none' });
          expect(done).toBe(said ?? null);
          models.set(name, model);
          begun.delete(name);
          changes++;
        }
      }
      const store = await AdapterStore.open(folder);
      try {
        for (const name of ['a', 'b/c']) {
          const entry = store.get(name);
          const shown = entry && shownOf(entry);
          const before = models.get(name);
          const command = begun.get(name);
          const after = command && note(before, command).model;
          expect([before?.shown, ...(command ? [after?.shown] : [])]).toContainEqual(shown);
          if (command && JSON.stringify(shown) === JSON.stringify(after?.shown)) models.set(name, after);
          if (command) cut++;
          for (const { digest } of entry?.versions ?? []) {
            const held = store.select({ name, digest }, '');
            expect((await digestFolder(held?.adapter.ref.folder ?? '')).digest).toBe(digest);
            expect(held?.adapter.fault).toBeUndefined();
            held?.release();
          }
        }
        const named = ['a', 'b/c'].flatMap((name) => store.get(name)?.versions.map(({ digest }) => digest.slice(7)) ?? []);
        expect(new Set(await readdir(path.join(folder, 'versions')))).toEqual(new Set(named));
        expect((await readdir(folder)).sort()).toEqual(['index.json', 'lock', 'uploads', 'versions']);
        expect(await readdir(path.join(folder, 'uploads'))).toEqual([]);
      } finally {
        await store.close();
      }
    }
    // It was at work when it was killed, and it had been.
    expect(changes).toBeGreaterThan(ROUNDS);
    expect(cut).toBeGreaterThan(ROUNDS / 2);
  } finally {
    await rm(folder, { recursive: true });
  }
}, 240_000);
