/**
 * A training step beside PyTorch's: time, and peak memory of the whole process. The same arithmetic (the reference implementation is PyTorch's
 * side), the same sizes, two threads; the two take turns, each in a process of its own.
 *
 *     npm run bench:train -- --python PATH_OF_A_PYTHON_WITH_TORCH
 *     npm run bench:train                                        this side alone
 *     npm run bench:train -- --profile lora                      where the time of a step goes, by operator
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gatedContexts, resolvePlan } from '../src/adapter/plan.js';
import { describeBackbone, openWeights } from '../src/backbone/backbone.js';
import { readBackbone } from '../src/backbone/manifest.js';
import { assemble, featureFeed } from '../src/training/batch.js';
import { TrainedModel } from '../src/training/model.js';
import { AdamW, norm } from '../src/training/optimizer.js';
import { Sequences } from '../src/training/sequence.js';
import { shared } from '../test/support/shared.js';
import { prepareModel } from './model.js';

const REFERENCE = fileURLToPath(new URL('../../shared/reference', import.meta.url));
const THREADS = 2;
const ROUNDS = 3;

interface Task {
  readonly name: string;
  readonly folder: string;
  readonly method: 'lora' | 'bitfit' | 'ia3' | 'none';
  readonly rank: number;
  readonly contexts: readonly string[];
  readonly rows: number;
  readonly image: readonly [tokens: number, dim: number];
  /** Text tokens of a row, BOS included. */
  readonly text: number;
  readonly steps: number;
  readonly threads: number;
  readonly recompute?: boolean;
}

interface Measure {
  readonly seconds: readonly number[];
  readonly losses: readonly number[];
  readonly peak: number;
  readonly idle: number;
}

async function step(task: Task, profile: string | null): Promise<Measure> {
  const idle = process.resourceUsage().maxRSS * 1024;
  const backbone = await describeBackbone(await readBackbone(task.folder));
  const [tokens, dim] = task.image;
  const image = { tokens, dim, dtype: 'float16' as const };
  const contexts = ['image', 'text'];
  const plan = resolvePlan(
    { method: task.method, contexts: task.contexts, rank: task.rank },
    { modules: backbone.language.modules, contexts },
  );
  const recipe = {
    language: backbone.language,
    image,
    plan,
    begin: 'checkpoint' as const,
    dropout: 0,
    residualDropout: 0,
    recompute: task.recompute ?? false,
    maxTokens: 512,
  };
  const { checkpoint, weights } = await openWeights(backbone.languageFolder, backbone.language);
  const model = new TrainedModel(recipe, weights, {
    folder: weights.root,
    threads: task.threads,
    ...(profile === null ? {} : { profile }),
  });
  await model.parameters.start(0, (name, shape) => weights.read(name, shape));
  await checkpoint.close();

  const { vocabSize } = backbone.language;
  const rows = Array.from({ length: task.rows }, (_, row) => [
    1,
    ...Array.from({ length: task.text - 1 }, (__, token) => 3 + ((row * 7919 + token * 104_729) % (vocabSize - 3))),
    2,
  ]);
  const sequences = new Sequences(
    rows,
    rows.map((_, row) => row),
    1,
  );
  const features = Uint16Array.from({ length: task.rows * tokens * dim }, (_, index) => 0x3000 + ((index * 7919) % 0x800));
  const shape = { language: backbone.language, image, contexts: gatedContexts(plan) };
  const optimizer = new AdamW(model.parameters.values.length, { betas: [0.9, 0.95], epsilon: 1e-8, weightDecay: 0 });
  const seconds: number[] = [];
  const losses: number[] = [];
  for (let number = 1; number <= task.steps; number++) {
    const start = performance.now();
    const batch = assemble(
      shape,
      sequences,
      rows.map((_, row) => row),
    );
    losses.push(await model.differentiate(batch, featureFeed(features, image), batch.predicted));
    const length = norm(model.gradients);
    optimizer.update(model.parameters.values, model.gradients, Math.min(1, 1 / length), number, 1e-3);
    seconds.push((performance.now() - start) / 1000);
  }
  await model.close();
  return { seconds, losses, peak: process.resourceUsage().maxRSS * 1024, idle };
}

function inChild(command: string, args: readonly string[]): Measure {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 64e6 });
  if (status !== 0) throw new Error(`Expected a measurement of ${command} but it ended with ${status}: ${stderr.slice(-2000)}`);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Measure;
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);

