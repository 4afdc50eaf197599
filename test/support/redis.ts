/** A real redis-server in a process of its own, that keeps nothing on the disk and can be killed and started again at the same address. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';

/** Of Debian's package redis-server. */
const REDIS = 'redis-server';

export const hasRedis = spawnSync(REDIS, ['--version']).status === 0;
/** The reason that a skipped suite shows. */
export const withRedis = hasRedis ? '' : ' (skipped: redis-server is not installed)';

export class TestRedis {
  readonly #port: number;
  readonly #options: readonly string[];
  #child: ChildProcess | undefined;

  private constructor(port: number, options: readonly string[]) {
    this.#port = port;
    this.#options = options;
  }

  /** `options`: as on its command line, such as `--requirepass`, `secret`. */
  static async start(...options: string[]): Promise<TestRedis> {
    const redis = new TestRedis(await freePort(), options);
    await redis.start();
    return redis;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.#port}`;
  }

  /** Resolves when it takes connections. */
  async start(): Promise<void> {
    const args = ['--port', String(this.#port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', tmpdir()];
    const child = spawn(REDIS, [...args, ...this.#options], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#child = child;
    let printed = '';
    for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
      printed += String(chunk);
      if (printed.includes('Ready to accept connections')) break;
    }
    if (!printed.includes('Ready to accept connections')) throw new Error(`Expected a redis-server but it printed ${printed}`);
    child.stdout.resume();
  }

  /** As a crash does. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  /** It is there and does not answer, until `resume`. */
  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
