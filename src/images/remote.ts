/**
 * Images behind URLs. A server that fetches what a stranger names is a way into its own network, so: only hosts that the operator lists; only
 * addresses of the public internet, all that a name resolves to, and the connection goes to the address that was looked at, not to what
 * the name means a moment later; again for every redirect; bytes and time bounded; nothing is decompressed.
 * What a client learns of a failure is the same whether a name does not exist, leads into a private network or does not answer.
 */
import { lookup } from 'node:dns/promises';
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIP } from 'node:net';
import { AppError } from '../errors.js';
import { isPublic } from './address.js';

const MAX_REDIRECTS = 3;
const MAX_URL_CHARACTERS = 2048;
const REDIRECTS = [301, 302, 303, 307, 308];
/** What stores send where nobody told them what a file is counts too: the decoder looks at the bytes anyway. */
const TYPES = /^(image\/(jpeg|jpg|png|webp)|(application|binary)\/octet-stream)$/;
const PORTS: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443 };
const param = 'image';

export interface RemoteOptions {
  /** Hosts that may be named: `images.example.com`, `*.example.com` (what is below it), with `:8443` where it is not the usual port. */
  readonly hosts: readonly string[];
  readonly maxBytes: number;
  /** From the first look at a name to the last byte. */
  readonly timeoutMs: number;
  /** All addresses of a name. The system's resolver unless told. */
  readonly resolve?: (host: string) => Promise<readonly string[]>;
  /** Which addresses may be connected to: those of the public internet unless told. */
  readonly isAllowed?: (address: string) => boolean;
}

/** Whether a text is meant as a URL to fetch. */
export function isUrl(text: string): boolean {
  return /^\s*https?:/i.test(text);
}

export class RemoteImages {
  readonly #options: Required<RemoteOptions>;

  constructor(options: RemoteOptions) {
    this.#options = { resolve: addressesOf, isAllowed: isPublic, ...options };
  }

  /**
   * The file behind a URL. Throws AppError: `image_url_refused` for a URL that is not to be fetched, `image_unavailable` where it
   * gives no image in time, `payload_too_large`; and what `signal` was aborted with.
   */
  async fetch(text: string, signal: AbortSignal): Promise<Uint8Array> {
    let url = this.#check(text);
    const attempt = new Attempt(this.#options.timeoutMs, signal);
    try {
      for (let redirects = 0; ; redirects++) {
        const reply = await this.#get(url, attempt);
        const next = REDIRECTS.includes(reply.statusCode ?? 0) ? reply.headers.location : undefined;
        if (next === undefined) return await this.#read(url, reply);
        reply.destroy();
        if (redirects === MAX_REDIRECTS) throw unavailable(nameOf(url.hostname), `more than ${MAX_REDIRECTS} redirects`);
        url = this.#follow(url, next);
      }
    } catch (error) {
      throw attempt.explain(error, url);
    } finally {
      attempt.end();
    }
  }

  #follow(from: URL, location: string): URL {
    const target = URL.canParse(location, from.href) ? new URL(location, from).href : location;
    const to = this.#check(target);
    if (from.protocol === 'https:' && to.protocol !== 'https:')
      throw refused('https after https', `a redirect to ${show(to.protocol)}`);
    return to;
  }

  /** What can be told from the text alone. */
  #check(text: string): URL {
    if (text.length > MAX_URL_CHARACTERS) throw refused(`at most ${MAX_URL_CHARACTERS} characters`, String(text.length));
    if (!URL.canParse(text)) throw refused('a URL', show(text));
    const url = new URL(text);
    if (!Object.hasOwn(PORTS, url.protocol)) throw refused('http or https', show(url.protocol));
    if (url.username !== '' || url.password !== '') throw refused('a URL without a name or password', 'one with');
    const port = url.port === '' ? '' : `:${url.port}`;
    const host = nameOf(url.hostname);
    if (!this.#options.hosts.some((pattern) => matches(pattern.toLowerCase(), host, port)))
      throw refused('a host that this server fetches from', show(host + port));
    return url;
  }

