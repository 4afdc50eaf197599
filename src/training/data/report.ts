/** What is said of the rows that cannot be used: a few of them to a person who trains on the others, all of them in a refusal. */
import { AppError } from '../../errors.js';
import type { BadRow } from './example.js';

/** Several lines of text, the first `limit` rows among them; `rows`, where it is known, is how many there are, good and bad. */
export function describeBadRows(bad: readonly BadRow[], limit = 20, rows?: number): string {
  const named = bad.slice(0, limit).map(({ origin, reason }) => `  ${origin}  ${reason}`);
  const rest = bad.length - named.length;
  if (rest > 0) named.push(`  ... and ${rest} more`);
  return [`${headline(bad, rows)}${named.length > 0 ? ':' : ''}`, ...named].join('\n');
}

/** Throws AppError `invalid_data` that names every bad row, where there is one. */
export function refuseBadRows(bad: readonly BadRow[]): void {
  if (bad.length === 0) return;
  const faults = bad.map(({ origin, reason }) => `${origin} ${reason}`);
  throw AppError.ofFaults('invalid_data', headline(bad), faults);
}

function headline({ length }: readonly BadRow[], rows?: number): string {
  return `${length}${rows === undefined ? '' : ` of ${rows}`} ${(rows ?? length) === 1 ? 'row' : 'rows'} cannot be used`;
}
