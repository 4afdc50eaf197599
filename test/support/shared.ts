/** The real material beside the checkout (weights, photos, golden outputs). It is never shipped: tests that need it skip where it is absent. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const DATA = fileURLToPath(new URL('../../../shared/data/', import.meta.url));

export const hasShared = existsSync(DATA);

/** The reason that a skipped suite shows. */
export const withShared = hasShared ? '' : ' (skipped: ../shared/data is not beside the checkout)';

export function shared(path: string): string {
  return `${DATA}${path}`;
}

/** The committed pairing file of the two real checkpoints. */
export const realBackbone = fileURLToPath(new URL('../real/backbone.json', import.meta.url));
