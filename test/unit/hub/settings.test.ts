/** The environment, by the rules that huggingface_hub's constants.py has. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readHubSettings } from '../../../src/hub/settings.js';

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'graft-home-'));
});
afterAll(() => rm(home, { recursive: true }));

const read = (env: Record<string, string> = {}) => readHubSettings(env, home);

it('without anything', async () => {
  expect(await read()).toEqual({
    endpoint: 'https://huggingface.co',
    token: null,
    cache: path.join(home, '.cache/huggingface/hub'),
    proxy: null,
    isOffline: false,
  });
});

it.each([
  [{ HF_HOME: '/a' }, '/a/hub'],
  [{ XDG_CACHE_HOME: '/a' }, '/a/huggingface/hub'],
  [{ HF_HOME: '/a', HF_HUB_CACHE: '/b' }, '/b'],
  [{ HUGGINGFACE_HUB_CACHE: '/c' }, '/c'],
  [{ HF_HUB_CACHE: '/b', HUGGINGFACE_HUB_CACHE: '/c' }, '/b'],
  [{ HF_HOME: '~/x' }, 'HOME/x/hub'],
  [{ HF_HOME: '$DISK/x', DISK: '/d' }, '/d/x/hub'],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: that is how a shell writes it.
  [{ HF_HUB_CACHE: '${DISK}y', DISK: '/d' }, '/dy'],
])('the cache of %j', async (env, cache) => {
  expect((await read(env as Record<string, string>)).cache).toBe(cache.replace('HOME', home));
});

describe('the token', () => {
  it('is that of the environment, and else that of the login', async () => {
    const file = path.join(home, 'token');
    await writeFile(file, ' hf_login\r\n');
    expect((await read({ HF_HOME: home })).token).toBe('hf_login');
    expect((await read({ HF_TOKEN_PATH: file })).token).toBe('hf_login');
    expect((await read({ HF_HOME: home, HF_TOKEN: 'hf_mine\n' })).token).toBe('hf_mine');
    expect((await read({ HF_HOME: home, HF_TOKEN: '' })).token).toBe('hf_login');
    expect((await read({ HUGGING_FACE_HUB_TOKEN: 'hf_old' })).token).toBe('hf_old');
  });
});

it.each([
  ['1', true],
  ['yes', true],
  ['TRUE', true],
  ['ON', true],
  ['0', false],
  ['', false],
  ['no', false],
])('offline: %j', async (value, isOffline) => {
  expect((await read({ HF_HUB_OFFLINE: value })).isOffline).toBe(isOffline);
  expect((await read({ TRANSFORMERS_OFFLINE: value })).isOffline).toBe(isOffline);
});

it('an endpoint may be a mirror below a path, but must be a web address', async () => {
  expect((await read({ HF_ENDPOINT: 'http://mirror:8000/hf//' })).endpoint).toBe('http://mirror:8000/hf');
  for (const endpoint of ['mirror', 'ftp://mirror'])
    await expect(read({ HF_ENDPOINT: endpoint })).rejects.toThrow(
      `HF_ENDPOINT: Expected a web address such as https://huggingface.co but received ${endpoint}`,
    );
});

describe('a proxy', () => {
  it.each([
    [{ HTTPS_PROXY: 'http://a:1' }, { http: null, https: 'http://a:1', except: '' }],
    [
      { http_proxy: 'a:1', HTTP_PROXY: 'b:2', no_proxy: 'x', NO_PROXY: 'y' },
      { http: 'http://a:1', https: null, except: 'x' },
    ],
    [
      { ALL_PROXY: 'https://a', HTTPS_PROXY: '' },
      { http: 'https://a', https: 'https://a', except: '' },
    ],
    [{ HTTP_PROXY: ' ', NO_PROXY: '*' }, null],
  ])('of %j', async (env, proxy) => {
    expect((await read(env as unknown as Record<string, string>)).proxy).toEqual(proxy);
  });

  it('is refused where it is none, without showing the password in it', async () => {
    const refusal = read({ HTTPS_PROXY: 'socks5://me:secret@a:1' });
    await expect(refusal).rejects.toMatchObject({ code: 'invalid_config' });
    await expect(refusal).rejects.toThrow(
      /^HTTPS_PROXY: Expected the address of a web proxy such as http:\/\/proxy:3128 but received another$/,
    );
  });
});
