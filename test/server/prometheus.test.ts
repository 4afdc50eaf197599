/** A live server's metrics in the hands of those who read them: promtool, a real Prometheus with our example configuration, and what deploy/ asks for. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Tenant } from '../../src/tenants/tenant.js';
import { freePort } from '../support/command.js';
import { limited, tenantsOf } from '../support/keys.js';
import { type Fields, formOf, noisePng, startTinyServer, type TinyServer, until } from '../support/server.js';

const DEPLOY = fileURLToPath(new URL('../../deploy/', import.meta.url));
/** Both of Debian's package prometheus. */
const PROMTOOL = 'promtool';
const PROMETHEUS = 'prometheus';
const isThere = (program: string): boolean => spawnSync(program, ['--version']).error === undefined;

/** Only the first may read metrics. */
const KEY = 'graft_operator';
const TENANTS = { [KEY]: new Tenant({ name: 'ops', isAdmin: true }), graft_tenant: limited('acme', {}) };

let tiny: TinyServer;
let folder: string;
let prometheus: ChildProcess | undefined;
beforeAll(async () => {
  tiny = await startTinyServer(['first', 'second'], {}, { tenants: tenantsOf(TENANTS) });
  folder = await mkdtemp(path.join(tmpdir(), 'graft-prometheus-'));
  const image = await noisePng();
  for (const adapter of ['first', 'second', 'first']) await caption({ image, adapter, max_tokens: '4' });
});
afterAll(async () => {
  if (prometheus) {
    const exit = once(prometheus, 'exit');
    prometheus.kill('SIGTERM');
    await exit;
  }
  await tiny.close();
  await rm(folder, { recursive: true });
});

const ask = (path: string, key: string, init: RequestInit = {}): Promise<Response> =>
  fetch(`${tiny.url}${path}`, { ...init, headers: { authorization: `Bearer ${key}` } });
const metricsText = async (): Promise<string> => (await ask('/metrics', KEY)).text();

async function caption(fields: Fields): Promise<void> {
  const reply = await ask('/v1/captions', 'graft_tenant', { method: 'POST', body: formOf(fields) });
  expect(reply.status).toBe(200);
  await reply.text();
}

/** Names of metrics in some text that asks for them, without what histograms add to their own. */
function namesIn(text: string, shown: ReadonlySet<string>): string[] {
  const names = text.match(/\b(graft|process|nodejs)_[a-z0-9_]+/g) ?? [];
  return [...new Set(names)].map((name) => (shown.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '')));
}

