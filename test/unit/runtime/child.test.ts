import { fork, spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type ChildOptions, SupervisedChild } from '../../../src/runtime/child.js';
import type { Command, Event } from '../../fixtures/runtime/child.js';

const fixture = (name: string) => new URL(`../../fixtures/runtime/${name}`, import.meta.url);

const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;

interface Supervised {
  readonly child: SupervisedChild<Command, Event>;
  readonly events: Event[];
  readonly exits: string[];
}

const open: SupervisedChild<Command, Event>[] = [];

function supervise(options: Partial<ChildOptions> = {}): Supervised {
  const events: Event[] = [];
  const exits: string[] = [];
  const child = new SupervisedChild<Command, Event>(
    { name: 'test process', entry: fixture('child.js'), readyTimeoutMs: 20_000, ...options },
    { onMessage: (event) => events.push(event), onExit: (reason) => exits.push(reason) },
  );
  open.push(child);
  return { child, events, exits };
}

const until = (check: () => void) => vi.waitFor(check, { timeout: 15_000, interval: 10 });

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((child) => child.close(0)));
});

describe('SupervisedChild', () => {
  it('passes structured-clone data both ways, in order', async () => {
    const { child, events } = supervise();
    expect(child.send({ type: 'echo', value: 0 })).toBe(false);
    await child.start();
    expect(child.ready).toBe(true);
    const values = [new Uint8Array([1, 2, 3]), new Map([['a', 1n]]), { deep: [null, undefined, Number.NaN] }];
    for (const value of values) expect(child.send({ type: 'echo', value })).toBe(true);
    await until(() => expect(events).toEqual([{ type: 'ready' }, ...values.map((value) => ({ type: 'echo', value }))]));
    expect(child.unsent).toBe(0);
  });

  it('gives the child the arguments, environment and node options that were asked for', async () => {
    const { child, events } = supervise({
      args: ['one', 'two'],
      env: { GRAFT_TEST: 'yes' },
      maxHeapMiB: 64,
      execArgv: ['--no-warnings'],
    });
    await child.start();
    child.send({ type: 'about' });
    await until(() => expect(events.at(-1)).toMatchObject({ type: 'about', args: ['one', 'two'] }));
    const about = events.at(-1);
    if (about?.type !== 'about') throw new TypeError('matched above');
    expect(about.execArgv).toEqual(expect.arrayContaining(['--max-old-space-size=64', '--no-warnings']));
    // Beside the test's own variable only what node itself sets for the channel, before it removes it again.
    expect(about.env.filter(([name]) => !name.startsWith('NODE_CHANNEL_'))).toEqual([['GRAFT_TEST', 'yes']]);
  });

  it('starts a killed child again and says how it died', async () => {
    const { child, exits } = supervise();
    await child.start();
    const first = child.pid;
    process.kill(first ?? 0, 'SIGKILL');
    await until(() => expect(exits).toEqual(['killed by SIGKILL']));
    expect(child.send({ type: 'echo', value: 1 })).toBe(false);
    await until(() => expect(child.ready).toBe(true));
    expect(child.pid).not.toBe(first);
    expect(child.restarts).toBe(1);
  });

  it('delivers what a child sent before it ended, and then its exit code', async () => {
    const { child, events, exits } = supervise();
    await child.start();
    const words = Array.from({ length: 50 }, (_, index) => String(index));
    child.send({ type: 'exit', code: 3, words });
    await until(() => expect(exits).toEqual(['exit code 3']));
    expect(events.flatMap((event) => (event.type === 'word' ? [event.word] : []))).toEqual(words);
  });

  it.each(['throw', 'reject'] as const)('treats a handler that %ss as a defect that ends the process', async (type) => {
    const { child, exits } = supervise();
    await child.start();
    child.send({ type });
    await until(() => expect(exits).toEqual(['exit code 1']));
  });

  it('surfaces a fatal error whole and does not start again', async () => {
    const { child, exits } = supervise({ args: ['fatal'] });
    await expect(child.start()).rejects.toMatchObject({ name: 'AppError', code: 'invalid_file', faults: ['no weights'] });
    expect(exits).toEqual([]);
    expect(child.pid).toBeUndefined();
    expect(child.restarts).toBe(0);
  });

  it('kills a child that does not become ready in time, and tries again', async () => {
    const { child, exits } = supervise({ args: ['silent'], readyTimeoutMs: 50 });
    const started = child.start();
    await until(() => expect(exits.length).toBeGreaterThanOrEqual(2));
    expect(new Set(exits)).toEqual(new Set(['did not become ready in 50 ms']));
    await child.close(0);
    await expect(started).rejects.toMatchObject({ code: 'shutting_down' });
  });

  it('keeps trying while a child dies before it is ready', async () => {
    const { child, exits } = supervise({ args: ['dies'] });
    const started = child.start();
    await until(() => expect(exits.length).toBeGreaterThanOrEqual(3));
    expect(new Set(exits)).toEqual(new Set(['exit code 3']));
    await child.close(0);
    await expect(started).rejects.toMatchObject({ code: 'shutting_down' });
  });

  it('kills with a reason of its own', async () => {
    const { child, exits } = supervise();
    await child.start();
    child.send({ type: 'spin' });
    child.kill('a decode hung');
    await until(() => expect(exits).toEqual(['a decode hung']));
  });

  it('closes an idle child, and one that is busy for ever, without a restart', async () => {
    for (const busy of [false, true]) {
      const { child, exits } = supervise();
      await child.start();
      const pid = child.pid ?? 0;
      if (busy) child.send({ type: 'spin' });
      await child.close(busy ? 100 : 10_000);
      expect(alive(pid)).toBe(false);
      expect(exits).toEqual([]);
      expect(child.send({ type: 'echo', value: 1 })).toBe(false);
    }
  });

  it('leaves the decision to stop to the parent: SIGINT, SIGTERM and SIGHUP do nothing', async () => {
    const { child, events, exits } = supervise();
    await child.start();
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.kill(child.pid ?? 0, signal);
    child.send({ type: 'echo', value: 'alive' });
    await until(() => expect(events.at(-1)).toEqual({ type: 'echo', value: 'alive' }));
    expect(exits).toEqual([]);
  });

  it.each([
    ['idle', false],
    ['stuck in a native call', true],
  ] as const)('ends a child that is %s when its parent is killed', async (_, stuck) => {
    const parent = fork(fileURLToPath(new URL('../../fixtures/runtime/supervisor.ts', import.meta.url)), stuck ? ['hang'] : [], {
      execArgv: ['--import', tsx],
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    });
    if (parent.stdout === null) throw new TypeError('stdout is piped');
    const [line = ''] = await new Promise<string[]>((resolve) => {
      createInterface({ input: parent.stdout as NodeJS.ReadableStream }).once('line', (text) => resolve([text]));
    });
    const pid = Number(line.split(' ')[1]);
    expect(alive(pid)).toBe(true);
    parent.kill('SIGKILL');
    await until(() => expect(alive(pid)).toBe(false));
  });

  it('reports an entry that does not exist as deaths, not as an exception', async () => {
    const { child, exits } = supervise({ entry: fixture('nowhere.js'), env: { NODE_OPTIONS: '--no-warnings' } });
    child.start().catch(() => undefined);
    await until(() => expect(exits[0]).toBe('exit code 1'));
  });
});

describe('serveParent', () => {
  it('refuses to serve in a process that was started without a channel', () => {
    const { status, stderr } = spawnSync(process.execPath, ['--import', tsx, fileURLToPath(fixture('child.ts'))], {
      encoding: 'utf8',
    });
    expect(stderr).toContain('TypeError: serveParent() needs a process that was started with an IPC channel');
    expect(status).toBe(1);
  });
});
