/**
 * Which line a request takes: directly to its host, or through the proxy that the environment names. Node's own fetch knows no proxies before
 * Node 24, so requests are those of undici, which is that fetch, as a package of its own.
 */
import { Agent, type Dispatcher, ProxyAgent } from 'undici';
import type { ProxySettings } from './settings.js';

const PORTS: Readonly<Record<string, string>> = { 'http:': '80', 'https:': '443' };

export class Lines {
  readonly #direct = new Agent();
  readonly #proxies: ReadonlyMap<string, Dispatcher>;
  readonly #except: string;

  constructor(proxy: ProxySettings | null = null) {
    const proxies = [
      ['http:', proxy?.http],
      ['https:', proxy?.https],
    ] as const;
    this.#proxies = new Map(proxies.flatMap(([protocol, uri]) => (uri ? [[protocol, new ProxyAgent(uri)] as const] : [])));
    this.#except = proxy?.except ?? '';
  }

  to(target: URL): Dispatcher {
    const proxy = this.#proxies.get(target.protocol);
    return proxy === undefined || isExcepted(target, this.#except) ? this.#direct : proxy;
  }
}

/** By the rules that curl and Python share: a name means the host and all below it, with a port only that one. */
export function isExcepted({ protocol, hostname, port }: URL, except: string): boolean {
  return except
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .some((entry) => {
      if (entry === '*') return true;
      const { host = '', only } = /^(?<host>\[.*\]|[^:]*|[^[]*)(?::(?<only>\d+))?$/.exec(entry)?.groups ?? {};
      const name = host.replace(/^\*?\./, '');
      const isHost = name !== '' && (hostname === name || hostname === `[${name}]` || hostname.endsWith(`.${name}`));
      return isHost && (only === undefined || only === (port || PORTS[protocol]));
    });
}
