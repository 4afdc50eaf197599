/**
 * The image process: decodes what it is sent, answers in any order. How much it is given at once is the client's to bound.
 * Nothing that it holds is worth keeping: it may be killed at any time.
 */
import { AppError } from '../errors.js';
import { serveParent } from '../runtime/parent.js';
import type { ImageCommand, ImageEvent } from './protocol.js';

// Loaded here and not above, so that a decoder that is missing on this platform is reported instead of being a crash without end.
const decoder = Promise.all([import('./decode.js'), import('sharp')]);

/** Beginnings of images whose ends are on their way. */
const parts = new Map<number, Uint8Array[]>();

const parent = serveParent<ImageCommand, ImageEvent>(async (command) => {
  const { id, bytes } = command;
  const before = parts.get(id) ?? [];
  if (command.type === 'part') {
    parts.set(id, [...before, bytes]);
    return;
  }
  parts.delete(id);
  const [{ decodePixels }] = await decoder;
  try {
    const whole = before.length > 0 ? Buffer.concat([...before, bytes]) : bytes;
    parent.send({ type: 'decoded', id, pixels: await decodePixels(whole, command.recipe, command.limits) });
  } catch (error) {
    parent.send({ type: 'failed', id, error: AppError.from(error).toData() });
  }
});

try {
  const [, { default: sharp }] = await decoder;
  // One thread an image: several are under way at once, and a cache of operations would never see the same bytes twice.
  sharp.concurrency(1);
  sharp.cache(false);
  parent.send({ type: 'ready' });
} catch (error) {
  const reason = error instanceof Error ? error.message : String(error);
  parent.fatal(new AppError('images_unavailable', `Expected sharp to load but it failed: ${reason}`));
}
