/**
 * `report.html`: one file that says how a training run went, to be opened years later or sent by mail. So it refers to nothing outside
 * itself, needs no script, and its policy forbids both even if something hostile from the data got past the escaping.
 */
import { drawCurves, finalLoss } from './curves.js';
import { formatCompact, formatCount, formatDate, formatDuration, formatNumber, formatPlural, formatShare } from './format.js';
import { type Content, clip, html, type Markup, trusted } from './html.js';
import { bestEvaluation, type Report } from './report.js';
import { drawSamples } from './samples.js';
import { STYLE } from './style.js';
import { drawBadRows, drawConfiguration, drawEvaluations, drawParameters } from './tables.js';

const POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";
const MAX_NAME_LENGTH = 200;
const MAX_COMMAND_LENGTH = 2000;

const SCORE_NAMES = new Map([
  ['cider', 'CIDEr'],
  ['bleu_1', 'BLEU-1'],
  ['bleu_2', 'BLEU-2'],
  ['bleu_3', 'BLEU-3'],
  ['bleu_4', 'BLEU-4'],
  ['rouge_l', 'ROUGE-L'],
]);

/** The whole document. Pure: the same report gives the same bytes. */
export function renderReport(report: Report): string {
  const name = clip(report.name, MAX_NAME_LENGTH);
  const { loss, perplexity, course } = drawCurves(report);
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${trusted(POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${name}: training report</title>
<style>${trusted(STYLE)}</style>
</head>
<body>
<main>
${drawHeader(report, name)}
${drawNotices(report)}${drawFigures(report)}
${section('curves', 'Loss and validation', [loss, perplexity ?? html`<p class="note">The run was never evaluated on validation data.</p>`, perplexity ? drawEvaluations(report) : ''])}
${report.samples.length > 0 ? section('samples', 'Captions it writes', drawSamples(report.samples)) : ''}
${section('course', 'How the run went', html`<div class="course">${course}</div>`)}
${section('parameters', 'What was trained', drawParameters(report))}
${Object.keys(report.configuration).length > 0 ? section('configuration', 'Configuration', drawConfiguration(report)) : ''}
${report.badRows.length > 0 ? section('bad-rows', 'Rows that could not be used', drawBadRows(report)) : ''}
</main>
<footer><p>Written by Graft. Everything shown is inside this file.</p></footer>
</body>
</html>
`.text;
}

function section(id: string, title: string, content: Content): Markup {
  return html`<section aria-labelledby="${id}">
<h2 id="${id}">${title}</h2>
${content}</section>`;
}

function drawHeader(report: Report, name: string): Markup {
  const { status, createdAt } = report;
  return html`<header>
<p class="kind">Training report <span class="status ${status.replaceAll(' ', '-')}">${status}</span> <span class="date">${formatDate(createdAt)}</span></p>
<h1 dir="auto">${name}</h1>
<p class="lead">${describeSubject(report)} ${describeQuality(report)} ${describeEffort(report)}</p>
</header>`;
}

/** What was trained. */
function describeSubject({ task, backbone, parameters }: Report): Markup {
  const noun = backbone.vision === null ? 'A text adapter' : 'A caption adapter';
  const aim = task === null ? '' : html` for the task <bdi>${clip(task, MAX_NAME_LENGTH)}</bdi>`;
  const sight = backbone.vision === null ? '' : html`, which sees through <bdi>${clip(backbone.vision, MAX_NAME_LENGTH)}</bdi>`;
  const language = html`<bdi>${clip(backbone.language, MAX_NAME_LENGTH)}</bdi>`;
  // Where nothing is frozen, what was trained is the language model itself.
  if (parameters.frozen === 0) return html`All weights of ${language}${sight}, trained${aim}.`;
  return html`${noun}${aim}, trained on the frozen ${language}${sight}.`;
}

/** How well. */
function describeQuality(report: Report): Markup {
  const best = bestEvaluation(report);
  if (best)
    return html`At its best step, ${formatCount(best.step)}, the validation perplexity is <strong>${formatNumber(best.perplexity)}</strong>.`;
  const loss = finalLoss(report);
  const end = loss === undefined ? '' : html` the training loss ended at <strong>${formatNumber(loss)}</strong>.`;
  const start = report.evaluations.length > 0 ? 'No validation gave a finite perplexity' : 'It was never evaluated';
  return html`${start}${loss === undefined ? '.' : ';'}${end}`;
}

/** With how little. */
function describeEffort({ parameters: { adapter, projector, frozen }, steps, seconds, status }: Report): Markup {
  const trained = adapter + projector;
  const share =
    frozen > 0 ? html`, <strong>${formatShare(trained, frozen)}</strong> of the language model's ${formatCompact(frozen)}` : '';
  const verb = {
    finished: 'The run took',
    'stopped early': 'The run stopped early, after',
    interrupted: 'The run was interrupted after',
    diverged: 'The loss stopped being a number after',
  }[status];
  return html`It trains ${formatCount(trained)} parameters${share}. ${verb} ${formatPlural(steps, 'step')} and ${formatDuration(seconds)}.`;
}

/** What one must know before looking at the curves. */
function drawNotices({ status, resumeCommand, points }: Report): Markup {
  const resume =
    status === 'interrupted' && resumeCommand !== null
      ? html`<aside class="notice"><p>The run is not complete. To go on from its last checkpoint:</p><pre><code>${clip(resumeCommand, MAX_COMMAND_LENGTH)}</code></pre></aside>
`
      : '';
  const lost = points.filter(({ loss }) => !Number.isFinite(loss));
  const [first] = lost;
  const nan = first
    ? html`<aside class="notice"><p>The training loss was not a finite number in ${formatPlural(lost.length, 'step')} of ${formatCount(points.length)}, first in step ${formatCount(first.step)}.</p></aside>
`
    : '';
  return html`${resume}${nan}`;
}

/** The few numbers that one compares between runs. */
function drawFigures(report: Report): Markup {
  const { parameters, steps, tokens, seconds, scores } = report;
  const trained = parameters.adapter + parameters.projector;
  const best = bestEvaluation(report);
  const loss = finalLoss(report);
  const figures = [
    ...(best
      ? [
          figure(
            'Validation perplexity',
            formatNumber(best.perplexity),
            `loss ${formatNumber(best.loss)}, step ${formatCount(best.step)}`,
          ),
        ]
      : []),
    ...Object.entries(scores ?? {}).map(([name, score]) =>
      figure(SCORE_NAMES.get(name) ?? clip(name, 40), formatNumber(score), 'validation captions'),
    ),
    ...(loss === undefined ? [] : [figure('Training loss', formatNumber(loss), 'at the end')]),
    figure('Trained', formatCompact(trained), `${formatShare(trained, parameters.frozen)} of the language model`),
    figure('Steps', formatCount(steps), `${formatCompact(tokens)} tokens`),
    figure('Time', formatDuration(seconds), seconds > 0 ? `${formatCompact(tokens / seconds)} tokens/s` : ''),
  ];
  // Rows of about the same length, of five at most.
  const columns = Math.ceil(figures.length / Math.ceil(figures.length / 5));
  return html`<dl class="figures" style="--columns:${columns}">
${figures}</dl>`;
}

function figure(label: string, value: string, note: string): Markup {
  return html`<div><dt>${label}</dt><dd>${value} <small>${note}</small></dd></div>
`;
}
