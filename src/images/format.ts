/**
 * What a file is, by its first bytes. Names and media types that come with an upload are claims; a decoder is only ever chosen by content.
 */

export type Format = 'JPEG' | 'PNG' | 'WebP';

type Test = (start: string) => boolean;

const opens =
  (...magics: readonly string[]): Test =>
  (start) =>
    magics.some((magic) => start.startsWith(magic));

/** ISO media: a box whose brand is at byte 8. */
const branded =
  (...brands: readonly string[]): Test =>
  (start) =>
    start.startsWith('ftyp', 4) && brands.some((brand) => start.startsWith(brand, 8));

const isWebP: Test = (start) => start.startsWith('RIFF') && start.startsWith('WEBP', 8);

/** Text after a byte order mark and white space, in lower case. */
const text = (start: string) =>
  start
    .replace(/^\xef\xbb\xbf/, '')
    .trimStart()
    .toLowerCase();

const DECODED: readonly (readonly [Format, Test])[] = [
  ['JPEG', opens('\xff\xd8\xff')],
  ['PNG', opens('\x89PNG\r\n\x1a\n')],
  ['WebP', isWebP],
];

/** For the error message alone. */
const REFUSED: readonly (readonly [string, Test])[] = [
  ['a GIF', opens('GIF87a', 'GIF89a')],
  ['a TIFF', opens('II*\0', 'II+\0', 'MM\0*', 'MM\0+')],
  ['a BMP', (start) => start.startsWith('BM') && start.startsWith('\0\0\0\0', 6)],
  ['a PDF', opens('%PDF-')],
  ['an AVIF image', branded('avif', 'avis')],
  ['a HEIC image', branded('heic', 'heix', 'heim', 'heis', 'hevc', 'hevx', 'mif1', 'msf1')],
  ['a JPEG XL image', opens('\xff\x0a', '\0\0\0\x0cJXL ')],
  ['a JPEG 2000 image', opens('\xff\x4f\xff\x51', '\0\0\0\x0cjP  ')],
  ['an icon', opens('\0\0\x01\0')],
  ['an SVG', (start) => text(start).startsWith('<') && /<svg[\s>]/.test(text(start))],
  ['an XML or HTML document', (start) => /^<[!?a-z]/.test(text(start))],
];

/** Bytes that are looked at: an SVG may open with a long comment. */
const SNIFFED_BYTES = 1024;

/** The format if it is one that we decode; else `{refused}`: what it looks like, or null where it looks like no image at all. */
export function sniff(bytes: Uint8Array): Format | { readonly refused: string | null } {
  const start = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, SNIFFED_BYTES)).toString('latin1');
  const decoded = DECODED.find(([, test]) => test(start));
  if (decoded) return decoded[0];
  const refused = REFUSED.find(([, test]) => test(start));
  return { refused: refused?.[0] ?? null };
}
