/**
 * The paper's table on real photos: none, IA3, BitFit, LoRA-1, LoRA-8, agnostic and by context, agnostic LoRA-16 as the control that has the
 * parameters of context LoRA-8, and full fine-tuning; three seeds each, the same data and steps for all.
 *
 *     npm run experiment                 every run that has no result yet, then the tables in docs/paper.md
 *     npm run experiment -- --rates      the learning rates: a run a method and rate on a part of the training data, judged on another part
 *     npm run experiment -- --table      the tables alone
 *
 * Runs go through the trainer's own functions (trials.ts); results stay in bench/experiment.jsonl. The data (Flickr8k) lies beside the checkout and is never shipped, nor are weights trained on it.
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseTrainOptions } from '../src/training/options.js';
import { prepare } from '../src/training/prepare.js';
import { PROJECTOR } from '../src/training/program.js';
import { run } from '../src/training/run.js';
import { answer, deviation, mean, Trials, writeParts } from './trials.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DATA = join(ROOT, '../shared/data');
const RESULTS = join(ROOT, 'bench/experiment.jsonl');
const PAGE = join(ROOT, 'docs/paper.md');
const SEEDS = [0, 1, 2];
/** What the reference adapter was trained with. */
const STEPS = 1406;

interface Setup {
  readonly name: string;
  readonly method: 'none' | 'ia3' | 'bitfit' | 'lora' | 'full';
  readonly rank?: number;
  readonly contexts?: 'agnostic' | 'image,text';
}

const both = (setup: Omit<Setup, 'contexts'>): Setup[] => [
  { ...setup, contexts: 'agnostic' },
  { ...setup, contexts: 'image,text' },
];
const SETUPS: readonly Setup[] = [
  { name: 'projector only', method: 'none' },
  ...both({ name: 'IA3', method: 'ia3' }),
  ...both({ name: 'BitFit', method: 'bitfit' }),
  ...both({ name: 'LoRA-1', method: 'lora', rank: 1 }),
  ...both({ name: 'LoRA-8', method: 'lora', rank: 8 }),
  { name: 'LoRA-16', method: 'lora', rank: 16, contexts: 'agnostic' },
  { name: 'full fine-tuning', method: 'full' },
];
/** Learning rates to choose from, and what was chosen (`--rates`; the lowest perplexity, context and agnostic alike). */
const RATES = [1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2];
/** Enough to tell rates apart. */
const CHOOSING_STEPS = 500;
const CHOSEN: Readonly<Record<string, number>> = JSON.parse(readFileSync(join(ROOT, 'bench/rates.json'), 'utf8')) as Record<
  string,
  number
>;

interface Task {
  readonly setup: Setup;
  readonly seed: number;
  readonly rate: number;
  /** Whether it is a run that chooses a rate: it never sees the development data. */
  readonly isChoosing: boolean;
}

interface Result extends Task {
  readonly perplexity: number;
  readonly adapter: number;
  readonly projector: number;
  readonly seconds: number;
}

/** A run, from images to perplexity at its last step. */
async function train({ setup, seed, rate, isChoosing }: Task): Promise<Result> {
  const folder = await mkdtemp(join(tmpdir(), 'graft-experiment-'));
  const steps = isChoosing ? CHOOSING_STEPS : STEPS;
  const options = parseTrainOptions(
    {
      backbone: join(ROOT, 'test/real/backbone.json'),
      data: join(DATA, 'flickr8k/train'),
      ...(isChoosing ? { holdout: '1000' } : { validation: join(DATA, 'flickr8k/dev') }),
      out: join(folder, 'adapter'),
      cache: join(ROOT, '.graft-cache'),
      normalize: 'caption',
      method: setup.method,
      ...(setup.rank === undefined ? {} : { rank: String(setup.rank) }),
      ...(setup.contexts === undefined ? {} : { contexts: setup.contexts }),
      steps: String(steps),
      batch: '32',
      lr: String(rate),
      warmup: '100',
      seed: String(seed),
      // The last step's perplexity is the result: nothing is chosen by looking at the data that it is measured on.
      evalEvery: String(steps),
      checkpointEvery: String(steps),
      threads: '1',
    },
    ROOT,
  );
  const { signal } = new AbortController();
  const prepared = await prepare(options, signal, {});
  try {
    const { progress } = await run(prepared, options, folder, signal, {});
    const { parameters } = prepared.model;
    const projector = parameters.view(PROJECTOR.weight).length + parameters.view(PROJECTOR.bias).length;
    return {
      setup,
      seed,
      rate,
      isChoosing,
      perplexity: Math.exp(progress.best?.loss ?? Number.NaN),
      adapter: parameters.values.length - projector,
      projector,
      seconds: Math.round(progress.seconds),
    };
  } finally {
    await prepared.close();
    await rm(folder, { recursive: true, force: true });
  }
}

