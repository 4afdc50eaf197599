/**
 * What a chart says of the place under the pointer. A page without scripts can only answer with the `<title>` of an element, so the
 * plot is covered with invisible bands, each with what the curves do in its few steps.
 */
import { formatCount, formatNumber } from './format.js';
import { type Content, html, type Markup } from './html.js';
import type { Scale } from './scale.js';
import type { Point } from './series.js';

const MAX_BANDS = 120;

export interface Curve {
  readonly label: string;
  /** In order of steps. */
  readonly points: readonly Point[];
}

interface Band {
  readonly first: number;
  readonly last: number;
}

interface Range {
  readonly min: number;
  readonly max: number;
}

/** Bands over the whole width; their steps are those of the first curve that has any. */
export function drawBands(curves: readonly Curve[], steps: Scale): Markup {
  const bands = divide(curves.find(({ points }) => points.length > 0)?.points ?? []);
  const ranges = curves.map(({ points }) => rangesIn(bands, points));
  const drawn = bands.map((band, index) => {
    const before = bands[index - 1];
    const after = bands[index + 1];
    const left = before ? steps.at((before.last + band.first) / 2) : 0;
    const right = after ? steps.at((band.last + after.first) / 2) : 1;
    const lines = curves.flatMap(({ label }, curve) => {
      const range = ranges[curve]?.[index];
      return range ? `\n${label} ${describe(range)}` : [];
    });
    return drawBand(left, right, html`${place(band)}${lines}`);
  });
  return html`<g class="bands">${drawn}</g>`;
}

/** A length or place in percent, with no more digits than a screen has. */
export function percent(part: number): string {
  return `${Number((part * 100).toFixed(2))}%`;
}

function drawBand(left: number, right: number, title: Content): Markup {
  return html`<rect x="${percent(left)}" width="${percent(right - left)}" height="100%"><title>${title}</title></rect>`;
}

function divide(points: readonly Point[]): readonly Band[] {
  const count = Math.min(MAX_BANDS, points.length);
  return Array.from({ length: count }, (_, band) => {
    const first = points[Math.floor((band * points.length) / count)];
    const last = points[Math.floor(((band + 1) * points.length) / count) - 1];
    return first && last ? { first: first.x, last: last.x } : [];
  }).flat();
}

/** Lowest and highest value in each band; NaN where all values are gaps, undefined where there are none. One walk: both are in order. */
function rangesIn(bands: readonly Band[], points: readonly Point[]): readonly (Range | undefined)[] {
  let next = 0;
  return bands.map(({ last }) => {
    let range: Range | undefined;
    for (let point = points[next]; point !== undefined && point.x <= last; point = points[++next]) {
      range = { min: least(range?.min, point.y, Math.min), max: least(range?.max, point.y, Math.max) };
    }
    return range;
  });
}

function least(known: number | undefined, value: number, choose: (a: number, b: number) => number): number {
  if (known === undefined || Number.isNaN(known)) return value;
  return Number.isFinite(value) ? choose(known, value) : known;
}

function place({ first, last }: Band): string {
  return first === last ? `step ${formatCount(first)}` : `steps ${formatCount(first)} to ${formatCount(last)}`;
}

function describe({ min, max }: Range): string {
  const [low, high] = [formatNumber(min), formatNumber(max)];
  return low === high ? low : `${low} to ${high}`;
}
