import { describe, expect, it } from 'vitest';
import { type Chart, drawChart, type Series } from '../../../../src/training/report/chart.js';
import { type Element, elements, parseDocument, textOf } from './document.js';

const HEIGHT = 400;

function draw(changes: Partial<Chart> & { readonly series: readonly Series[] }): Element {
  const chart: Chart = { title: 'Loss', unit: 'nats', steps: [0, 10], scale: 'auto', isLarge: true, best: null, ...changes };
  return parseDocument(`<!doctype html>\n${drawChart(chart).text}`);
}

const line = (kind: Series['kind'], values: readonly number[], label: string = kind): Series => ({
  label,
  kind,
  points: values.map((y, x) => ({ x, y })),
});

/** The corners of the curve's path, part by part. */
function cornersOf(figure: Element, kind: Series['kind']): number[][][] {
  const path = elements(figure, 'path').find(({ attributes }) => attributes.get('class') === kind);
  const parts = path?.attributes.get('d')?.split('M').slice(1) ?? [];
  return parts.map((part) => part.split(/[Lh]/).map((corner) => corner.split(' ').map(Number)));
}

const titlesOf = (figure: Element, tag: string) =>
  elements(figure, tag).map((element) => elements(element, 'title').map(textOf).join());

describe('drawChart', () => {
  it('draws a curve to the scale that its labels say', () => {
    const figure = draw({ series: [line('main', [2, 4, 3, 3, 3, 3, 3, 3, 3, 3, 4])] });
    // The lowest of the axis is 2.0, the highest 4.0.
    expect(cornersOf(figure, 'main')[0]?.slice(0, 3)).toEqual([
      [0, HEIGHT],
      [100, 0],
      [200, HEIGHT / 2],
    ]);
    const rows = elements(figure, 'g').find(({ attributes }) => attributes.get('class') === 'rows');
    const labels = rows ? elements(rows, 'text').map((label) => [textOf(label), label.attributes.get('y')]) : [];
    expect(labels[0]).toEqual(['2.0', '100%']);
    expect(labels.at(-1)).toEqual(['4.0', '0%']);
    const columns = elements(figure, 'g').find(({ attributes }) => attributes.get('class') === 'columns');
    expect(columns && elements(columns, 'text').map((label) => [textOf(label), label.attributes.get('x')])).toEqual([
      ['0', '0%'],
      ['2', '20%'],
      ['4', '40%'],
      ['6', '60%'],
      ['8', '80%'],
      ['10', '100%'],
    ]);
  });

  it('leaves gaps where values are not finite, and says how many', () => {
    const series = [line('raw', [1, 2, Number.NaN, 3, Number.POSITIVE_INFINITY, 4, 5], 'training')];
    const figure = draw({ series: [...series, line('main', [1, 2, Number.NaN, 3, Number.NaN, 4, 5], 'smoothed')] });
    expect(cornersOf(figure, 'raw').map((part) => part.length)).toEqual([2, 2, 2]);
    expect(elements(figure, 'path')[0]?.attributes.get('d')).toMatch(/M300 200h0M/);
    expect(textOf(figure)).toContain('Left out as not finite: training, 2 of 7 values.');
  });

  it('draws at most 600 corners, with every spike', () => {
    const values = Array.from({ length: 50_000 }, (_, index) => 2 + Math.sin(index));
    values[31_234] = 9;
    const figure = draw({ series: [line('raw', values)], steps: [0, 49_999] });
    const corners = cornersOf(figure, 'raw').flat();
    expect(corners.length).toBeLessThanOrEqual(600);
    expect(corners).toContainEqual([Math.round((31_234 / 49_999) * 10_000) / 10, 0]);
    expect(elements(figure, 'rect').length).toBeLessThanOrEqual(120);
  });

  it('says what the curves do at every place, without holes between', () => {
    const values = Array.from({ length: 1000 }, (_, index) => index + 1);
    const dots: Series = { label: 'validation', kind: 'check', points: [{ x: 500, y: 7.5 }] };
    const figure = draw({ series: [line('raw', values, 'training'), dots], steps: [0, 999] });
    const bands = elements(figure, 'rect').map(({ attributes }) => ({
      left: Number.parseFloat(attributes.get('x') ?? ''),
      width: Number.parseFloat(attributes.get('width') ?? ''),
    }));
    let right = 0;
    for (const { left, width } of bands) {
      expect(Math.abs(left - right)).toBeLessThan(0.02);
      right = left + width;
    }
    expect(right).toBeCloseTo(100, 1);
    const titles = titlesOf(figure, 'rect');
    expect(titles[0]).toBe('steps 0 to 7\ntraining 1 to 8');
    expect(titles.filter((title) => title.includes('validation 7.500'))).toHaveLength(1);
    expect(titlesOf(figure, 'circle')).toEqual(['step 500\nvalidation 7.500']);
  });

  it('names what is not finite under the pointer', () => {
    const figure = draw({ series: [line('main', [1, Number.NaN])], steps: [0, 1] });
    expect(titlesOf(figure, 'rect')).toEqual(['step 0\nmain 1', 'step 1\nmain not a number']);
  });

  it('marks the best step, in the run only', () => {
    const series = [line('check', [3, 2, 1])];
    const bestOf = (best: number) =>
      elements(draw({ series, best }), 'g').filter(({ attributes }) => attributes.get('class') === 'best');
    expect(bestOf(4).map(textOf)).toEqual(['best: step 4']);
    expect(bestOf(4).flatMap((mark) => elements(mark, 'line').map(({ attributes }) => attributes.get('x1')))).toEqual(['40%']);
    expect(bestOf(11)).toEqual([]);
  });

  it('shows one point as a dot', () => {
    const figure = draw({ series: [line('main', [5])], steps: [0, 0] });
    expect(elements(figure, 'circle').map(({ attributes }) => attributes.get('cx'))).toEqual(['50%']);
  });

  it('says what it shows to those who cannot see it', () => {
    const [svg] = elements(draw({ series: [line('main', [0.5, 400, 2], 'training')] }), 'svg');
    expect(svg?.attributes.get('role')).toBe('img');
    expect(svg?.attributes.get('aria-label')).toBe(
      'Loss (nats, log scale) from step 0 to 10: training from 0.5000 to 2, lowest 0.5000, highest 400.',
    );
  });

  it('is a sentence where there is nothing to draw', () => {
    for (const series of [[], [line('main', [])], [line('main', [Number.NaN, Number.NaN])]]) {
      const figure = draw({ series });
      expect(textOf(figure)).toContain('No finite value was recorded.');
      expect(elements(figure, 'svg')).toEqual([]);
    }
  });
});