test('everything that the dashboard, the alerts, the configuration and the endpoint picker ask for is there', async () => {
  const shown = new Set([...(await metricsText()).matchAll(/^# TYPE (\S+)/gm)].map(([, name = '']) => name));
  for (const file of [
    'grafana/graft.json',
    'prometheus/alerts.yaml',
    'prometheus/prometheus.yaml',
    'inference-extension/endpoint-picker.yaml',
  ]) {
    const asked = namesIn(await readFile(path.join(DEPLOY, file), 'utf8'), shown);
    expect(asked.length, file).toBeGreaterThan(0);
    expect(
      asked.filter((name) => !shown.has(name)),
      file,
    ).toEqual([]);
  }
});

test('lora_requests_info reads as the endpoint picker reads it, and says who runs while it runs', async () => {
  const labelsOf = async () => {
    const lines = (await metricsText()).split('\n').filter((line) => line.startsWith('graft_lora_requests_info{'));
    expect(lines).toHaveLength(1);
    const [, max, running, waiting, time] =
      /\{max_lora="(\d+)",running_lora_adapters="([^"]*)",waiting_lora_adapters="([^"]*)"\} ([\d.]+)$/.exec(lines[0] ?? '') ?? [];
    return {
      max,
      running: running?.split(',').filter(Boolean),
      waiting: waiting?.split(',').filter(Boolean),
      seconds: Number(time),
    };
  };
  expect(await labelsOf()).toMatchObject({ max: '16', running: [], waiting: [] });
  expect(Math.abs((await labelsOf()).seconds - Date.now() / 1000)).toBeLessThan(60);
  const image = await noisePng();
  const stop = new AbortController();
  const asking = (async () => {
    while (!stop.signal.aborted) await caption({ image, adapters: 'first,second', n: '4', temperature: '2', max_tokens: '100' });
  })();
  await until(async () => {
    const { running } = await labelsOf();
    return running?.join() === 'first,second';
  });
  stop.abort();
  await asking;
});

test.runIf(isThere(PROMTOOL))(
  'promtool finds nothing wrong with what a live server says (skipped where it is not installed)',
  async () => {
    const { status, stdout, stderr } = spawnSync(PROMTOOL, ['check', 'metrics'], {
      input: await metricsText(),
      encoding: 'utf8',
    });
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' });
  },
);

test('nobody else reads the metrics: not without a key, nor with a tenant’s', async () => {
  expect((await fetch(`${tiny.url}/metrics`)).status).toBe(401);
  expect((await ask('/metrics', 'graft_tenant')).status).toBe(404);
});

interface Answer<Data> {
  readonly status: string;
  readonly data: Data;
}

test.runIf(isThere(PROMETHEUS))(
  'a real Prometheus scrapes it with the example configuration (skipped where it is not installed)',
  async () => {
    await cp(path.join(DEPLOY, 'prometheus'), folder, { recursive: true });
    await writeFile(path.join(folder, 'graft.key'), `${KEY}\n`);
    const file = path.join(folder, 'prometheus.yaml');
    const example = await readFile(file, 'utf8');
    const config = example
      .replace('127.0.0.1:8080', new URL(tiny.url).host)
      .replace('/etc/prometheus/graft.key', path.join(folder, 'graft.key'))
      .replaceAll('_interval: 15s', '_interval: 1s');
    await writeFile(file, config);
    const address = `127.0.0.1:${await freePort()}`;
    prometheus = spawn(
      PROMETHEUS,
      [
        `--config.file=${file}`,
        `--storage.tsdb.path=${path.join(folder, 'data')}`,
        `--web.listen-address=${address}`,
        '--log.level=error',
      ],
      { stdio: 'inherit' },
    );
    const prometheusSays = async <Data>(query: string): Promise<Data | undefined> => {
      const response = await fetch(`http://${address}/api/v1/${query}`).catch(() => undefined);
      return response?.ok ? ((await response.json()) as Answer<Data>).data : undefined;
    };

    await until(async () => {
      const targets = await prometheusSays<{ activeTargets: { health: string; lastError: string }[] }>('targets');
      return targets?.activeTargets.length === 1 && targets.activeTargets[0]?.health === 'up';
    });
    type Vector = { result: { metric: Record<string, string>; value: [number, string] }[] };
    const vectorOf = async (expr: string) => (await prometheusSays<Vector>(`query?query=${encodeURIComponent(expr)}`))?.result;
    await until(async () => (await vectorOf('graft_adapter_requests_total'))?.length === 2);
    // The test before asked for more, of both alike.
    const byAdapter = await vectorOf('graft_adapter_requests_total{job="graft"}');
    expect(byAdapter?.map(({ metric }) => metric['adapter']).toSorted()).toEqual(['first', 'second']);
    const [first, second] = ['first', 'second'].map(
      (name) => byAdapter?.find(({ metric }) => metric['adapter'] === name)?.value[1],
    );
    expect(Number(first)).toBe(Number(second) + 1);
    expect(await vectorOf('graft_tenant_requests_total{tenant="acme",outcome="ok"}')).toHaveLength(1);
    expect(await vectorOf('up{job="graft"}')).toMatchObject([{ value: [expect.any(Number), '1'] }]);
    expect(await vectorOf('graft_lora_requests_info')).toEqual([]);

    type Rules = { groups: { rules: { name: string; health: string; state: string }[] }[] };
    await until(async () => {
      const rules = (await prometheusSays<Rules>('rules'))?.groups.flatMap((group) => group.rules);
      return rules?.length === 11 && rules.every(({ health }) => health === 'ok');
    });
    const firing = (await prometheusSays<{ alerts: { state: string }[] }>('alerts'))?.alerts;
    expect(firing?.filter(({ state }) => state === 'firing')).toEqual([]);
  },
);
