/**
 * The image process: decodes what it is sent, answers in any order. How much it is given at once is the client's to bound.
 * Nothing that it holds is worth keeping: it may be killed at any time.
 */
import { AppError } from '../errors.js';
import { serveParent } from '../runtime/parent.js';
import type { DecodeCommand, ImageEvent } from './protocol.js';

// Loaded here and not above, so that a decoder that is missing on this platform is reported instead of being a crash without end.
const decoder = Promise.all([import('./decode.js'), import('sharp')]);

const parent = serveParent<DecodeCommand, ImageEvent>(async ({ id, bytes, recipe, limits }) => {
  const [{ decodePixels }] = await decoder;
  try {
    parent.send({ type: 'decoded', id, pixels: await decodePixels(bytes, recipe, limits) });
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
