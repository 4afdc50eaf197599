/**
 * The paper's question on the backbone that ships: context LoRA against agnostic LoRA of twice the rank, which has as many parameters, and against
 * full fine-tuning; three seeds, the same captioned scenes and steps for all. What is measured is what captions get right, besides perplexity.
 *
 *     npm run experiment:scenes                 every run that has no result yet, then the tables in docs/paper.md
 *     npm run experiment:scenes -- --rates      the learning rates, chosen on pictures that no other run sees
 *     npm run experiment:scenes -- --table      the tables alone
 */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Examination, type Marks } from '../scripts/scenes/examine.js';
import { writeScenes } from '../scripts/scenes/folder.js';
import { SEEDS as BUILD_SEEDS, PICTURE } from '../scripts/scenes/recipe.js';
import { parseTrainOptions } from '../src/training/options.js';
import { prepare } from '../src/training/prepare.js';
import { PROJECTOR } from '../src/training/program.js';
import { publishAdapter, publishBackbone } from '../src/training/publish.js';
import { run } from '../src/training/run.js';
import { answer, deviation, mean, Trials, writeParts } from './trials.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const BACKBONE = join(ROOT, 'models/scenes');
const DATA = join(ROOT, 'scratch/experiment');
/** Rates are chosen on pictures of their own. */
const CHOOSING_DATA = join(ROOT, 'scratch/experiment-rates');
const PAGE = join(ROOT, 'docs/paper.md');
const TASK = 'english';
const PICTURES = 3000;
const EXAMINED = 300;
const SEEDS = [0, 1, 2];
const STEPS = 1000;
const CHOOSING_STEPS = 200;

interface Setup {
  readonly name: string;
  readonly method: 'lora' | 'full';
  readonly rank?: number;
  readonly contexts?: 'agnostic' | 'image,text';
}

const SETUPS: readonly Setup[] = [
  { name: 'context LoRA-8', method: 'lora', rank: 8, contexts: 'image,text' },
  { name: 'agnostic LoRA-16', method: 'lora', rank: 16, contexts: 'agnostic' },
  { name: 'full fine-tuning', method: 'full' },
];
/** Learning rates to choose from: the one with the lowest held-out perplexity after a short run, for each set-up. */
const RATES = [2e-3, 5e-3, 1e-2, 2e-2];

interface Task {
  readonly setup: Setup;
  readonly seed: number;
  readonly rate: number;
  readonly isChoosing: boolean;
}

interface Result extends Task {
  readonly perplexity: number;
  readonly parameters: number;
  readonly seconds: number;
  /** Of the captions of scenes that no run was trained on; of a run that chooses a rate, none. */
  readonly marks: Marks | null;
}

