/** How a command fails: one line for people, or a line a fault; the stack for who asks. */
import { AppError } from '../errors.js';

/** The status of commands whose 1 is an answer, as diff's is. */
export const TROUBLE = 2;

/** Tells what was thrown on stderr. */
export function tellFailure(error: unknown): void {
  const many = error instanceof AppError && error.faults && error.faults.length > 1;
  const lines = many
    ? [error.message.replace(`: ${error.faults.join('; ')}`, ''), ...error.faults.map((fault) => `  ${fault}`)]
    : [(error as Error).message];
  console.error(`graft: ${lines.join('\n')}`);
  if (process.env['GRAFT_DEBUG'] === '1') console.error(error);
}
