/** The command as people run it: a process of its own, killed in the middle, run again, with what the environment says. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nextSteps } from '../../../src/cli/pull/next.js';
import { COMMIT, etagOf, MockHub } from '../../support/hub.js';
import { TestProxy } from '../../support/proxy.js';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const NODE = ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href, MAIN];
const WEIGHTS = { content: randomBytes(4_000_000), lfs: true as const };

let home: string;
let hub: MockHub;
let running: ChildProcess[];
/** By all of them, to people. */
let said: string;
beforeEach(async () => {
  running = [];
  said = '';
  home = await mkdtemp(path.join(tmpdir(), 'graft-pull-'));
  hub = await MockHub.start({ 'config.json': { content: Buffer.from('{}') }, 'model.safetensors': WEIGHTS });
});
afterEach(async () => {
  for (const child of running) child.kill('SIGKILL');
  await hub.stop();
  await rm(home, { recursive: true });
});

const repository = () => path.join(home, 'hub', 'models--owner--model');
const snapshot = () => path.join(repository(), 'snapshots', COMMIT);

function start(args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  const child = spawn(process.execPath, [...NODE, 'pull', ...args], {
    cwd: home,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], HF_ENDPOINT: hub.url, HF_HOME: home, ...env },
  });
  child.stderr.on('data', (chunk) => (said += chunk));
  running.push(child);
  return child;
}

async function graft(...[args, env]: Parameters<typeof start>): Promise<{ status: number; stdout: string; stderr: string }> {
  const child = start(args, env);
  const printed = { stdout: '', stderr: '' };
  child.stdout?.on('data', (chunk) => (printed.stdout += chunk));
  child.stderr?.on('data', (chunk) => (printed.stderr += chunk));
  const [status] = (await once(child, 'close')) as [number];
  return { status, ...printed };
}

/** Bytes of the weights that are on the disk, under a name that is not the final one. */
async function partBytes(): Promise<number> {
  const names = await readdir(path.join(repository(), 'blobs')).catch(() => []);
  const part = names.find((name) => name.startsWith(etagOf(WEIGHTS)) && name.endsWith('.incomplete'));
  return part === undefined ? 0 : (await stat(path.join(repository(), 'blobs', part))).size;
}

