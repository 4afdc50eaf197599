/**
 * An adapter in a bucket of S3, or of anything that speaks its language. Requests are signed and never redirected: the keys go to one endpoint.
 * S3 has no hash that can be relied on (an etag is one of some objects only), but an etag changes with its object: what was listed is asked for
 * by its etag, and what comes must have it, for there are servers that do not look at the condition.
 */
import { AwsV4Signer } from 'aws4fetch';
import { AppError } from '../errors.js';
import { readText, unreachable, within } from '../hub/line.js';
import { type Patience, retryAfterMs, retrying, Transient } from '../hub/retry.js';
import type { S3Settings } from './account.js';
import { errorCode, parseListing, plainEtag } from './listing.js';
import type { S3Place } from './place.js';
import { Changed, chooseFiles, type Source, type SourceFile, type SourceVersion, versionId } from './source.js';

const ANSWER_TIMEOUT_MS = 60_000;
const MAX_ANSWER_BYTES = 8 * 1024 ** 2;
const MAX_ERROR_BYTES = 64 * 1024;
/** Of a thousand keys each: what has more is no adapter. */
const MAX_PAGES = 10;
/** Keys are not those of an account that may, or are out of date. */
const REFUSED =
  /^(AccessDenied|AllAccessDisabled|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|RequestTimeTooSkewed)$/;

export interface S3Options {
  readonly maxBytes: number;
  /** Keys of a page of the list; S3 takes at most a thousand. */
  readonly pageSize?: number;
}

export function s3Source(place: S3Place, settings: S3Settings, { maxBytes, pageSize }: S3Options): Source {
  const bucket = new Bucket(place, settings);
  const start = place.folder === '' ? '' : `${place.folder}/`;
  const version = async (patience: Patience): Promise<SourceVersion> => {
    const listed = await bucket.list(start, pageSize, patience);
    // Consoles mark folders with empty objects whose keys end with a slash.
    const below = listed
      .filter(({ path }) => !path.endsWith('/'))
      .map((file) => ({ ...file, path: file.path.slice(start.length) }));
    const files = chooseFiles(place.text, below, maxBytes);
    return {
      id: versionId([bucket.address, start], files),
      files,
      isHashed: false,
      open: (file, offset, signal) => bucket.open(start + file.path, file, offset, signal),
    };
  };
  return { kind: 's3', key: `${place.text} ${bucket.address}`, isPinned: false, isOffline: false, version };
}

/** As it is signed, for not every server makes both alike before it compares. */
function encode(name: string): string {
  return encodeURIComponent(name).replace(/[!'()*]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`);
}

class Bucket {
  readonly #place: S3Place;
  readonly #settings: S3Settings;
  /** Without a slash at its end. */
  readonly address: string;

  constructor(place: S3Place, settings: S3Settings) {
    this.#place = place;
    this.#settings = settings;
    const { bucket } = place;
    const { endpoint, region } = settings;
    // No certificate of Amazon's covers a bucket's name with dots.
    if (endpoint === null && !bucket.includes('.')) this.address = `https://${bucket}.s3.${region}.amazonaws.com`;
    else this.address = `${endpoint ?? `https://s3.${region}.amazonaws.com`}/${bucket}`;
  }

  /** All objects whose keys begin so. */
  async list(prefix: string, pageSize: number | undefined, patience: Patience): Promise<SourceFile[]> {
    const files: SourceFile[] = [];
    let token: string | undefined;
    for (let page = 0; page === 0 || token !== undefined; page++) {
      if (page === MAX_PAGES)
        throw new AppError('adapter_invalid', `Expected ${this.#place.text} to have fewer files than ${files.length}`);
      const query = new URLSearchParams({ 'list-type': '2', prefix });
      if (pageSize !== undefined) query.set('max-keys', String(pageSize));
      if (token !== undefined) query.set('continuation-token', token);
      const listing = parseListing(await this.#ask(new URL(`${this.address}?${String(query).replaceAll('+', '%20')}`), patience));
      files.push(...listing.files);
      token = listing.next;
    }
    return files;
  }

  async open(key: string, { etag }: SourceFile, start: number, signal: AbortSignal): Promise<Response> {
    const path = key.split('/').map(encode).join('/');
    const headers = { 'if-match': `"${etag}"`, ...(start > 0 ? { range: `bytes=${start}-` } : {}) };
    const response = await this.#request(new URL(`${this.address}/${path}`), headers, signal);
    if (response.ok && plainEtag(response.headers.get('etag') ?? '') === etag) return response;
    if (response.ok || [404, 412, 416].includes(response.status)) {
      void response.body?.cancel().catch(() => undefined);
      throw new Changed(`Expected ${key} to be as it was listed (etag ${etag}) but it is there no more`);
    }
    throw await this.#refusal(response, signal);
  }

  #ask(url: URL, patience: Patience): Promise<string> {
    const once = async (signal: AbortSignal): Promise<string> => {
      const response = await this.#request(url, {}, signal);
      if (response.ok) return readText(response, MAX_ANSWER_BYTES, signal);
      throw await this.#refusal(response, signal);
    };
    return retrying(() => within(ANSWER_TIMEOUT_MS, patience.signal, once), patience);
  }

  async #request(url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    const signed = await this.#sign(url);
    for (const [name, value] of Object.entries({ ...headers, 'accept-encoding': 'identity', 'user-agent': 'graft' }))
      signed.headers.set(name, value);
    return fetch(signed.url, { headers: signed.headers, redirect: 'manual', signal }).catch((error: unknown) => {
      throw unreachable(url, error);
    });
  }

  /** Only what S3 asks for is signed: there are proxies that change other headers. */
  async #sign(url: URL): Promise<{ readonly url: URL; readonly headers: Headers }> {
    const { region, keys } = this.#settings;
    if (keys === null) return { url, headers: new Headers() };
    return new AwsV4Signer({ method: 'GET', url: url.href, service: 's3', region, ...keys }).sign();
  }

  async #refusal(response: Response, signal: AbortSignal): Promise<Error> {
    const { status, headers } = response;
    const code = errorCode(await readText(response, MAX_ERROR_BYTES, signal).catch(() => ''));
    const answer = `${new URL(this.address).host} answered with ${status}${code === undefined ? '' : ` ${code}`}`;
    const { text, bucket } = this.#place;
    if (status === 429 || status === 408 || status >= 500) return new Transient(answer, retryAfterMs(headers.get('retry-after')));
    if (status === 404) return new AppError('not_found', `Expected ${text} to be there but ${answer}`);
    if (status === 401 || status === 403 || (code !== undefined && REFUSED.test(code))) {
      const next = this.#settings.keys === null ? 'no AWS_ACCESS_KEY_ID is set' : 'the keys in the environment may not read it';
      return new AppError('invalid_config', `Expected to read ${text} but ${answer}: ${next}`);
    }
    const region = headers.get('x-amz-bucket-region');
    if (region !== null && region !== this.#settings.region)
      return new AppError(
        'invalid_config',
        `Expected AWS_REGION to be that of ${bucket}, ${region}, but received ${this.#settings.region}`,
      );
    return new AppError('download_failed', `Expected an object of ${text} but ${answer}`);
  }
}
