/** What operators are given by hand agrees with the code, and the tools that read it agree that it is right. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { queriesOf } from '../../../scripts/operations/dashboard.js';
import { DASHBOARD, dashboardText, GUIDE, guideText } from '../../../scripts/operations.js';
import { AppError, type ErrorCode } from '../../../src/errors.js';

const DEPLOY = fileURLToPath(new URL('../../../deploy/', import.meta.url));
const isThere = (program: string): boolean => spawnSync(program, ['--version']).error === undefined;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'graft-operations-'));
  cpSync(path.join(DEPLOY, 'prometheus'), folder, { recursive: true });
});
afterEach(() => rmSync(folder, { recursive: true }));

function run(program: string, ...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: folder, encoding: 'utf8' });
  return { status, output: `${stdout}${stderr}` };
}

test('the dashboard is what its script makes: npm run operations', () => {
  expect(readFileSync(DASHBOARD, 'utf8')).toBe(dashboardText());
});

test('the guide lists every metric there is: npm run operations', () => {
  const guide = readFileSync(GUIDE, 'utf8');
  expect(guide).toBe(guideText(guide));
  expect(() => guideText('a guide without a table')).toThrow('<!-- metrics: npm run operations -->');
});

describe('the alerts', () => {
  const alerts = (): string => readFileSync(path.join(folder, 'alerts.yaml'), 'utf8');

  test('call failures all that is an error on our side, and nothing else', () => {
    const [, listed = ''] = /outcome=~"([^"]*internal[^"]*)"/.exec(alerts()) ?? [];
    const codes = listed.split('|') as ErrorCode[];
    expect(codes.length).toBeGreaterThan(8);
    for (const code of codes) expect(new AppError(code, '').status, code).toBeGreaterThanOrEqual(500);
    const others = ['shutting_down', 'queue_full', 'invalid_request', 'cancelled'];
    expect(codes.filter((code) => others.includes(code))).toEqual([]);
  });

  test.runIf(isThere('promtool'))('are rules that promtool takes (skipped where it is not installed)', () => {
    expect(run('promtool', 'check', 'rules', 'alerts.yaml')).toMatchObject({
      status: 0,
      output: expect.stringContaining('SUCCESS') as string,
    });
    writeFileSync(path.join(folder, 'alerts.yaml'), alerts().replace('increase(', 'increaze('));
    expect(run('promtool', 'check', 'rules', 'alerts.yaml').status).not.toBe(0);
  });

  test.runIf(isThere('promtool'))('speak when they should and are silent when they should (skipped likewise)', () => {
    expect(run('promtool', 'test', 'rules', 'alerts.test.yaml')).toMatchObject({ status: 0 });
    const { groups } = parse(alerts()) as { groups: { rules: { alert: string }[] }[] };
    const tested = readFileSync(path.join(folder, 'alerts.test.yaml'), 'utf8');
    for (const { alert } of groups.flatMap(({ rules }) => rules)) expect(tested).toContain(`alertname: ${alert}`);
    writeFileSync(path.join(folder, 'alerts.yaml'), alerts().replace('[15m]) > 2', '[15m]) > 20'));
    expect(run('promtool', 'test', 'rules', 'alerts.test.yaml').status).not.toBe(0);
  });
});

test.runIf(isThere('promtool'))('the configuration and all queries of the dashboard are Prometheus’ (skipped likewise)', () => {
  const file = path.join(folder, 'prometheus.yaml');
  writeFileSync(path.join(folder, 'graft.key'), 'graft_key');
  writeFileSync(file, readFileSync(file, 'utf8').replace('/etc/prometheus/graft.key', 'graft.key'));
  expect(run('promtool', 'check', 'config', 'prometheus.yaml')).toMatchObject({ status: 0 });
  const rules = queriesOf().map((expr, index) => ({ record: `query:${index}`, expr: expr.replaceAll('$__rate_interval', '5m') }));
  expect(rules.length).toBeGreaterThan(30);
  writeFileSync(path.join(folder, 'queries.yaml'), JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
  expect(run('promtool', 'check', 'rules', 'queries.yaml')).toMatchObject({ status: 0 });
});

test.runIf(isThere('systemd-analyze'))('systemd takes the unit (skipped where it is not installed)', () => {
  const unit = readFileSync(path.join(DEPLOY, 'systemd/graft.service'), 'utf8');
  // What it starts is not installed here.
  writeFileSync(path.join(folder, 'graft.service'), unit.replace('/usr/local/bin/graft', process.execPath));
  const { status, output } = run('systemd-analyze', 'verify', path.join(folder, 'graft.service'));
  expect({ status, output: output.split('\n').filter((line) => line.includes('graft.service')) }).toEqual({
    status: 0,
    output: [],
  });
});
