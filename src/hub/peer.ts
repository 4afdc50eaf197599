/** Other processes that use the same cache: on this machine they can be asked whether they live, on others (a shared disk, a container) not. */
import { createHash } from 'node:crypto';
import { hostname } from 'node:os';

/** This machine's name, as it may stand in a file's. */
export const HOST = createHash('sha256').update(hostname()).digest('hex').slice(0, 8);

/** Whether another process of this machine lives. */
export function isAlive(pid: number): boolean {
  // Not another: who asks knows all that this process itself has in use.
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
