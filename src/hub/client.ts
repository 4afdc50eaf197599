/**
 * The hub's HTTP interface: which commit a revision is, which files it has, and their bytes. Redirects are followed here, not by fetch, so that
 * the token goes to the hub's own origin and to nobody that it sends us to. Answers are checked before they mean anything.
 */
import { fetch, type Response } from 'undici';
import { z } from 'zod';
import { AppError } from '../errors.js';
import { quote } from '../tensor/json.js';
import { readText, unreachable, within } from './line.js';
import { Lines } from './proxy.js';
import { COMMIT, isPlainPath, type Reference, repositoryOf } from './reference.js';
import { type Patience, retryAfterMs, retrying, Transient } from './retry.js';
import type { HubSettings } from './settings.js';

const MAX_REDIRECTS = 8;
const MAX_ANSWER_BYTES = 32 * 1024 ** 2;
const MAX_PAGES = 200;
/** Of an answer that is none, in its refusal. */
const SHOWN_CHARACTERS = 40;
const ANSWER_TIMEOUT_MS = 60_000;
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];
const ADVICE = '; HF_HUB_OFFLINE=1 takes what is in the cache';

export interface HubFile {
  /** With slashes, inside of the repository. */
  readonly path: string;
  readonly bytes: number;
  /** The content's name in the cache: its sha-256, or of what git itself holds, git's own hash. */
  readonly etag: string;
}

const HASH = z.string().regex(COMMIT);
const SIZE = z.int().nonnegative();
const REVISION = z.object({ sha: HASH });
const TREE = z.array(
  z.discriminatedUnion('type', [
    z.object({
      type: z.literal('file'),
      path: z.string().min(1).max(1024),
      oid: HASH,
      size: SIZE,
      lfs: z.object({ oid: z.string().regex(/^[0-9a-f]{64}$/), size: SIZE }).nullish(),
    }),
    z.object({ type: z.enum(['directory', 'commit']) }),
  ]),
);

export class HubClient {
  readonly patience: Patience;
  readonly #settings: HubSettings;
  readonly #origin: string;
  readonly #lines: Lines;

  constructor(settings: HubSettings, patience: Patience = {}) {
    this.#settings = settings;
    this.#origin = new URL(settings.endpoint).origin;
    this.#lines = new Lines(settings.proxy);
    this.patience = patience;
  }

  /** The commit that the reference's revision is now. */
  async commit(reference: Reference): Promise<string> {
    const { body } = await this.#ask(reference, `${this.#api(reference)}/revision/${encodeURIComponent(reference.revision)}`);
    return checked(REVISION, body, 'a revision').sha;
  }

  /** Every file of a commit. */
  async files(reference: Reference, commit: string): Promise<HubFile[]> {
    const files: HubFile[] = [];
    let url: string | undefined = `${this.#api(reference)}/tree/${commit}?recursive=true`;
    for (let page = 0; url !== undefined; page++) {
      if (page === MAX_PAGES) throw strange(`Expected at most ${MAX_PAGES} pages of files but received more`);
      const answer: Answer = await this.#ask(reference, url);
      for (const entry of checked(TREE, answer.body, 'a list of files')) {
        if (entry.type !== 'file') continue;
        const { path, oid, size, lfs } = entry;
        files.push({ path, bytes: lfs?.size ?? size, etag: lfs?.oid ?? oid });
      }
      url = answer.next;
    }
    return files;
  }

  /** The file's bytes from `start` on, or all where the server does not do parts. Throws Transient for what may pass. */
  async open(reference: Reference, commit: string, path: string, start: number, signal: AbortSignal): Promise<Response> {
    if (!isPlainPath(path)) throw new RangeError(`Expected a plain path but received ${JSON.stringify(path)}`);
    const name = path.split('/').map(encodeURIComponent).join('/');
    const url = `${this.#settings.endpoint}/${repositoryOf(reference)}/resolve/${commit}/${name}`;
    const headers = { 'accept-encoding': 'identity', ...(start > 0 ? { range: `bytes=${start}-` } : {}) };
    return this.#request(reference, url, headers, signal);
  }

