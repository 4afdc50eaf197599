/** A tiny server with tenants, and requests with their keys. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ConfigKey } from '../../src/config.js';
import { hashKey, makeKey } from '../../src/tenants/key.js';
import { startTinyServer, type TinyServer } from './server.js';

export interface TenantServer extends TinyServer {
  /** The file of tenants. */
  readonly file: string;
  /** A key a tenant. */
  readonly keys: Readonly<Record<string, string>>;
}

/** Starts a server with adapters of these names, and tenants that have these fields (in YAML's flow style) and a key each. */
export async function startTenantServer(
  adapters: readonly string[],
  tenants: Readonly<Record<string, string>>,
  flags: Partial<Record<ConfigKey, string>> = {},
): Promise<TenantServer> {
  const keys = Object.fromEntries(Object.keys(tenants).map((name) => [name, makeKey()]));
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-who-'));
  const file = path.join(folder, 'tenants.yaml');
  await writeFile(file, tenantsFile(keys, tenants));
  const tiny = await startTinyServer(adapters, { tenants: file, ...flags });
  const close = async (): Promise<void> => {
    await tiny.close();
    await rm(folder, { recursive: true });
  };
  return { ...tiny, file, keys, close };
}

export function tenantsFile(keys: Readonly<Record<string, string>>, tenants: Readonly<Record<string, string>>): string {
  const lines = Object.entries(tenants).map(
    ([name, fields]) => `  ${name}: {keys: [{id: a, sha256: ${hashKey(keys[name] ?? '').toString('hex')}}], ${fields}}`,
  );
  return ['tenants:', ...lines, ''].join('\n');
}

export function bearer(key: string | undefined): Record<string, string> {
  return key === undefined ? {} : { authorization: `Bearer ${key}` };
}

/** The value of one series of /metrics. */
export async function metricAs(key: string | undefined, url: string, series: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`, { headers: bearer(key) })).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `));
  return line === undefined ? Number.NaN : Number(line.slice(series.length + 1));
}
