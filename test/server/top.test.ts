/** `graft top` as people run it: against a real server, in a pipe, in a terminal, and while the server is away. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { freePort, GRAFT } from '../support/command.js';
import { formOf, noisePng, post, startTinyServer, type TinyServer, until } from '../support/server.js';

const OPENED = '\u001b[?1049h\u001b[?25l';
const RESTORED = '\u001b[?25h\u001b[?1049l';
/** util-linux's: gives a command a terminal. */
const SCRIPT = 'script';
const hasTerminals = spawnSync(SCRIPT, ['--version']).error === undefined;

let tiny: TinyServer;
let running: ChildProcess | undefined;
beforeAll(async () => {
  tiny = await startTinyServer(['first', 'second']);
});
afterAll(() => tiny.close());
afterEach(() => running?.kill('SIGKILL'));

interface Watched {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly exit: Promise<unknown[]>;
}

function watch(command: string, args: readonly string[], env: Record<string, string> = {}): Watched {
  const child = spawn(command, args, { env: { PATH: process.env['PATH'], ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
  running = child;
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  return { child, output: () => printed, exit: once(child, 'exit') };
}

const top = (...args: string[]): Watched => watch(process.execPath, [...GRAFT, 'top', '--interval', '0.2', ...args]);

/** In a terminal of 30 lines of 100. */
function topInTerminal(env: Record<string, string> = {}, before = ''): Watched {
  const command = [process.execPath, ...GRAFT, 'top', '--interval', '0.2', '--url', tiny.url]
    .map((word) => `'${word}'`)
    .join(' ');
  const size = 'stty rows 30 cols 100';
  return watch(SCRIPT, ['-qefc', `${size}; ${before} ${command}; echo "ended with $?"`, '/dev/null'], {
    TERM: 'xterm-256color',
    LANG: 'C.UTF-8',
    ...env,
  });
}

async function caption(adapter: string): Promise<void> {
  await post(`${tiny.url}/v1/captions`, formOf({ image: await noisePng(), adapter, max_tokens: '4' }));
}

describe('graft top', () => {
  test('--once prints one frame and ends with 0, in plain text', async () => {
    await caption('first');
    const { output, exit } = top('--once', '--url', tiny.url);
    expect(await exit).toEqual([0, null]);
    expect(output()).toMatch(new RegExp(`^graft top {3}${tiny.url} {3}tiny ready {3}up \\S.* every 0\\.2 s\n`));
    expect(output()).toMatch(/^rows +[#.]+ {2}0 of 16$/m);
    expect(output()).toMatch(/^adapters .* 1 of 2 in memory$/m);
    expect(output()).toMatch(/^ADAPTER +requests\/s +tokens\/s +first token +cold +memory\nfirst +0 +0 +- +0 +\S+ kB$/m);
    expect(output()).not.toContain('\u001b');
  });

  test('--once where nobody answers says so and ends with 1; so do settings that are wrong', async () => {
    const nobody = `http://127.0.0.1:${await freePort()}`;
    const away = top('--once', '--url', nobody);
    expect(await away.exit).toEqual([1, null]);
    expect(away.output()).toBe(`graft: Expected a server at ${nobody} but ECONNREFUSED\n`);
    const wrong = top('--interval', 'soon');
    expect(await wrong.exit).toEqual([1, null]);
    expect(wrong.output()).toBe('graft: --interval: Expected seconds from 0.1 to 3600 but received "soon"\n');
    const nowhere = top('--url', 'localhost');
    expect(await nowhere.exit).toEqual([1, null]);
    expect(nowhere.output()).toBe('graft: --url: Expected http://HOST:PORT but received "localhost"\n');
  });

  test('goes on while the server is away, and shows it when it comes', async () => {
    const port = await freePort();
    const { child, output, exit } = top('--url', `http://127.0.0.1:${port}`);
    await until(() => output().includes(`Expected a server at http://127.0.0.1:${port} but ECONNREFUSED; trying again`));
    const server = createServer((req, res) => {
      if (req.url === '/metrics') res.end('graft_num_requests_running 7\n');
      else res.end(JSON.stringify({ data: [], backbone: 'late' }));
    });
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    await until(() => output().includes('late ready') && output().includes('7 running'));
    child.kill('SIGTERM');
    expect(await exit).toEqual([0, null]);
    server.closeAllConnections();
    server.close();
  });

  test('says what key it wants, and sends the one it has', async () => {
    const port = await freePort();
    const keys = new Set<string | undefined>();
    const server = createServer((req, res) => {
      keys.add(req.headers.authorization);
      const status = req.headers.authorization === 'Bearer graft_operator' ? 200 : req.headers.authorization ? 404 : 401;
      res.writeHead(req.url === '/metrics' ? status : 200).end(JSON.stringify({ data: [] }));
    });
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${port}`;
    const none = top('--once', '--url', url);
    expect(await none.exit).toEqual([1, null]);
    expect(none.output()).toContain('Expected a key that');
    const tenant = top('--once', '--url', url, '--key', 'graft_tenant');
    expect(await tenant.exit).toEqual([1, null]);
    expect(tenant.output()).toContain('Expected a key of an operator');
    const operator = watch(process.execPath, [...GRAFT, 'top', '--once', '--interval', '0.1', '--url', url], {
      GRAFT_KEY: 'graft_operator',
    });
    expect(await operator.exit).toEqual([0, null]);
    expect(keys).toEqual(new Set([undefined, 'Bearer graft_tenant', 'Bearer graft_operator']));
    server.closeAllConnections();
    server.close();
  });

  describe.runIf(hasTerminals)('in a terminal (skipped where there is no script command)', () => {
    test.each([
      ['q', 'q'],
      ['Ctrl-C', '\u0003'],
    ])('draws over and over, and puts the screen back on %s', async (_name, key) => {
      const { child, output, exit } = topInTerminal();
      await until(() => output().split('\u001b[H').length > 3);
      child.stdin?.write(key);
      expect(await exit).toEqual([0, null]);
      const text = output();
      expect(text.indexOf(OPENED)).toBeLessThan(text.indexOf('graft top'));
      expect(text.trimEnd().endsWith('ended with 0')).toBe(true);
      expect(text.indexOf(RESTORED)).toBeGreaterThan(text.lastIndexOf('graft top'));
      expect(text).toContain('░');
      for (const frame of text.split('\u001b[H').slice(1)) expect(frame.split('\r\n').length).toBeLessThanOrEqual(31);
    });

    test('follows the size of its window', async () => {
      const flag = path.join(tiny.folder, 'narrow');
      const { child, output, exit } = topInTerminal(
        {},
        `(while [ ! -e ${flag} ]; do sleep 0.1; done; stty -F /dev/tty cols 60) &`,
      );
      const lastHeading = () =>
        stripVTControlCharacters(output())
          .match(/ADAPTER[^\r]*(?=\r\n)/g)
          ?.at(-1);
      await until(() => lastHeading()?.endsWith('memory') ?? false);
      await writeFile(flag, '');
      // Two columns less.
      await until(() => lastHeading()?.endsWith('first token') ?? false);
      child.stdin?.write('q');
      expect(await exit).toEqual([0, null]);
    });

    test('is plain where the terminal is dumb, and has no colours where none are wanted', async () => {
      const dumb = topInTerminal({ TERM: 'dumb' });
      await until(() => dumb.output().split('graft top').length > 2);
      dumb.child.stdin?.write('q');
      await dumb.exit;
      expect(dumb.output()).not.toContain('\u001b');
      expect(dumb.output()).not.toContain('░');
      const grey = topInTerminal({ NO_COLOR: '1' });
      await until(() => grey.output().includes('ADAPTER'));
      grey.child.stdin?.write('q');
      await grey.exit;
      expect(grey.output()).not.toMatch(/\[\d+m/);
    });
  });
});
