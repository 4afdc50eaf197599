/** Reads a running server over HTTP: its metrics, its adapters and whether it is ready. Whatever is wrong becomes one sentence. */
import { AppError } from '../../errors.js';
import { Exposition } from './exposition.js';
import type { ListedAdapter, Reading } from './figures.js';

const TIMEOUT_MS = 5_000;

export class Reader {
  readonly url: string;
  readonly #headers: Readonly<Record<string, string>>;

  /** Throws `invalid_config` for what is no address. */
  constructor(url: string, key: string | undefined) {
    if (!/^https?:\/\//.test(url) || !URL.canParse(url))
      throw new AppError('invalid_config', `--url: Expected http://HOST:PORT but received ${JSON.stringify(url)}`);
    this.url = url.replace(/\/+$/, '');
    this.#headers = key ? { authorization: `Bearer ${key}` } : {};
  }

  /** Throws AppError where the server is away, or does not show its metrics to this key. */
  async read(): Promise<Reading> {
    const [metrics, adapters, ready] = await Promise.all([
      this.#get('/metrics'),
      this.#get('/v1/adapters'),
      this.#get('/health/ready'),
    ]);
    const text = await this.#textOf(metrics);
    const atMs = performance.now();
    const { data } = JSON.parse(await this.#textOf(adapters)) as { data: readonly ListedAdapter[] };
    const { backbone, reason } = (await ready.json()) as { backbone?: string; reason?: string };
    return {
      atMs,
      exposition: new Exposition(text),
      adapters: data,
      backbone: backbone ?? null,
      unready: ready.ok ? null : (reason ?? 'not ready'),
    };
  }

  async #get(path: string): Promise<Response> {
    try {
      return await fetch(`${this.url}${path}`, { headers: this.#headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
    } catch (error) {
      const { name, cause, message } = error as Error & { cause?: { code?: string } };
      const reason = name === 'TimeoutError' ? `it did not answer in ${TIMEOUT_MS / 1000} s` : (cause?.code ?? message);
      throw new AppError('engine_unavailable', `Expected a server at ${this.url} but ${reason}`);
    }
  }

  async #textOf(response: Response): Promise<string> {
    if (response.ok) return response.text();
    await response.body?.cancel();
    const path = new URL(response.url).pathname;
    if (response.status === 401)
      throw new AppError(
        'invalid_api_key',
        `Expected a key that ${this.url} knows (--key or GRAFT_KEY) but it refused the one given`,
      );
    if (response.status === 404 && path === '/metrics')
      throw new AppError('not_found', 'Expected a key of an operator (admin: true): the metrics are about all tenants');
    throw new AppError('engine_unavailable', `Expected ${path} to answer with 200 but received ${response.status}`);
  }
}
