/** From what a run recorded to its charts. */
import { type Chart, drawChart, type Series } from './chart.js';
import type { Markup } from './html.js';
import { bestEvaluation, type Report, type ReportPoint } from './report.js';
import { type Point, smooth } from './series.js';

/** The smoothed line's span, as a part of the run: long enough to show the trend, short enough to follow it. */
const SPAN_PART = 1 / 60;
/** So few points are clearer than their mean. */
const MIN_SMOOTHED = 60;
/** Beyond these, sums and logarithms of an axis overflow. */
const LARGEST = 1e290;

interface Curves {
  readonly loss: Markup;
  /** Null where the run was never evaluated. */
  readonly perplexity: Markup | null;
  /** The small ones: how the run went, rather than how well. */
  readonly course: readonly Markup[];
}

export function drawCurves(report: Report): Curves {
  const points = inOrder(report.points);
  const evaluations = inOrder(report.evaluations);
  const column = (name: Exclude<keyof ReportPoint, 'step'>) => points.map((point) => toPoint(point.step, point[name]));
  const checks = (name: 'loss' | 'perplexity'): Series => ({
    label: 'validation',
    kind: 'check',
    points: evaluations.map((evaluation) => toPoint(evaluation.step, evaluation[name])),
  });
  const bounds = [points[0], points.at(-1), evaluations[0], evaluations.at(-1)].flatMap((one) => one?.step ?? []);
  const steps: Chart['steps'] = bounds.length > 0 ? [Math.min(...bounds), Math.max(...bounds)] : [0, 1];
  const common = { steps, isLarge: false, best: null } as const;
  const best = bestEvaluation(report)?.step ?? null;
  return {
    loss: drawChart({
      ...common,
      title: 'Loss',
      unit: 'nats per token',
      series: [...withTrend('training', column('loss')), checks('loss')],
      scale: 'auto',
      isLarge: true,
      best,
    }),
    perplexity:
      evaluations.length > 0
        ? drawChart({
            ...common,
            title: 'Validation perplexity',
            unit: 'lower is better',
            series: [checks('perplexity')],
            scale: 'auto',
            best,
          })
        : null,
    course: [
      drawChart({
        ...common,
        title: 'Learning rate',
        unit: 'per update',
        series: [{ label: 'rate', kind: 'main', points: column('learningRate') }],
        scale: 'zero',
      }),
      drawChart({
        ...common,
        title: 'Gradient norm',
        unit: 'L2',
        series: withTrend('norm', column('gradientNorm')),
        scale: 'auto',
      }),
      drawChart({
        ...common,
        title: 'Speed',
        unit: 'tokens/s',
        series: withTrend('speed', column('tokensPerSecond')),
        scale: 'zero',
      }),
    ],
  };
}

/** The training loss at the end, without the noise of single batches; undefined where it never was a number. */
export function finalLoss(report: Report): number | undefined {
  const points = inOrder(report.points).map(({ step, loss }) => toPoint(step, loss));
  return smooth(points, spanOf(points)).findLast(({ y }) => Number.isFinite(y))?.y;
}

/** A noisy curve: its values, thin, and their trend over them. */
function withTrend(label: string, points: readonly Point[]): readonly Series[] {
  if (points.length < MIN_SMOOTHED) return [{ label, kind: 'main', points }];
  return [
    { label, kind: 'raw', points },
    { label: 'smoothed', kind: 'main', points: smooth(points, spanOf(points)) },
  ];
}

function spanOf(points: readonly Point[]): number {
  return Math.max(1, points.length * SPAN_PART);
}

function toPoint(x: number, y: number): Point {
  return { x, y: Math.abs(y) <= LARGEST ? y : Number.NaN };
}

/** A resumed run may have recorded some steps twice: what it did last counts. */
function inOrder<T extends { readonly step: number }>(rows: readonly T[]): readonly T[] {
  const byStep = new Map(rows.map((row) => [row.step, row]));
  return [...byStep.values()].filter(({ step }) => Number.isFinite(step)).sort((a, b) => a.step - b.step);
}
