/**
 * One line chart as a `<figure>`: title, legend and an SVG that the page's style colours. Text stays readable at every width, because
 * nothing is scaled but the curves themselves: labels sit at percentages of the plot, and only the inner SVG stretches.
 */
import { drawBands, percent } from './bands.js';
import { formatCount, formatNumber, formatPlural, formatTick } from './format.js';
import { html, type Markup } from './html.js';
import { type Scale, stepScale, valueScale } from './scale.js';
import { decimate, extent, type Point, segments } from './series.js';

/** About as many as a wide screen has pixels to tell apart. */
const MAX_POINTS = 600;
/** So few values are measurements that one wants to see, not a curve. */
const MAX_DOTS = 100;
const FEW_POINTS = 12;
const WIDTH = 1000;
const HEIGHT = 400;

export interface Series {
  readonly label: string;
  /** `raw` is thin and pale, `main` a line, `check` a line with a dot for each value. */
  readonly kind: 'raw' | 'main' | 'check';
  /** In order of steps; a `y` that is not finite is a gap. */
  readonly points: readonly Point[];
}

export interface Chart {
  readonly title: string;
  readonly unit: string;
  readonly series: readonly Series[];
  /** First and last step of the run, the same for all of its charts. */
  readonly steps: readonly [first: number, last: number];
  readonly scale: 'auto' | 'zero';
  readonly isLarge: boolean;
  /** The step to mark, if any. */
  readonly best: number | null;
}

/** The chart, or a figure that says why there is none. */
export function drawChart({ title, unit, series, steps, scale, isLarge, best }: Chart): Markup {
  const shown = series.filter(({ points }) => points.length > 0);
  const range = extent(shown.flatMap(({ points }) => points));
  const head = html`<strong>${title}</strong> <span class="unit">${unit}</span>`;
  if (range === undefined) {
    return html`<figure class="chart"><figcaption>${head}</figcaption><p class="empty">No finite value was recorded.</p></figure>`;
  }
  const x = stepScale(steps[0], steps[1], 6);
  const y = valueScale(range.min, range.max, scale, isLarge ? 6 : 4);
  const log = y.kind === 'log' ? ', log scale' : '';
  return html`<figure class="chart${isLarge ? ' large' : ''}">
<figcaption>${head}<span class="unit">${log}</span><span class="legend">${shown.map(drawLegend)}</span></figcaption>
<div class="plot"><svg class="axes" role="img" aria-label="${describe(title, unit + log, shown, steps)}">
${drawRows(y)}${drawColumns(x)}${best === null ? '' : drawBest(best, x)}
<svg class="curves" width="100%" height="100%" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none">${shown.map(({ kind, points }) => drawCurve(kind, points, x, y))}</svg>
${drawBands(shown, x)}${shown.map((one) => drawDots(one, x, y))}
</svg></div>${drawGaps(shown)}</figure>
`;
}

/** What each line is, and where it ended; the end of a noisy one says nothing. */
function drawLegend({ label, kind, points }: Series): Markup {
  const last = kind === 'raw' ? undefined : points.findLast(({ y }) => Number.isFinite(y));
  return html`<span class="${kind}"><i></i>${label}${last ? html` <b>${formatNumber(last.y)}</b>` : ''}</span>`;
}

/** Lines across, one a value. */
function drawRows({ ticks, spacing, at, min, max }: Scale): Markup {
  const largest = Math.max(-min, max);
  const rows = ticks.map((tick) => {
    const place = percent(1 - at(tick));
    return html`<line x2="100%" y1="${place}" y2="${place}"/><text x="-8" y="${place}" dy=".33em">${formatTick(tick, spacing, largest)}</text>`;
  });
  return html`<g class="rows">${rows}</g>`;
}

/** Labels below, one a step; a narrow plot hides every other. */
function drawColumns({ ticks, at }: Scale): Markup {
  const labels = ticks.map((tick) => html`<text x="${percent(at(tick))}" y="100%" dy="1.6em">${formatCount(tick)}</text>`);
  return html`<g class="columns">${labels}</g><text class="axis" x="50%" y="100%" dy="3em">step</text>`;
}

function drawBest(step: number, { at }: Scale): Markup {
  const part = at(step);
  if (!(part >= 0 && part <= 1)) return html``;
  const place = percent(part);
  const anchor = part > 0.7 ? 'end' : part < 0.3 ? 'start' : 'middle';
  const label = `best: step ${formatCount(step)}`;
  return html`<g class="best"><line x1="${place}" x2="${place}" y2="100%"/><text x="${place}" y="-8" text-anchor="${anchor}">${label}</text></g>`;
}

function drawCurve(kind: Series['kind'], points: readonly Point[], x: Scale, y: Scale): Markup {
  const place = (point: Point) => `${tenth(x.at(point.x) * WIDTH)} ${tenth((1 - y.at(point.y)) * HEIGHT)}`;
  // A value between two gaps is a line of no length, which round ends make a dot.
  const parts = segments(decimate(points, MAX_POINTS)).map(
    (part) => `M${part.map(place).join('L')}${part.length === 1 ? 'h0' : ''}`,
  );
  return html`<path class="${kind}" d="${parts.join('')}"/>`;
}

function drawDots({ label, kind, points }: Series, x: Scale, y: Scale): Markup {
  const finite = points.filter((point) => Number.isFinite(point.y));
  if (kind === 'check' ? finite.length > MAX_DOTS : finite.length > FEW_POINTS) return html``;
  const dots = finite.map((point) => {
    const title = html`step ${formatCount(point.x)}\n${label} ${formatNumber(point.y)}`;
    return html`<circle class="${kind}" cx="${percent(x.at(point.x))}" cy="${percent(1 - y.at(point.y))}" r="3.5"><title>${title}</title></circle>`;
  });
  return html`${dots}`;
}

/** Values that are missing from a curve are said, not only left out. A trend lacks those of what it is the trend of. */
function drawGaps(series: readonly Series[]): Markup | '' {
  const recorded = series.filter(({ kind }) => kind !== 'main' || series.every((other) => other.kind !== 'raw'));
  const counts = recorded.flatMap(({ label, points }) => {
    const gaps = points.filter(({ y }) => !Number.isFinite(y)).length;
    return gaps > 0 ? `${label}, ${formatCount(gaps)} of ${formatPlural(points.length, 'value')}` : [];
  });
  return counts.length > 0 ? html`<p class="gaps">Left out as not finite: ${counts.join('; ')}.</p>` : '';
}

/** The chart for those who cannot see it. */
function describe(title: string, unit: string, series: readonly Series[], steps: readonly [number, number]): string {
  const curves = series.map(({ label, points }) => {
    const finite = points.filter(({ y }) => Number.isFinite(y));
    const [first, last] = [finite[0], finite.at(-1)];
    const range = extent(finite);
    if (!first || !last || !range) return `${label} never finite`;
    return `${label} from ${formatNumber(first.y)} to ${formatNumber(last.y)}, lowest ${formatNumber(range.min)}, highest ${formatNumber(range.max)}`;
  });
  return `${title} (${unit}) from step ${formatCount(steps[0])} to ${formatCount(steps[1])}: ${curves.join('; ')}.`;
}

function tenth(value: number): number {
  return Math.round(value * 10) / 10;
}
