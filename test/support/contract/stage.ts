/** The servers that a description is held to: whole ones, and front ends without an engine behind them in the states that are hard to meet. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { pino } from 'pino';
import { type RunningServer, startServer } from '../../../src/cli/serve.js';
import { type ConfigKey, loadConfig } from '../../../src/config.js';
import { AppError, type ErrorCode } from '../../../src/errors.js';
import { Crowd } from '../../../src/fairness/crowd.js';
import { Finetuning } from '../../../src/finetuning/finetuning.js';
import { FolderPublisher } from '../../../src/finetuning/publisher.js';
import { Admission } from '../../../src/http/admission.js';
import { createApp } from '../../../src/http/app.js';
import { Catalogue } from '../../../src/http/catalogue.js';
import { Quotas } from '../../../src/http/quotas.js';
import type { Lifecycle, Services } from '../../../src/http/services.js';
import { Metrics } from '../../../src/metrics.js';
import { Quota, type Store } from '../../../src/tenants/quota.js';
import { NO_LIMITS, Tenant } from '../../../src/tenants/tenant.js';
import { OPEN, type Tenants } from '../../../src/tenants/tenants.js';
import { MockHub } from '../hub.js';
import { makeTinyFolder, tinyFlags } from '../server.js';

/** A key for the front end `locked`: not an operator's. */
export const TENANT_KEY = 'tenant';

/** All are one tenant, which has a request an hour. */
const SLOW: Tenants = {
  isOpen: false,
  authenticate: () => new Tenant({ name: 'tenant', limits: { ...NO_LIMITS, requestsPerSecond: 1 / 3600 } }),
};

function quotasOf(shared: Store | null): Quotas {
  return new Quotas(new Quota({ shared, failure: 'closed' }), new Metrics());
}

/** Fine-tuning whose folder another server still has. */
function waitingTuning(): Finetuning {
  const settings = {
    folder: 'nowhere',
    backbone: 'none',
    seesImages: true,
    maxTrainingBytes: 1,
    maxImageBytes: 1,
    maxImagePixels: 1,
    threads: 1,
    jobs: 1,
    env: {},
  };
  const nothing = () => undefined;
  const publisher = new FolderPublisher('nowhere', () => Promise.resolve());
  return new Finetuning(settings, publisher, { changed: nothing, stepped: nothing, ended: nothing, note: nothing });
}

const CONFIG = await loadConfig({ flags: {}, env: {}, folder: '.' });

/** A store in which nothing is, and to which nothing can be published for this reason. */
function lifecycleOf(code: ErrorCode): Pick<Services, 'lifecycle' | 'config'> {
  const publisher = { publish: () => Promise.reject(new AppError(code, 'Not now')) };
  const lifecycle = { store: { get: () => undefined }, publisher } as unknown as Lifecycle;
  return { lifecycle, config: { ...CONFIG, loraRoot: path.resolve('adapters') } };
}

const ready = {} as NonNullable<Services['engine']['info']>;

/**
 * `locked` asks for keys; `broken` has a defect that every route with a key meets; `loading` has no engine yet; `full` lets nobody wait; `stopping` is
 * shutting down; `bare` has no store; `limited` has a tenant whose requests are counted, and `uncounted` cannot count them.
 */
const FRONTS: Readonly<
  Record<'locked' | 'broken' | 'loading' | 'full' | 'stopping' | 'limited' | 'uncounted' | 'bare', () => Partial<Services>>
> = {
  locked: () => ({
    ...lifecycleOf('internal'),
    tenants: {
      isOpen: false,
      authenticate: (key) => {
        if (key === TENANT_KEY) return new Tenant({ name: 'tenant' });
        throw new AppError('invalid_api_key', 'Expected a key of this server but received another one or none');
      },
    },
  }),
  broken: () => ({
    tenants: {
      isOpen: false,
      authenticate: () => {
        throw new TypeError('a defect');
      },
    },
  }),
  loading: () => ({
    ...lifecycleOf('engine_unavailable'),
    admission: new Admission({ waiting: new Crowd(), info: null }, 1),
    finetuning: waitingTuning(),
  }),
  full: () => ({ ...lifecycleOf('queue_full'), admission: new Admission({ waiting: new Crowd(), info: ready }, 0) }),
  stopping: () => {
    const admission = new Admission({ waiting: new Crowd(), info: ready }, 1);
    admission.drain();
    const finetuning = waitingTuning();
    void finetuning.close();
    return { ...lifecycleOf('internal'), admission, finetuning };
  },
  limited: () => ({ tenants: SLOW }),
  bare: () => ({}),
  uncounted: () => ({
    tenants: SLOW,
    quotas: quotasOf({ use: () => Promise.reject(new Error('away')), close: () => undefined }),
  }),
};

