/** Ids as OpenAI's clients know them: what kind of thing it is, and a number that nobody can guess. */
import { randomUUID } from 'node:crypto';

const PREFIXES = { file: 'file', job: 'ftjob', event: 'ftevent' } as const;

export function newId(kind: keyof typeof PREFIXES): string {
  return `${PREFIXES[kind]}-${randomUUID().replaceAll('-', '')}`;
}
