/**
 * One process at a time does a piece of work, and the others wait. The file that says so names its process and is touched as long as the work goes
 * on: one whose process is gone, or that has not been touched for a while, is taken over, so that a kill leaves nothing for ever. Should two
 * take over one at the same instant, or one wake from a long sleep, both work: that costs a download, and no harm (hub/part.ts); who could do harm
 * asks `isOurs` before it writes. huggingface_hub's own locks are the system's, which Node does not have; these have other names and keep clear of them.
 */
import { link, mkdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { HOST, isAlive, MARK, newMark } from './owner.js';

const BEAT_MS = 5000;
/** Without a beat for so long. Clocks of machines that share a disk may differ by less. */
export const LEFT_MS = 60_000;
const POLL_MS = 250;

const HOLDER = new RegExp(`^${MARK}$`);

/** Those of this process. */
const own = new Set<string>();

export interface Waiting {
  /** Told once, where there is somebody to wait for. */
  readonly onWait?: () => void;
  /** Ends the waiting: its reason is thrown. */
  readonly signal?: AbortSignal;
}

/** Does the work when nobody else of those who use the same place does theirs. */
export async function locked<T>(place: string, work: () => Promise<T>, { onWait, signal }: Waiting = {}): Promise<T> {
  const mark = newMark();
  own.add(mark);
  try {
    await mkdir(dirname(place), { recursive: true });
    for (let asked = 0; !(await take(place, mark, create)); asked++) {
      if (asked === 0) onWait?.();
      await setTimeout(POLL_MS, undefined, { signal }).catch(() => signal?.throwIfAborted());
    }
    const beat = setInterval(() => void touch(place), BEAT_MS).unref();
    try {
      return await work();
    } finally {
      clearInterval(beat);
      if ((await holderOf(place)) === mark) await rm(place, { force: true });
    }
  } finally {
    own.delete(mark);
  }
}

/** A lock that is kept for as long as its process wants. */
export interface Held {
  readonly isHeld: true;
  /** False where this process slept for so long that another took it over. */
  isOurs(): Promise<boolean>;
  release(): Promise<void>;
}

/** Somebody else, as far as it can be known. */
export interface Holder {
  readonly isHeld: false;
  /** A process of this machine; undefined where it is another one's, or says nothing. */
  readonly pid: number | undefined;
}

/** Takes the lock where nobody has it, without waiting; or says who has. Its folder must exist. */
export async function hold(place: string): Promise<Held | Holder> {
  const mark = newMark();
  own.add(mark);
  const isOurs = async (): Promise<boolean> => (await holderOf(place)) === mark;
  try {
    if (!(await take(place, mark, createWhole))) {
      own.delete(mark);
      const { host, pid } = HOLDER.exec((await holderOf(place)) ?? '')?.groups ?? {};
      return { isHeld: false, pid: host === HOST ? Number(pid) : undefined };
    }
  } catch (error) {
    own.delete(mark);
    throw error;
  }
  // Never another's: it would seem to live for as long as we do.
  const beat = setInterval(() => void isOurs().then((ours) => (ours ? touch(place) : undefined)), BEAT_MS).unref();
  const release = async (): Promise<void> => {
    clearInterval(beat);
    if (await isOurs()) await rm(place, { force: true });
    own.delete(mark);
  };
  return { isHeld: true, isOurs, release };
}

/** Whether the place is ours now. */
async function take(place: string, mark: string, make: typeof create): Promise<boolean> {
  if (await make(place, mark)) return true;
  const holder = await holderOf(place);
  if (holder === undefined || !(await isLeft(place, holder))) return false;
  const aside = `${place}.${mark}`;
  try {
    await rename(place, aside);
  } catch {
    return false;
  }
  // Somebody may have been faster, and this be theirs, which goes back unless there is another by now.
  if ((await holderOf(aside)) !== holder) await link(aside, place).catch(() => undefined);
  await rm(aside, { force: true });
  return make(place, mark);
}

async function create(place: string, mark: string): Promise<boolean> {
  try {
    await writeFile(place, mark, { flag: 'wx' });
    return true;
  } catch (error) {
    if (isThere(error)) return false;
    throw error;
  }
}

/** In one step: a kill between the two of `create` leaves a lock that says nothing, and keeps everybody away for a while. */
async function createWhole(place: string, mark: string): Promise<boolean> {
  const whole = `${place}.${mark}`;
  try {
    await writeFile(whole, mark, { flag: 'wx' });
    await link(whole, place);
    return true;
  } catch (error) {
    // There are file systems without links of this kind.
    return isThere(error) ? false : await create(place, mark);
  } finally {
    await rm(whole, { force: true });
  }
}

function isThere(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EEXIST';
}

/** Undefined where there is none. */
async function holderOf(place: string): Promise<string | undefined> {
  return readFile(place, 'utf8').catch(() => undefined);
}

async function isLeft(place: string, holder: string): Promise<boolean> {
  const { host, pid } = HOLDER.exec(holder)?.groups ?? {};
  if (host === HOST && !own.has(holder) && !isAlive(Number(pid))) return true;
  const info = await stat(place).catch(() => undefined);
  return info !== undefined && Date.now() - info.mtimeMs > LEFT_MS;
}

async function touch(place: string): Promise<void> {
  await utimes(place, new Date(), new Date()).catch(() => undefined);
}
