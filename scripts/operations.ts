/**
 * `npm run operations`: writes what operators read and the code knows: deploy/grafana/graft.json, and the table of metrics in docs/operating.md.
 * A test holds both to the code.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Metrics } from '../src/metrics.js';
import { dashboard } from './operations/dashboard.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const BEGIN = '<!-- metrics: npm run operations -->';
const END = '<!-- end of metrics -->';

export const DASHBOARD = resolve(ROOT, 'deploy/grafana/graft.json');
export const GUIDE = resolve(ROOT, 'docs/operating.md');

export function dashboardText(): string {
  return `${JSON.stringify(dashboard(), null, 2)}\n`;
}

/** The guide with the table as it is now. Throws TypeError where it has lost the place for it. */
export function guideText(guide: string): string {
  const [before, rest] = guide.split(`${BEGIN}\n`);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new TypeError(`Expected ${BEGIN} and ${END} in docs/operating.md`);
  return `${before}${BEGIN}\n${metricsTable()}${END}${after}`;
}

function metricsTable(): string {
  const rows = new Metrics().descriptions.map(({ name, kind, labels, help }) => {
    const braces = labels.length > 0 ? `{${labels.join(', ')}}` : '';
    return `| \`${name}${braces}\` | ${kind} | ${help} |`;
  });
  return ['| metric | kind | |', '|---|---|---|', ...rows, ''].join('\n');
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  writeFileSync(DASHBOARD, dashboardText());
  writeFileSync(GUIDE, guideText(readFileSync(GUIDE, 'utf8')));
  console.log('operations: wrote deploy/grafana/graft.json and the table of metrics in docs/operating.md');
}