type Front = keyof typeof FRONTS;

/** What routes are made of where nothing is computed. */
export function partsOf(parts: Partial<Services>): Services {
  const given: Partial<Services> = {
    config: CONFIG,
    lifecycle: null,
    backbone: 'none',
    template: null,
    quotas: quotasOf(null),
    finetuning: null,
    tenants: OPEN,
    admission: new Admission({ waiting: new Crowd(), info: null }, 1),
    catalogue: new Catalogue({ list: () => [], get: () => undefined, rescan: () => Promise.resolve() }, null),
    engine: { state: 'starting' } as Services['engine'],
    metrics: new Metrics(),
    log: pino({ level: 'silent' }),
    ...parts,
  };
  return given as Services;
}

/** `main` has all there is, and adapters `english`, `second` and `broken`; `tight` has no room for any adapter; front ends. */
type Name = 'main' | 'tight' | Front;

export class Stage {
  readonly #folder: string;
  readonly #hub: MockHub;
  readonly #main: RunningServer;
  readonly #tight: RunningServer;
  readonly #fronts: ReadonlyMap<Front, Server>;
  readonly #urls: ReadonlyMap<Name, string>;

  private constructor(folder: string, hub: MockHub, [main, tight]: [RunningServer, RunningServer], fronts: Map<Front, Server>) {
    this.#folder = folder;
    this.#hub = hub;
    this.#main = main;
    this.#tight = tight;
    this.#fronts = fronts;
    this.#urls = new Map<Name, string>([
      ['main', main.url],
      ['tight', tight.url],
      ...[...fronts].map(([name, server]) => [name, `http://127.0.0.1:${(server.address() as AddressInfo).port}`] as const),
    ]);
  }

  static async open(): Promise<Stage> {
    const folder = await makeTinyFolder(['english', 'second']);
    await mkdir(path.join(folder, 'adapters', 'broken'));
    await writeFile(path.join(folder, 'adapters', 'broken', 'adapter.json'), '{}');
    const hub = await MockHub.start({});
    hub.misbehaviour = (_request, response, asked) => {
      if (asked.includes('busy')) response.writeHead(429, { 'retry-after': '77' }).end();
      if (asked.includes('portal')) response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Sign in</html>');
      return true;
    };
    const start = (flags: Partial<Record<ConfigKey, string>>) => startTiny(folder, hub, flags);
    const servers = await Promise.all([
      start({
        maxImageBytes: '20KB',
        maxImagePixels: '10000',
        imageHosts: 'localhost:9',
        allowSources: 'hf://owner/model',
        sourceTimeoutMs: '2000',
        finetuning: path.join(folder, 'finetuning'),
        maxTrainingBytes: '8MB',
        store: path.join(folder, 'store'),
        maxAdapterBytes: '300KB',
        loraRoot: path.join(folder, 'adapters'),
      }),
      start({ adapterCacheBytes: '1', store: path.join(folder, 'tight'), loraRoot: path.join(folder, 'adapters') }),
    ]);
    const fronts = await Promise.all(
      (Object.keys(FRONTS) as Front[]).map(async (name) => [name, await listen(FRONTS[name]())] as const),
    );
    return new Stage(folder, hub, servers, new Map(fronts));
  }

  /** The URL of a route. */
  at(name: Name, route: string): string {
    return `${this.#urls.get(name)}${route}`;
  }

  /** An adapter of `main`, as it lies there. */
  adapter(name: string): string {
    return path.join(this.#folder, 'adapters', name);
  }

  /** The engine of `main`, to be killed. */
  get engine(): number {
    return this.#main.pids.engine as number;
  }

  async close(): Promise<void> {
    for (const server of this.#fronts.values()) server.close();
    await Promise.all([this.#main.close(), this.#tight.close(), this.#hub.stop()]);
    await rm(this.#folder, { recursive: true });
  }
}

async function startTiny(folder: string, hub: MockHub, flags: Partial<Record<ConfigKey, string>>): Promise<RunningServer> {
  const more = { diskCache: path.join(folder, 'disk'), maxTokens: '120', ...flags };
  const config = await loadConfig({ flags: { ...tinyFlags(folder), ...more }, env: {}, folder });
  const server = await startServer(config, { HF_ENDPOINT: hub.url, HF_HOME: folder });
  await server.ready;
  return server;
}

async function listen(parts: Partial<Services>): Promise<Server> {
  const server = createServer(createApp(partsOf(parts)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}
