/** What the environment says about the hub, by the names and rules of huggingface_hub: whoever has set it up for Python has set it up for Graft. */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { AppError } from '../errors.js';

const HUB = 'https://huggingface.co';

export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly token: string | null;
  /** The folder that holds a folder for each repository. */
  readonly cache: string;
  readonly isOffline: boolean;
  /** null and absent: everything is asked for directly. */
  readonly proxy?: ProxySettings | null;
}

/** As curl and requests read them. */
export interface ProxySettings {
  /** Of addresses of each kind; null: directly. */
  readonly http: string | null;
  readonly https: string | null;
  /** Hosts that are asked directly: `example.com` and what ends with it, with a port or without, or `*`; commas between them. */
  readonly except: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Throws `invalid_config` where HF_ENDPOINT or a proxy is no web address. */
export async function readHubSettings(env: Environment, home: string = homedir()): Promise<HubSettings> {
  const place = (value: string): string => resolve(expand(value, env, home));
  const hubHome = place(env['HF_HOME'] || join(env['XDG_CACHE_HOME'] || join(home, '.cache'), 'huggingface'));
  const endpoint = (env['HF_ENDPOINT'] || HUB).replace(/\/+$/, '');
  if (!/^https?:$/.test(URL.canParse(endpoint) ? new URL(endpoint).protocol : ''))
    throw new AppError('invalid_config', `HF_ENDPOINT: Expected a web address such as ${HUB} but received ${endpoint}`);
  return {
    endpoint,
    token:
      clean(env['HF_TOKEN']) ??
      clean(env['HUGGING_FACE_HUB_TOKEN']) ??
      (await readToken(place(env['HF_TOKEN_PATH'] || join(hubHome, 'token')))),
    cache: place(env['HF_HUB_CACHE'] || env['HUGGINGFACE_HUB_CACHE'] || join(hubHome, 'hub')),
    proxy: readProxy(env),
    isOffline: /^(1|on|yes|true)$/i.test(env['HF_HUB_OFFLINE'] || env['TRANSFORMERS_OFFLINE'] || ''),
  };
}

/** Where both are set, the name in small letters counts, as for curl and Python. */
function readProxy(env: Environment): ProxySettings | null {
  const read = (name: string): string | null => {
    const value = (env[name.toLowerCase()] || env[name] || env['all_proxy'] || env['ALL_PROXY'] || '').trim();
    if (value === '') return null;
    const address = /^[a-z][\w+.-]*:\/\//i.test(value) ? value : `http://${value}`;
    if (URL.canParse(address) && /^https?:$/.test(new URL(address).protocol)) return address;
    // Never the address itself: there may be a password in it.
    throw new AppError(
      'invalid_config',
      `${name}: Expected the address of a web proxy such as http://proxy:3128 but received another`,
    );
  };
  const [http, https] = [read('HTTP_PROXY'), read('HTTPS_PROXY')];
  return http === null && https === null ? null : { http, https, except: env['no_proxy'] || env['NO_PROXY'] || '' };
}

/** `~` and `$NAME` as a shell would: a value may come from a file that no shell has read. */
function expand(value: string, env: Environment, home: string): string {
  const named = value.replace(
    /\$(?:(\w+)|\{(\w+)\})/g,
    (whole, bare?: string, braced?: string) => env[bare ?? braced ?? ''] ?? whole,
  );
  return named === '~' || named.startsWith('~/') ? join(home, named.slice(1)) : named;
}

/** Who has logged in has a token in a file; who has not has no file. */
async function readToken(path: string): Promise<string | null> {
  return clean(await readFile(path, 'utf8').catch(() => undefined)) ?? null;
}

function clean(token: string | undefined): string | undefined {
  return token?.replace(/[\r\n]/g, '').trim() || undefined;
}