describe('a pull', () => {
  it('prints the folder alone, and to people what is in it', async () => {
    const { status, stdout, stderr } = await graft(['owner/model']);
    expect(stderr).toMatch(
      /^pull 4001\/4001 kB {2}(model\.safetensors|config\.json).*\nowner\/model at c0ffee000000: 2 files, 2 fetched; no model that Graft knows; see why:\n {2}graft doctor \S+c0ffee\S+\n$/,
    );
    expect({ status, stdout }).toEqual({ status: 0, stdout: `${snapshot()}\n` });
    expect(await readFile(path.join(snapshot(), 'config.json'), 'utf8')).toBe('{}');
  });

  it('that is killed in the middle goes on where it was, in a process that was not killed', async () => {
    const half = 2_000_000;
    hub.misbehaviour = (_, response, asked) => {
      if (!asked.endsWith('.safetensors')) return false;
      response.writeHead(200, { 'content-length': WEIGHTS.content.length });
      response.write(WEIGHTS.content.subarray(0, half)); // And nothing more, for as long as it waits.
      return true;
    };
    const child = start(['owner/model']);
    while ((await partBytes()) < half) {
      expect(child.exitCode).toBeNull();
      await setTimeout(20);
    }
    child.kill('SIGKILL');
    expect(await once(child, 'exit')).toEqual([null, 'SIGKILL']);
    expect(await partBytes()).toBe(half);

    hub.misbehaviour = undefined;
    const { status, stdout } = await graft(['owner/model']);
    expect({ status, stdout }).toEqual({ status: 0, stdout: `${snapshot()}\n` });
    expect((await readFile(path.join(snapshot(), 'model.safetensors'))).equals(WEIGHTS.content)).toBe(true);
    const asked = hub.fetches.filter(({ path: each }) => each.endsWith('.safetensors'));
    expect(asked.map(({ range }) => range)).toEqual([undefined, `bytes=${half}-`]);
    expect((await readdir(path.join(repository(), 'blobs'))).filter((name) => name.endsWith('.incomplete'))).toEqual([]);
  });

  it('of two at the same time fetches each file once', async () => {
    const otherWaits = async (): Promise<void> => {
      while (!said.includes('model.safetensors is being fetched by another process')) await setTimeout(20);
    };
    hub.misbehaviour = (request, response, asked) => {
      if (!asked.endsWith('.safetensors')) return false;
      void otherWaits().then(() => hub.send(request, response));
      return true;
    };
    const both = await Promise.all([graft(['owner/model']), graft(['owner/model'])]);
    for (const { status, stdout } of both) expect({ status, stdout }).toEqual({ status: 0, stdout: `${snapshot()}\n` });
    expect(hub.fetches.filter(({ path: each }) => each.endsWith('.safetensors'))).toHaveLength(1);
    expect((await readFile(path.join(snapshot(), 'model.safetensors'))).equals(WEIGHTS.content)).toBe(true);
  });

  it('goes through the proxy of the environment, and past it where that says so', async () => {
    const proxy = await TestProxy.start(hub.url);
    try {
      const env = { HF_ENDPOINT: 'http://hub.invalid', HTTP_PROXY: proxy.address };
      const { status, stderr } = await graft(['owner/model'], env);
      expect(stderr.split('\n').filter((line) => !/^(pull|owner\/model| {2}graft) /.test(line))).toEqual(['']);
      expect(status).toBe(0);
      expect(new Set(proxy.tunnels.map(({ to }) => to))).toEqual(new Set(['hub.invalid:80']));
      const before = proxy.tunnels.length;
      expect(await graft(['owner/model'], { HTTP_PROXY: proxy.address, NO_PROXY: '127.0.0.1' })).toMatchObject({ status: 0 });
      expect(proxy.tunnels).toHaveLength(before);
    } finally {
      proxy.stop();
    }
  });

  it('takes the token of the login, and the files that are asked for', async () => {
    await writeFile(path.join(home, 'token'), 'hf_login\n');
    const { status } = await graft(['owner/model', '--exclude', '*.json']);
    expect(status).toBe(0);
    expect(await readdir(snapshot())).toEqual(['model.safetensors']);
    expect(new Set(hub.asked.map(({ authorization }) => authorization))).toEqual(new Set(['Bearer hf_login']));
  });

  it('is offline when told so', async () => {
    const { status, stdout, stderr } = await graft(['owner/model'], { HF_HUB_OFFLINE: '1' });
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toBe(
      `graft: Expected owner/model@main in ${repository()}, since HF_HUB_OFFLINE is set, but it is not there\n`,
    );
    expect(hub.asked).toEqual([]);
  });

  it('says in a line what is wrong', async () => {
    expect((await graft(['a/b/c'])).stderr).toBe(
      'graft: Expected OWNER/NAME or NAME, with @REVISION or without, but received "a/b/c"\n',
    );
    hub.misbehaviour = (_, response) => {
      response.writeHead(403, { 'x-error-code': 'GatedRepo' }).end();
      return true;
    };
    const { status, stderr } = await graft(['owner/model']);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^graft: owner\/model is gated: .*set HF_TOKEN.*\n$/);
  });
});

describe('what to do next', () => {
  const steps = (folder: string, ...files: string[]) => nextSteps(folder, files, 'model');
  const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url));

  it.each<[string, string, string[], RegExp]>([
    [
      'an adapter of ours',
      '/a b/c',
      ['adapter.json', 'text/adapter_config.json'],
      /^an adapter; .*\nln -s '\/a b\/c' adapters\/model$/s,
    ],
    [
      "an adapter of PEFT's",
      '/a',
      ['adapter_config.json'],
      /\ngraft adapters import \/a --out adapters\/model --backbone models$/,
    ],
    [
      'a backbone',
      '/a',
      ['backbone.json', 'config.json'],
      /^a backbone; .*\ngraft serve --backbone \/a\ngraft train --backbone \/a /,
    ],
    [
      'a language model',
      fixture('backbone/llama/plain'),
      ['config.json'],
      /^a language model; .*\ngraft serve --backbone \S+plain\ngraft train /,
    ],
    ['a vision encoder', fixture('backbone/mobilenet/coarse'), ['config.json'], /^a vision encoder; .*\n"vision": "\S+coarse"$/],
    ['neither', '/nowhere', ['config.json'], /^no model that Graft knows; see why:\ngraft doctor \/nowhere$/],
    ['no model', '/a', ['x.safetensors'], /^no model by itself: it has no config\.json$/],
  ])('with %s', async (_, folder, files, expected) => {
    expect((await steps(folder, ...files)).join('\n')).toMatch(expected);
  });
});