  async #get(url: URL, attempt: Attempt): Promise<IncomingMessage> {
    const { resolve, isAllowed } = this.#options;
    const host = nameOf(url.hostname);
    const literal = host.replace(/^\[|\]$/g, '');
    const addresses = isIP(literal) > 0 ? [literal] : await attempt.race(resolve(host));
    // One private address among public ones is an attempt, not an accident.
    if (addresses.length === 0 || !addresses.every(isAllowed)) throw unavailable(host);
    return attempt.race(open(url, addresses, attempt));
  }

  async #read(url: URL, reply: IncomingMessage): Promise<Uint8Array> {
    const { maxBytes } = this.#options;
    const { statusCode, headers } = reply;
    if (statusCode !== 200) throw unavailable(nameOf(url.hostname), `status ${statusCode}`);
    const type = headers['content-type']?.split(';')[0]?.trim().toLowerCase() ?? '';
    if (type !== '' && !TYPES.test(type)) throw unavailable(nameOf(url.hostname), show(type));
    const encoding = headers['content-encoding']?.trim().toLowerCase() ?? 'identity';
    if (encoding !== 'identity') throw unavailable(nameOf(url.hostname), `content encoded as ${show(encoding)}`);
    const announced = Number(headers['content-length'] ?? 0);
    if (announced > maxBytes) throw tooLarge(maxBytes, `${announced}`);
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of reply) {
      bytes += (chunk as Buffer).length;
      if (bytes > maxBytes) throw tooLarge(maxBytes, 'more');
      chunks.push(chunk as Buffer);
    }
    return Buffer.concat(chunks);
  }
}

/** The time that one fetch has, and what it has open: whatever ends it closes that. */
class Attempt {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #signal: AbortSignal;
  readonly #leave = (): void => this.#controller.abort(this.#signal.reason);

  constructor(timeoutMs: number, signal: AbortSignal) {
    this.#signal = signal;
    const late = new AppError('image_unavailable', `image: Expected an image within ${timeoutMs} ms but it took longer`, {
      param,
    });
    this.#timer = setTimeout(() => this.#controller.abort(late), timeoutMs);
    if (signal.aborted) this.#leave();
    else signal.addEventListener('abort', this.#leave, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The work's result, unless the attempt ends first: a resolver cannot be told to stop. */
  race<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const stop = (): void => reject(AppError.from(this.signal.reason));
      if (this.signal.aborted) stop();
      this.signal.addEventListener('abort', stop, { once: true });
      void work.then(resolve, reject).finally(() => this.signal.removeEventListener('abort', stop));
    });
  }

  /** What a failure at this URL means to the client. */
  explain(error: unknown, { hostname }: URL): unknown {
    if (this.signal.aborted) return this.signal.reason;
    return error instanceof AppError ? error : unavailable(nameOf(hostname), undefined, error);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#signal.removeEventListener('abort', this.#leave);
    // Also what is still open: a reply that nobody reads to its end.
    this.#controller.abort(new AppError('cancelled', 'The fetch is over'));
  }
}

/** Asks for the URL at the first of these addresses that answers, as the name's host. */
function open(url: URL, addresses: readonly string[], { signal }: Attempt): Promise<IncomingMessage> {
  const request = url.protocol === 'https:' ? requestHttps : requestHttp;
  const known = addresses.map((address) => ({ address, family: isIP(address) }));
  return new Promise((resolve, reject) => {
    const sent = request(
      url,
      {
        // No connection is kept: the next one is to be looked at again.
        agent: false,
        signal,
        headers: { accept: 'image/webp, image/png, image/jpeg', 'accept-encoding': 'identity', 'user-agent': 'graft' },
        // All of them, so that a machine without IPv6 goes on to the next; the first alone where Node is told not to try several.
        lookup: (_host, options, done) =>
          options.all
            ? done(null, known)
            : (done as (error: null, address?: string, family?: number) => void)(null, known[0]?.address, known[0]?.family),
      },
      resolve,
    );
    sent.on('error', reject);
    sent.end();
  });
}

async function addressesOf(host: string): Promise<string[]> {
  const found = await lookup(host, { all: true, verbatim: true });
  return found.map(({ address }) => address);
}

/** `example.com.` is `example.com`. */
function nameOf(hostname: string): string {
  return hostname.toLowerCase().replace(/\.$/, '');
}

function matches(pattern: string, host: string, port: string): boolean {
  const name = port !== '' && pattern.endsWith(port) ? pattern.slice(0, -port.length) : port === '' ? pattern : null;
  if (name === null) return false;
  return name.startsWith('*.') ? host.endsWith(name.slice(1)) && host.length > name.length - 1 : host === name;
}

function refused(expected: string, received: string): AppError {
  return new AppError('image_url_refused', `image: Expected ${expected} but received ${received}`, { param });
}

function unavailable(host: string, received?: string, cause?: unknown): AppError {
  const what = received === undefined ? 'it could not be fetched' : `received ${received}`;
  return new AppError('image_unavailable', `image: Expected an image at ${host} but ${what}`, { param, cause });
}

function tooLarge(maxBytes: number, received: string): AppError {
  return new AppError('payload_too_large', `image: Expected at most ${maxBytes} bytes but received ${received}`, { param });
}

function show(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}