  #api(reference: Reference): string {
    return `${this.#settings.endpoint}/api/models/${repositoryOf(reference)}`;
  }

  #ask(reference: Reference, url: string): Promise<Answer> {
    const once = async (signal: AbortSignal): Promise<Answer> => {
      const response = await this.#request(reference, url, { accept: 'application/json' }, signal);
      const next = /<([^>]*)>\s*;\s*rel="?next"?/.exec(response.headers.get('link') ?? '')?.[1];
      return { body: await readJson(response, signal), next: next === undefined ? undefined : new URL(next, url).href };
    };
    return retrying(() => within(ANSWER_TIMEOUT_MS, this.patience.signal, once), this.patience);
  }

  async #request(reference: Reference, url: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    const { token } = this.#settings;
    let target = new URL(url);
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      const isHub = target.origin === this.#origin;
      const response = await fetch(target, {
        dispatcher: this.#lines.to(target),
        redirect: 'manual',
        signal,
        headers: { ...headers, 'user-agent': 'graft', ...(isHub && token !== null ? { authorization: `Bearer ${token}` } : {}) },
      }).catch((error: unknown) => {
        throw unreachable(target, error, ADVICE);
      });
      if (response.ok) return response;
      await response.body?.cancel();
      const location = response.headers.get('location');
      if (!REDIRECTS.includes(response.status) || location === null) throw this.#refusal(reference, target, response);
      target = this.#follow(location, target);
    }
    throw strange(`Expected at most ${MAX_REDIRECTS} redirects from ${this.#origin} but received more`);
  }

  /** A redirect may lead anywhere on the web, but not from an encrypted line to a plain one. */
  #follow(location: string, from: URL): URL {
    const target = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
    if (target?.protocol === 'https:' || (target?.protocol === 'http:' && from.protocol === 'http:')) return target;
    throw strange(
      `Expected ${from.host} to redirect to a web address but received ${target?.protocol ?? JSON.stringify(location)}`,
    );
  }

  #refusal(reference: Reference, target: URL, { status, headers }: Response): Error {
    const repository = repositoryOf(reference);
    const page = `${this.#settings.endpoint}/${repository}`;
    const reason = headers.get('x-error-code');
    if (status === 429 || status === 408 || status >= 500)
      return new Transient(`${target.host} answered with ${status}`, retryAfterMs(headers.get('retry-after')));
    if (status === 404) {
      const what = reason === 'RevisionNotFound' ? `revision ${reference.revision} of ${repository}` : repository;
      return new AppError('not_found', `Expected ${what} to be at ${this.#settings.endpoint} but it is not`);
    }
    if (status !== 401 && status !== 403)
      return strange(`Expected a file of ${repository} from ${target.host} but received status ${status}`);
    if (target.origin !== this.#origin)
      return strange(
        `Expected a file of ${repository} from ${target.host} but it refused (${status}): the link that the hub gave may have expired`,
      );
    const next =
      this.#settings.token === null
        ? 'set HF_TOKEN to a token of an account that may read it'
        : 'the token of HF_TOKEN (or of the login) is not of an account that may read it';
    const why =
      reason === 'GatedRepo'
        ? `${repository} is gated: its terms must be accepted at ${page}`
        : `${repository} is private, gated or not there`;
    return new AppError('invalid_config', `${why}; ${next} (the hub answered with ${status})`);
  }
}

interface Answer {
  readonly body: unknown;
  /** Where the list goes on. */
  readonly next: string | undefined;
}

async function readJson(response: Response, signal: AbortSignal): Promise<unknown> {
  const text = await readText(response, MAX_ANSWER_BYTES, signal);
  try {
    return JSON.parse(text);
  } catch (cause) {
    const { host, pathname } = new URL(response.url);
    throw strange(`Expected JSON from ${host}${pathname} but received ${quote(text.slice(0, SHOWN_CHARACTERS))}`, cause);
  }
}

function checked<T>(schema: z.ZodType<T>, body: unknown, expected: string): T {
  const { success, data, error } = schema.safeParse(body);
  if (success) return data;
  const [issue] = error.issues;
  throw strange(`Expected ${expected} from the hub but received ${issue?.path.join('.')}: ${issue?.message}`);
}

function strange(message: string, cause?: unknown): AppError {
  return new AppError('download_failed', message, { cause });
}
