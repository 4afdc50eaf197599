/**
 * Every sentence with which an image is refused. The client reads these and never the decoder's own text, which may quote memory or paths.
 */
import { AppError } from '../errors.js';
import type { Format } from './format.js';
import type { ImageLimits } from './protocol.js';

const EXPECTED = 'Expected a JPEG, PNG or WebP image';
const param = 'image';

export function unsupported(received: string): AppError {
  return new AppError('unsupported_image', `${EXPECTED} but received ${received}`, { param });
}

export function notAnImage(byteLength: number): AppError {
  const received = byteLength === 0 ? 'an empty file' : `${byteLength} bytes of something else`;
  return new AppError('invalid_image', `${EXPECTED} but received ${received}`, { param });
}

export function damaged(format: Format): AppError {
  return new AppError('invalid_image', `Expected a complete ${format} image but received one that is damaged or cut short`, {
    param,
  });
}

export function tooLarge(size: { width: number; height: number; pages: number }, limits: ImageLimits): AppError {
  const { width, height, pages } = size;
  const frames = pages > 1 ? ` × ${pages} frames` : '';
  const received = `${width * height * pages} (${width} × ${height}${frames})`;
  return new AppError('image_too_large', `Expected at most ${limits.maxPixels} pixels but received ${received}`, { param });
}

export function tooLong(size: { width: number; height: number }, maxEdge: number): AppError {
  const received = `${size.width} × ${size.height}`;
  return new AppError('image_too_large', `Expected at most ${maxEdge} pixels along an edge but received ${received}`, { param });
}

export function tooSlow(limits: ImageLimits): AppError {
  return new AppError('invalid_image', `Expected an image that decodes within ${limits.timeoutMs} ms but it took longer`, {
    param,
  });
}

/** Why a file is no image that can be used; undefined for what is not the file's fault. For tools that go on with other images. */
export function imageFault(error: unknown): string | undefined {
  if (error instanceof AppError && ['invalid_image', 'unsupported_image', 'image_too_large'].includes(error.code))
    return error.message;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return ['ENOENT', 'EACCES', 'EISDIR', 'ENOTDIR', 'ELOOP'].includes(code)
    ? `Expected a readable image file but received ${code}`
    : undefined;
}
