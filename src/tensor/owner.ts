/**
 * Marks in the names of files that are being written: of which process they are. What a process that is gone has left can so be told from
 * what another one still writes, without a lock that somebody who was killed could leave behind.
 */
import { createHash, randomUUID } from 'node:crypto';
import { hostname } from 'node:os';

/** Nobody writes to what has not changed for this long: a line that sends nothing is given up long before. */
const IDLE_MS = 600_000;

/** This machine, whose processes can be asked whether they live; those of others (a shared disk, another container) cannot. */
export const HOST = createHash('sha256').update(hostname()).digest('hex').slice(0, 8);

/** A mark, as part of a regular expression with the groups `host` and `pid`. */
export const MARK = String.raw`(?<host>[0-9a-f]{8})-(?<pid>\d+)-[0-9a-f]{8}`;

/** One of this process, and of nothing else. */
export function newMark(): string {
  return `${HOST}-${process.pid}-${randomUUID().slice(0, 8)}`;
}

/** Whether nobody writes any more to what has this mark and changed then. What this process itself writes is for the caller to know. */
export function isAbandoned({ host, pid }: { readonly host?: string; readonly pid?: string }, changedMs: number): boolean {
  return Date.now() - changedMs > IDLE_MS || (host === HOST && !isAlive(Number(pid)));
}

/** Whether another process of this machine lives. */
export function isAlive(pid: number): boolean {
  // Of a process before this one that had its number.
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