const keyOf = ({ setup, seed, rate, isChoosing }: Task): string =>
  JSON.stringify([setup.name, setup.contexts, seed, rate, isChoosing]);

const trials = new Trials<Task, Result>({
  file: RESULTS,
  script: fileURLToPath(import.meta.url),
  keyOf,
  describe: ({ setup, seed, rate, perplexity }) =>
    `${setup.name} ${setup.contexts ?? ''} seed ${seed} rate ${rate}: ${perplexity.toFixed(3)}`,
});

const rateOf = ({ name }: Setup): number => CHOSEN[name] ?? 2e-3;

function table(): string {
  const results = trials.results().filter(({ isChoosing }) => !isChoosing);
  const of = (setup: Setup): Result[] =>
    results.filter(
      (each) => each.setup.name === setup.name && each.setup.contexts === setup.contexts && each.rate === rateOf(setup),
    );
  const rows = SETUPS.map((setup) => {
    const runs = of(setup);
    const values = runs.map(({ perplexity }) => perplexity);
    const contexts = setup.contexts === undefined ? '–' : setup.contexts === 'agnostic' ? 'agnostic' : 'context';
    const parameters = (runs[0]?.adapter ?? 0).toLocaleString('en-US');
    return `| ${setup.name} | ${contexts} | ${parameters} | ${rateOf(setup)} | ${values.map((value) => value.toFixed(3)).join(', ')} | **${mean(values).toFixed(3)}** ± ${deviation(values).toFixed(3)} |`;
  });
  const pairs = SETUPS.filter(({ contexts }) => contexts === 'image,text').map((context) => {
    const agnostic = SETUPS.find((each) => each.name === context.name && each.contexts === 'agnostic') as Setup;
    return difference(`${context.name}: context against agnostic`, of(context), of(agnostic));
  });
  const control = SETUPS.find(({ name }) => name === 'LoRA-16') as Setup;
  const eight = SETUPS.find(({ name, contexts }) => name === 'LoRA-8' && contexts === 'image,text') as Setup;
  return [
    '| method | contexts | adapter parameters | learning rate | perplexity by seed | mean ± deviation |',
    '|---|---|---|---|---|---|',
    ...rows,
    '',
    '| difference of perplexities, seed by seed | by seed | mean |',
    '|---|---|---|',
    ...pairs,
    difference('context LoRA-8 against agnostic LoRA-16 (equal parameters)', of(eight), of(control)),
  ].join('\n');
}

function difference(label: string, a: readonly Result[], b: readonly Result[]): string {
  const values = SEEDS.flatMap((seed) => {
    const [x, y] = [a, b].map((runs) => runs.find((each) => each.seed === seed)?.perplexity);
    return x === undefined || y === undefined ? [] : [x - y];
  });
  const signed = (value: number): string => `${value > 0 ? '+' : '−'}${Math.abs(value).toFixed(3)}`;
  return `| ${label} | ${values.map(signed).join(', ')} | ${signed(mean(values))} |`;
}

function rateTable(): string {
  const results = trials.results().filter(({ isChoosing }) => isChoosing);
  const rows = SETUPS.map((setup) => {
    const cells = RATES.map((rate) => {
      const found = results.find(
        (each) => each.setup.name === setup.name && each.setup.contexts === setup.contexts && each.rate === rate,
      );
      return found
        ? `${rate === rateOf(setup) ? '**' : ''}${found.perplexity.toFixed(2)}${rate === rateOf(setup) ? '**' : ''}`
        : '';
    });
    return cells.every((cell) => cell === '') ? null : `| ${setup.name} ${setup.contexts ?? ''} | ${cells.join(' | ')} |`;
  }).filter((row) => row !== null);
  return [`| | ${RATES.join(' | ')} |`, `|---|${RATES.map(() => '---').join('|')}|`, ...rows].join('\n');
}

const [mode] = process.argv.slice(2);
if (mode === '--one') {
  await answer(train);
} else if (mode !== undefined && mode !== '--rates' && mode !== '--table') {
  throw new Error(`Expected --rates, --table or nothing but received ${mode}`);
} else if (!existsSync(DATA)) {
  console.log('experiment: skipped, ../shared/data is not beside the checkout');
} else if (mode === '--rates') {
  const searched = SETUPS.filter(({ contexts }) => contexts !== 'agnostic');
  await trials.run(searched.flatMap((setup) => RATES.map((rate): Task => ({ setup, seed: 100, rate, isChoosing: true }))));
  console.log(rateTable());
} else {
  if (mode !== '--table')
    await trials.run(
      SEEDS.flatMap((seed) => SETUPS.map((setup): Task => ({ setup, seed, rate: rateOf(setup), isChoosing: false }))),
    );
  writeParts(PAGE, { results: table(), rates: rateTable() });
  console.log(table());
}
