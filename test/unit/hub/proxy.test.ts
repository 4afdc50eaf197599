/** Requests through a proxy, or past it, as the environment says. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isExcepted } from '../../../src/hub/proxy.js';
import { pull } from '../../../src/hub/pull.js';
import { parseReference } from '../../../src/hub/reference.js';
import type { ProxySettings } from '../../../src/hub/settings.js';
import { MockHub } from '../../support/hub.js';
import { TestProxy } from '../../support/proxy.js';

describe('an exception', () => {
  it.each([
    ['https://hub.co', '*', true],
    ['https://hub.co', 'hub.co', true],
    ['https://hub.co', 'HUB.CO', true],
    ['https://cdn.hub.co', 'hub.co', true],
    ['https://cdn.hub.co', '.hub.co', true],
    ['https://cdn.hub.co', '*.hub.co', true],
    ['https://hub.co', 'other.co, hub.co', true],
    ['https://hub.co', 'other.co hub.co', true],
    ['https://hub.co', 'hub.co:443', true],
    ['http://hub.co', 'hub.co:80', true],
    ['http://hub.co:8080', 'hub.co:8080', true],
    ['http://[::1]:8080', '::1', true],
    ['http://[::1]:8080', '[::1]:8080', true],
    ['http://127.0.0.1', '127.0.0.1', true],
    ['https://hub.co', '', false],
    ['https://hub.co', ' , ,', false],
    ['https://hub.co', '.', false],
    ['https://hub.co', 'ub.co', false],
    ['https://hub.co', 'cdn.hub.co', false],
    ['https://hub.co', 'hub.co:80', false],
    ['http://[::1]:8080', '[::1]:80', false],
  ])('%s, %j: %j', (url, except, expected) => {
    expect(isExcepted(new URL(url), except)).toBe(expected);
  });
});

describe('a pull', () => {
  let cache: string;
  let hub: MockHub;
  let proxy: TestProxy;
  beforeEach(async () => {
    cache = await mkdtemp(path.join(tmpdir(), 'graft-proxy-'));
    hub = await MockHub.start({ 'model.safetensors': { content: Buffer.from('weights'), lfs: true } });
    proxy = await TestProxy.start(hub.url);
  });
  afterEach(async () => {
    proxy.stop();
    await hub.stop();
    await rm(cache, { recursive: true });
  });

  const ask = (endpoint: string, settings: ProxySettings) =>
    pull({
      reference: parseReference('owner/model'),
      settings: { endpoint, token: null, cache, isOffline: false, proxy: settings },
      include: ['*'],
      exclude: [],
    });

  it('goes through the proxy to a host that only it can find, and says who asks', async () => {
    await ask('http://hub.invalid:81', { http: `http://me:p%40ss@${proxy.address}`, https: null, except: 'other.invalid' });
    expect(hub.fetches).toHaveLength(1);
    const authorization = `Basic ${Buffer.from('me:p@ss').toString('base64')}`;
    expect(new Set(proxy.tunnels.map((tunnel) => JSON.stringify(tunnel)))).toEqual(
      new Set([JSON.stringify({ to: 'hub.invalid:81', authorization })]),
    );
  });

  it.each<[string, Partial<ProxySettings>]>([
    ['an exception', { except: 'localhost,127.0.0.1' }],
    ['an address of the other kind', { http: null, https: 'http://nobody.invalid:1' }],
  ])('goes past it to %s', async (_, settings) => {
    await ask(hub.url, { http: `http://${proxy.address}`, https: null, except: '', ...settings });
    expect(hub.fetches).toHaveLength(1);
    expect(proxy.tunnels).toEqual([]);
  });
});
