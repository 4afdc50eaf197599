/** Locks that a process takes, keeps, and leaves behind when it is killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hold, locked } from '../../../src/tensor/lock.js';
import { HOST } from '../../../src/tensor/owner.js';

const OTHER_HOST = '00c0ffee';
const ID = '00000000';

let folder: string;
let place: string;
let others: ChildProcess[];
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-lock-'));
  place = path.join(folder, 'below', 'lock');
  others = [];
});
afterEach(async () => {
  for (const other of others) other.kill('SIGKILL');
  await rm(folder, { recursive: true });
});

/** Another process of this machine, which lives until it is killed. */
async function living(): Promise<{ readonly pid: number; readonly kill: () => Promise<void> }> {
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6); console.log()'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  others.push(other);
  await once(other.stdout, 'data');
  const kill = async (): Promise<void> => {
    other.kill('SIGKILL');
    await once(other, 'exit');
  };
  return { pid: other.pid ?? 0, kill };
}

async function leave(mark: string, ageS = 0): Promise<void> {
  await mkdir(path.dirname(place), { recursive: true });
  await writeFile(place, mark);
  await utimes(place, Date.now() / 1000 - ageS, Date.now() / 1000 - ageS);
}

/** Whether work waits for the lock that somebody holds until it is released. */
async function isWaitedFor(release: () => Promise<unknown>): Promise<boolean> {
  let isHeld = true;
  let work: Promise<boolean> | undefined;
  await new Promise<void>((resolve) => {
    work = locked(place, async () => isHeld, { onWait: resolve });
  });
  isHeld = false;
  await release();
  return (await work) === false;
}

it('one works at a time, and all do in the end', async () => {
  const order: string[] = [];
  const work = (name: string) =>
    locked(place, async () => {
      order.push(`${name} begins`);
      await new Promise((resolve) => setTimeout(resolve, 30));
      order.push(`${name} ends`);
      return name;
    });
  expect(await Promise.all([work('a'), work('b'), work('c')])).toEqual(['a', 'b', 'c']);
  for (let at = 0; at < order.length; at += 2) expect(order[at + 1]).toBe(order[at]?.replace('begins', 'ends'));
  expect(await readdir(path.dirname(place))).toEqual([]);
});

it('work that fails leaves nothing behind', async () => {
  await expect(locked(place, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(await readdir(path.dirname(place))).toEqual([]);
});

it('names this process while it works, and keeps clear of one that took over', async () => {
  await locked(place, async () => {
    expect(await readFile(place, 'utf8')).toMatch(new RegExp(`^${HOST}-${process.pid}-[0-9a-f]{8}$`));
    await writeFile(place, 'another');
  });
  expect(await readFile(place, 'utf8')).toBe('another');
});

describe('is taken over', () => {
  it('of a process that was killed, at once', async () => {
    const { pid, kill } = await living();
    await leave(`${HOST}-${pid}-${ID}`);
    expect(await isWaitedFor(kill)).toBe(true);
  });

  it.each([
    ['of this process itself, that it does not know', () => `${HOST}-${process.pid}-${ID}`, 0],
    ['of another machine, after a while', () => `${OTHER_HOST}-1-${ID}`, 120],
    ['that says nothing, after a while', () => '', 120],
  ])('%s', async (_, mark, ageS) => {
    await leave(mark(), ageS);
    let waited = false;
    const onWait = (): void => {
      waited = true;
    };
    expect(await locked(place, async () => 'done', { onWait })).toBe('done');
    expect(waited).toBe(false);
  });

  it('of a living process that has not been heard of for long: another has its number', async () => {
    const { pid } = await living();
    await leave(`${HOST}-${pid}-${ID}`, 120);
    expect(await locked(place, async () => 'done')).toBe('done');
  });
});

describe('is waited for', () => {
  it.each([
    ['of another machine', `${OTHER_HOST}-1-${ID}`],
    ['that is only being written', ''],
  ])('%s', async (_, mark) => {
    await leave(mark);
    expect(await isWaitedFor(() => rm(place))).toBe(true);
  });

  it('until somebody says to stop', async () => {
    await leave(`${OTHER_HOST}-1-${ID}`);
    const stopping = new AbortController();
    const onWait = (): void => stopping.abort(new Error('enough'));
    await expect(locked(place, async () => 'done', { onWait, signal: stopping.signal })).rejects.toThrow('enough');
  });
});

describe('a lock that is kept', () => {
  beforeEach(() => mkdir(path.dirname(place)));

  it("is one holder's until it is released, whoever asks", async () => {
    const first = await hold(place);
    expect(first.isHeld).toBe(true);
    expect(await hold(place)).toEqual({ isHeld: false, pid: process.pid });
    if (first.isHeld) await first.release();
    const second = await hold(place);
    expect(second.isHeld).toBe(true);
    if (second.isHeld) await second.release();
    expect(await readdir(path.dirname(place))).toEqual([]);
  });

  it('of a living process is not taken, of a killed one at once', async () => {
    const { pid, kill } = await living();
    await leave(`${HOST}-${pid}-${ID}`);
    expect(await hold(place)).toEqual({ isHeld: false, pid });
    await kill();
    const held = await hold(place);
    expect(held.isHeld).toBe(true);
    if (held.isHeld) await held.release();
  });

  it('of another machine is not known by a number, and free when it is old', async () => {
    await leave(`${OTHER_HOST}-1-${ID}`);
    expect(await hold(place)).toEqual({ isHeld: false, pid: undefined });
    await leave(`${OTHER_HOST}-1-${ID}`, 120);
    const held = await hold(place);
    expect(held.isHeld).toBe(true);
    if (held.isHeld) await held.release();
  });

  it('knows when another has taken it over, and leaves it to that one', async () => {
    const held = await hold(place);
    if (!held.isHeld) throw new Error('Expected a free lock');
    expect(await held.isOurs()).toBe(true);
    await leave(`${OTHER_HOST}-1-${ID}`);
    expect(await held.isOurs()).toBe(false);
    await held.release();
    expect(await readFile(place, 'utf8')).toBe(`${OTHER_HOST}-1-${ID}`);
  });
});