async function tasks(): Promise<Task[]> {
  const small = {
    folder: shared('tinystories-656k'),
    rows: 32,
    image: [49, 1280] as const,
    text: 13,
    steps: 30,
    threads: THREADS,
  };
  const large = {
    folder: (await prepareModel('135m')).folder,
    rows: 4,
    image: [49, 1280] as const,
    text: 24,
    steps: 3,
    threads: THREADS,
  };
  const contexts = ['image', 'text'];
  return [
    { ...small, name: 'context LoRA-8, 656 k', method: 'lora', rank: 8, contexts },
    { ...small, name: 'agnostic LoRA-8, 656 k', method: 'lora', rank: 8, contexts: ['all'] },
    { ...small, name: 'context BitFit, 656 k', method: 'bitfit', rank: 0, contexts },
    { ...small, name: 'context IA3, 656 k', method: 'ia3', rank: 0, contexts },
    { ...small, name: 'projector, 656 k', method: 'none', rank: 0, contexts },
    { ...large, name: 'context LoRA-16, 135 M', method: 'lora', rank: 16, contexts },
    { ...large, name: 'the same, recomputing', method: 'lora', rank: 16, contexts, recompute: true },
  ];
}

/** Time by operator of a profile that onnxruntime wrote, the largest first. */
function printProfile(file: string): void {
  const events = JSON.parse(readFileSync(file, 'utf8')) as {
    cat?: string;
    dur?: number;
    name?: string;
    args?: { op_name?: string };
  }[];
  const byOperator = new Map<string, { total: number; count: number }>();
  for (const { cat, dur = 0, name, args } of events) {
    if (cat !== 'Node' || !name?.endsWith('_kernel_time')) continue;
    const operator = args?.op_name ?? 'unknown';
    const { total, count } = byOperator.get(operator) ?? { total: 0, count: 0 };
    byOperator.set(operator, { total: total + dur, count: count + 1 });
  }
  const all = [...byOperator.values()].reduce((sum, { total }) => sum + total, 0);
  console.log('| operator | share | runs |\n|---|---|---|');
  for (const [operator, { total, count }] of [...byOperator].sort(([, a], [, b]) => b.total - a.total).slice(0, 14))
    console.log(`| ${operator} | ${((100 * total) / all).toFixed(1)} % | ${count} |`);
}

const { values } = parseArgs({
  options: { python: { type: 'string' }, one: { type: 'string' }, profile: { type: 'string' }, only: { type: 'string' } },
});
if (values.one !== undefined) {
  console.log(JSON.stringify(await step(JSON.parse(values.one) as Task, null)));
} else if (values.profile !== undefined) {
  const task = (await tasks()).find(({ name }) => name.includes(values.profile as string));
  if (!task) throw new Error(`Expected a part of a task's name but received ${values.profile}`);
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-profile-'));
  await step({ ...task, steps: 10 }, path.join(folder, 'step'));
  for (const file of readdirSync(folder)) printProfile(path.join(folder, file));
  await rm(folder, { recursive: true });
} else {
  const sides = values.python === undefined ? (['graft'] as const) : (['graft', 'pytorch'] as const);
  console.log('| task | ms a step, Graft | PyTorch | ratio | peak MB, Graft | PyTorch | ratio |\n|---|---|---|---|---|---|---|');
  for (const task of await tasks()) {
    if (values.only !== undefined && !task.name.includes(values.only)) continue;
    const measured: Record<(typeof sides)[number] | 'pytorch', Measure[]> = { graft: [], pytorch: [] };
    for (let round = 0; round < ROUNDS; round++) {
      for (const side of sides) {
        const argument = JSON.stringify(task);
        measured[side].push(
          side === 'graft'
            ? inChild(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), '--one', argument])
            : inChild(values.python as string, [fileURLToPath(new URL('train.py', import.meta.url)), REFERENCE, argument]),
        );
      }
    }
    // The first steps make and shape memory; they are not what a run consists of.
    const time = (runs: readonly Measure[]): number =>
      1000 * median(runs.flatMap(({ seconds }) => seconds.slice(task.steps > 5 ? 5 : 1)));
    const peak = (runs: readonly Measure[]): number => median(runs.map((run) => run.peak));
    const [ours, theirs] = [measured.graft, measured.pytorch];
    const cells = [task.name, time(ours).toFixed(1)];
    const other = theirs.length > 0;
    cells.push(other ? time(theirs).toFixed(1) : '', other ? (time(ours) / time(theirs)).toFixed(2) : '', megabytes(peak(ours)));
    cells.push(other ? megabytes(peak(theirs)) : '', other ? (peak(ours) / peak(theirs)).toFixed(2) : '');
    console.log(`| ${cells.join(' | ')} |`);
  }
}