async function train({ setup, seed, rate, isChoosing }: Task): Promise<Result> {
  const folder = await mkdtemp(join(tmpdir(), 'graft-experiment-'));
  const steps = String(isChoosing ? CHOOSING_STEPS : STEPS);
  const data = isChoosing ? CHOOSING_DATA : DATA;
  const out = join(folder, 'result');
  const options = parseTrainOptions(
    {
      backbone: BACKBONE,
      data: join(data, `${TASK}.jsonl`),
      holdout: '500',
      out,
      cache: join(data, 'cache'),
      method: setup.method,
      ...(setup.rank === undefined ? {} : { rank: String(setup.rank) }),
      ...(setup.contexts === undefined ? {} : { contexts: setup.contexts }),
      steps,
      lr: String(rate),
      seed: String(seed),
      evalEvery: steps,
      checkpointEvery: steps,
      threads: '1',
    },
    ROOT,
  );
  const { signal } = new AbortController();
  const prepared = await prepare(options, signal, {});
  try {
    const { progress, values } = await run(prepared, options, folder, signal, {});
    const { backbone, plan, model } = prepared;
    const { parameters } = model;
    const projector = parameters.view(PROJECTOR.weight).length + parameters.view(PROJECTOR.bias).length;
    const notes = { task: null, prompt: '', metrics: {}, training: {} };
    if (plan) await publishAdapter(out, backbone, plan, parameters, values, notes);
    else await publishBackbone(out, backbone, parameters, values, notes);
    return {
      setup,
      seed,
      rate,
      isChoosing,
      perplexity: Math.exp(progress.best?.loss ?? Number.NaN),
      parameters: parameters.values.length - projector,
      seconds: Math.round(progress.seconds),
      marks: isChoosing ? null : await (plan ? examine(BACKBONE, out) : examine(out, join(out, 'adapters', 'result'))),
    };
  } finally {
    await prepared.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function examine(backbone: string, adapter: string): Promise<Marks> {
  const options = { ...PICTURE, count: EXAMINED, seed: BUILD_SEEDS.examination, threads: 1 };
  const examination = await Examination.draw(options, () => undefined);
  try {
    return examination.mark(TASK, await examination.captions(backbone, adapter));
  } finally {
    await examination.close();
  }
}

const trials = new Trials<Task, Result>({
  file: join(ROOT, 'bench/experiment-scenes.jsonl'),
  script: fileURLToPath(import.meta.url),
  keyOf: ({ setup, seed, rate, isChoosing }) => JSON.stringify([setup.name, seed, rate, isChoosing]),
  describe: ({ setup, seed, rate, perplexity, marks }) =>
    `${setup.name} seed ${seed} rate ${rate}: perplexity ${perplexity.toFixed(3)}${marks ? `, objects ${percent(marks.objects)} %` : ''}`,
});

const percent = (share = Number.NaN): string => (100 * share).toFixed(1);

/** The rate with which short runs did best. */
function rateOf({ name }: Setup): number {
  const runs = trials.results().filter(({ setup, isChoosing }) => isChoosing && setup.name === name);
  const [best] = runs.sort((a, b) => a.perplexity - b.perplexity);
  if (!best) throw new Error(`Expected runs that choose a rate for ${name} (--rates) but there are none`);
  return best.rate;
}

const COLUMNS = ['objects', 'colours', 'counts', 'sizes', 'relations', 'background', 'all'] as const;

function table(): string {
  const rows = SETUPS.map((setup) => {
    const runs = trials
      .results()
      .filter((each) => !each.isChoosing && each.setup.name === setup.name && each.rate === rateOf(setup));
    if (runs.length < SEEDS.length) throw new Error(`Expected ${SEEDS.length} runs of ${setup.name} but received ${runs.length}`);
    const over = (values: readonly number[], digits: number): string =>
      `${mean(values).toFixed(digits)} ± ${deviation(values).toFixed(digits)}`;
    const perplexities = runs.map(({ perplexity }) => perplexity);
    const shares = COLUMNS.map((column) =>
      over(
        runs.map(({ marks }) => 100 * (marks?.[column] ?? Number.NaN)),
        1,
      ),
    );
    const parameters = (runs[0]?.parameters ?? 0).toLocaleString('en-US');
    return `| ${setup.name} | ${parameters} | ${rateOf(setup)} | ${over(perplexities, 3)} | ${shares.join(' | ')} |`;
  });
  return [
    `| | parameters | learning rate | perplexity | ${COLUMNS.join(' | ')} |`,
    `|---|---:|---:|---:|${COLUMNS.map(() => '---:').join('|')}|`,
    ...rows,
  ].join('\n');
}

function rateTable(): string {
  const runs = trials.results().filter(({ isChoosing }) => isChoosing);
  const rows = SETUPS.map((setup) => {
    const cells = RATES.map((rate) => {
      const perplexity = runs.find((each) => each.setup.name === setup.name && each.rate === rate)?.perplexity.toFixed(3) ?? '';
      return rate === rateOf(setup) ? `**${perplexity}**` : perplexity;
    });
    return `| ${setup.name} | ${cells.join(' | ')} |`;
  });
  return [`| | ${RATES.join(' | ')} |`, `|---|${RATES.map(() => '---:').join('|')}|`, ...rows].join('\n');
}

const [mode] = process.argv.slice(2);
if (mode === '--one') {
  await answer(train);
} else if (mode !== undefined && mode !== '--rates' && mode !== '--table') {
  throw new Error(`Expected --rates, --table or nothing but received ${mode}`);
} else {
  const [out, seed] = mode === '--rates' ? [CHOOSING_DATA, BUILD_SEEDS.rates] : [DATA, BUILD_SEEDS.captions];
  if (mode !== '--table' && !(await stat(out).catch(() => null)))
    await writeScenes({ out, count: PICTURES, seed, tasks: [TASK], size: 128 }, () => undefined);
  if (mode === '--rates') {
    await trials.run(SETUPS.flatMap((setup) => RATES.map((rate): Task => ({ setup, seed: 100, rate, isChoosing: true }))));
    console.log(rateTable());
  } else {
    if (mode !== '--table')
      await trials.run(
        SEEDS.flatMap((seed) => SETUPS.map((setup): Task => ({ setup, seed, rate: rateOf(setup), isChoosing: false }))),
      );
    writeParts(PAGE, { scenes: table(), 'scene rates': rateTable() });
    console.log(table());
  }
}
