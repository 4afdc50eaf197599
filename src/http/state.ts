/** A name of the store as replies show it. */
import type { Request } from 'express';
import type { Entry } from '../store/entry.js';

/** A name's versions, and which of them serves. */
export function stateOf({ versions, current, split, shadow, pinned }: Entry): object {
  return {
    versions: versions.map(({ version, digest, bytes, createdMs }) => ({
      version,
      digest,
      bytes,
      created_at: seconds(createdMs),
    })),
    current,
    split: split.length > 0 ? Object.fromEntries(split.map(({ version, percent }) => [version, percent])) : null,
    shadow,
    pinned,
  };
}

/** The name in the path of a request, slashes and all. */
export function nameIn(req: Request): string {
  return [req.params['name'] ?? []].flat().join('/');
}

export function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}
