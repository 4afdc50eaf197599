/**
 * What S3 answers to ListObjectsV2, as far as it is needed. Its XML has neither attributes that matter nor comments, and the same names at the
 * same places in every implementation, so that it is read without a parser of all of XML: less for a hostile server to play with.
 */
import { AppError } from '../errors.js';
import type { SourceFile } from './source.js';

export interface Listing {
  /** Paths are whole keys. */
  readonly files: readonly SourceFile[];
  /** What asks for the next page. */
  readonly next: string | undefined;
}

/** It becomes a header. */
const ETAG = /^[!#-~]{1,256}$/;

/** Throws `download_failed` for anything else. */
export function parseListing(xml: string): Listing {
  const root = element(xml, 'ListBucketResult');
  if (root === undefined) throw strange(xml);
  const files = [...root.matchAll(/<Contents>(.*?)<\/Contents>/gs)].map(([, entry = '']) => {
    const [key, size, etag] = ['Key', 'Size', 'ETag'].map((name) => element(entry, name));
    const file = { path: decode(key ?? ''), bytes: Number(size), etag: plainEtag(decode(etag ?? '')) };
    if (key === undefined || !/^\d{1,15}$/.test(size ?? '') || !ETAG.test(file.etag)) throw strange(entry);
    return file;
  });
  const isCut = element(root, 'IsTruncated') === 'true';
  const next = isCut ? element(root, 'NextContinuationToken') : undefined;
  if (isCut && !next) throw strange('a list that goes on, without a way to go on');
  return { files, next: next && decode(next) };
}

/** The code of S3's error, such as `NoSuchKey`; undefined where the answer is none. */
export function errorCode(xml: string): string | undefined {
  const code = element(element(xml, 'Error') ?? '', 'Code');
  return code !== undefined && /^[A-Za-z]{1,64}$/.test(code) ? code : undefined;
}

/** Without quotation marks and the mark of a weak one, which proxies change. */
export function plainEtag(etag: string): string {
  return etag.replace(/^W\//, '').replace(/^"(.*)"$/, '$1');
}

/** The text inside of the first element of a name. */
function element(xml: string, name: string): string | undefined {
  return new RegExp(`<${name}(?:\\s[^>]*)?>(.*?)</${name}>`, 's').exec(xml)?.[1];
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function decode(text: string): string {
  return text.replace(/&(?:#x([0-9a-f]{1,6})|#(\d{1,7})|(\w+));/gi, (whole, hex?: string, decimal?: string, name?: string) => {
    const point = hex === undefined ? Number(decimal) : Number.parseInt(hex, 16);
    if (name !== undefined) return ENTITIES[name] ?? whole;
    return point <= 0x10ffff ? String.fromCodePoint(point) : whole;
  });
}

function strange(received: string): AppError {
  return new AppError(
    'download_failed',
    `Expected a list of objects from S3 but received ${JSON.stringify(received.slice(0, 200))}`,
  );
}
