/** The image of a request as a file's bytes: they are in the request, or behind a URL. */
import { AppError } from '../errors.js';
import { isUrl } from '../images/remote.js';
import { imageBytes } from './base64.js';
import type { Services } from './services.js';

/** Throws AppError as `imageBytes` and `RemoteImages.fetch` do. */
export async function pictureBytes(
  { config, remoteImages }: Pick<Services, 'config' | 'remoteImages'>,
  image: string | Uint8Array,
  signal: AbortSignal,
): Promise<Uint8Array> {
  if (typeof image !== 'string' || !isUrl(image)) return imageBytes(image, config.maxImageBytes);
  if (remoteImages === null)
    throw new AppError(
      'image_url_refused',
      'image: Expected base64 or a data URI but received a URL, and this server fetches none (its operator lists hosts with --image-hosts)',
      { param: 'image' },
    );
  return remoteImages.fetch(image, signal);
}
