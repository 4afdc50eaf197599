/** The parts of the page that are tables: parameters by group, evaluations, configuration, and the rows of data that could not be used. */
import { formatCount, formatNumber, formatShare } from './format.js';
import { clip, html, type Markup } from './html.js';
import { bestEvaluation, type Report } from './report.js';

/** Longer lists are cut, and say so: the page has to fit into a mail. */
const MAX_ROWS = 200;
const MAX_VALUE_LENGTH = 2000;
const MAX_REASON_LENGTH = 500;
/** What is longer starts folded. */
const FOLD_ROWS = 12;

/** One row a group, with its share of what is trained as a bar. */
export function drawParameters({ parameters, backbone }: Report): Markup {
  const { adapter, projector, frozen, groups } = parameters;
  const trained = adapter + projector;
  const rows = [
    ...Object.entries(groups).map(([name, count]) => [`${name} adapter`, count] as const),
    ['projector', projector] as const,
  ];
  const drawn = rows.map(([name, count]) => {
    const share = trained > 0 ? Math.min(100, (100 * count) / trained) : 0;
    return html`<tr><th scope="row"><div class="share"><bdi>${clip(name, 100)}</bdi><span class="bar"><span style="width:${share.toFixed(2)}%"></span></span></div></th><td>${formatCount(count)}</td><td>${formatShare(count, trained)}</td></tr>
`;
  });
  const names = [backbone.language, ...(backbone.vision === null ? [] : [backbone.vision])].map(
    (name) => html`<bdi>${clip(name, 200)}</bdi> `,
  );
  return html`<table class="numbers">
<thead><tr><th scope="col">Group</th><th scope="col">Parameters</th><th scope="col">Of trained</th></tr></thead>
<tbody>
${drawn}</tbody>
<tfoot><tr><th scope="row">All trained <small>${formatShare(trained, frozen)} of the language model</small></th><td>${formatCount(trained)}</td><td>${formatShare(trained, trained)}</td></tr>
<tr><th scope="row">Frozen backbone <small>${names}</small></th><td>${formatCount(frozen)}</td><td></td></tr></tfoot>
</table>
`;
}

export function drawEvaluations(report: Report): Markup {
  const { evaluations } = report;
  const best = bestEvaluation(report)?.step;
  const rows = evaluations.slice(-MAX_ROWS).map(
    ({ step, loss, perplexity }) =>
      html`<tr${step === best ? html` class="kept"` : ''}><th scope="row">${formatCount(step)}${step === best ? html` <small>best</small>` : ''}</th><td>${formatNumber(loss)}</td><td>${formatNumber(perplexity)}</td></tr>
`,
  );
  const table = html`<table class="numbers">
<thead><tr><th scope="col">Step</th><th scope="col">Loss</th><th scope="col">Perplexity</th></tr></thead>
<tbody>
${rows}</tbody>
</table>${left(evaluations.length, 'before these')}`;
  return fold(`All ${formatCount(evaluations.length)} evaluations`, table, false);
}

export function drawConfiguration({ configuration }: Report): Markup {
  const entries = Object.entries(configuration);
  const rows = entries.map(
    ([name, value]) => html`<tr><th scope="row">${clip(name, 200)}</th><td>${clip(words(value), MAX_VALUE_LENGTH)}</td></tr>
`,
  );
  const table = html`<table class="pairs"><tbody>
${rows}</tbody></table>`;
  return fold(`${formatCount(entries.length)} settings`, table, entries.length <= FOLD_ROWS);
}

export function drawBadRows({ badRows }: Report): Markup {
  const rows = badRows.slice(0, MAX_ROWS).map(
    ({ origin, reason }) =>
      html`<tr><th scope="row">${clip(origin, MAX_REASON_LENGTH)}</th><td>${clip(reason, MAX_REASON_LENGTH)}</td></tr>
`,
  );
  const table = html`<table class="pairs"><thead><tr><th scope="col">Where</th><th scope="col">Why</th></tr></thead><tbody>
${rows}</tbody></table>${left(badRows.length, 'more')}`;
  return fold(`${formatCount(badRows.length)} left out`, table, badRows.length <= FOLD_ROWS);
}

function fold(summary: string, content: Markup, isOpen: boolean): Markup {
  return html`<details${isOpen ? html` open` : ''}><summary>${summary}</summary>
${content}
</details>
`;
}

function left(count: number, where: string): Markup | '' {
  return count > MAX_ROWS ? html`<p class="note">${formatCount(count - MAX_ROWS)} ${where}.</p>` : '';
}

function words(value: Report['configuration'][string]): string {
  if (value === null) return 'none';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'string') return value === '' ? 'empty' : value;
  if (typeof value === 'number') return String(value);
  return value.length === 0 ? 'none' : value.join(', ');
}
