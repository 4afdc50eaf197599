/** Ids as OpenAI's clients know them: what kind of thing it is, and a number that nobody can guess. One becomes a path only in this form. */
import { randomUUID } from 'node:crypto';

const PREFIXES = { file: 'file', job: 'ftjob', event: 'ftevent' } as const;
type Kind = keyof typeof PREFIXES;

export function newId(kind: Kind): string {
  return `${PREFIXES[kind]}-${randomUUID().replaceAll('-', '')}`;
}

export function isId(kind: Kind, text: string): boolean {
  return new RegExp(`^${PREFIXES[kind]}-[0-9a-f]{32}$`).test(text);
}
