/**
 * `graft params`: how many parameters an adapter would train, from config.json alone. It counts the plan that the trainer follows, so
 * that a method, a rank or a choice of modules can be weighed before anything is downloaded or trained.
 */
import type { Method } from '../adapter/adapter.js';
import { RANK } from '../adapter/fields.js';
import { type AdapterPlan, type PlanOptions, planParameters, resolvePlan } from '../adapter/plan.js';
import { readLanguageModel } from '../backbone/language/families.js';
import type { LanguageModel } from '../backbone/language/model.js';
import { kindOf } from '../backbone/module.js';
import { readVisionModel } from '../backbone/vision/families.js';
import { AppError } from '../errors.js';
import { NAMED_NUMBERS, type NamedNumbers, parseNamedNumbers } from '../settings.js';
import { Faults } from '../tensor/faults.js';
import { quote } from '../tensor/json.js';

/** The flags as they were typed. */
export interface ParamsFlags {
  /** A checkpoint folder, or the path of a config.json. */
  readonly language: string;
  readonly vision?: string;
  readonly imageDim?: string;
  readonly method?: string;
  readonly rank?: string;
  readonly alpha?: string;
  readonly contexts?: string;
  readonly sites?: string;
  readonly targetModules?: string;
  readonly json?: boolean;
}

/** Trainable parameters. `adapter` is all but the projector, and the sum of `groups`; method full has no groups. */
interface Report {
  readonly method: string;
  readonly contexts: readonly string[];
  readonly adapter: number;
  /** Zero where neither a vision encoder nor its feature size is given. */
  readonly projector: number;
  readonly groups: Readonly<Record<string, number>>;
  /** By the last component of the modules' names, over all layers and contexts. */
  readonly modules: Readonly<Record<string, number>>;
}

/** `full` trains the language model's own weights: what an adapter is compared with. */
const METHODS = ['lora', 'bitfit', 'ia3', 'none', 'full'] as const satisfies readonly (Method | 'full')[];
/** Whether images come in or not: the count is about what could be trained, so that both are offered. */
const CONTEXTS = ['image', 'text'];

/** The count, as JSON or as a table. Throws AppError: of a config.json that cannot be used, or `invalid_config` with every fault of the flags. */
export async function params(flags: ParamsFlags): Promise<string> {
  const language = await readLanguageModel(flags.language);
  const faults = new Faults();
  const { imageDim } = flags.vision === undefined ? readImageDim(flags, faults) : await readVision(flags.vision, flags, faults);
  const method = METHODS.find((known) => known === (flags.method ?? 'lora'));
  if (method === undefined)
    faults.add(`Expected --method to be one of ${METHODS.join(', ')} but received ${quote(flags.method)}`);
  const plan = planOf(flags, method, language, faults);
  if (plan === undefined || method === undefined || faults.count > 0) throw faults.error('invalid_config', 'params');

  const shares = sharesOf(plan);
  const report = reportOf(method, plan, shares, language, imageDim);
  return flags.json ? JSON.stringify(report, null, 2) : tableOf(report, plan, shares);
}

function readImageDim({ imageDim }: ParamsFlags, faults: Faults): { imageDim: number | null } {
  if (imageDim === undefined) return { imageDim: null };
  const size = Number(imageDim);
  if (RANK.is(size)) return { imageDim: size };
  faults.add(`Expected --image-dim to be ${RANK.words} but received ${quote(imageDim)}`);
  return { imageDim: null };
}

async function readVision(location: string, { imageDim }: ParamsFlags, faults: Faults): Promise<{ imageDim: number }> {
  if (imageDim !== undefined) faults.add(`Expected --vision or --image-dim but received both ${location} and ${imageDim}`);
  return readVisionModel(location);
}

/** Undefined, with faults, where the flags make no plan. */
function planOf(
  flags: ParamsFlags,
  method: (typeof METHODS)[number] | undefined,
  { modules }: LanguageModel,
  faults: Faults,
): AdapterPlan | undefined {
  const rank = readNumbers('--rank', flags.rank, faults);
  const alpha = readNumbers('--alpha', flags.alpha, faults);
  const options: PlanOptions = {
    // What is no adapter's method still has flags that can be wrong.
    method: method === undefined || method === 'full' ? 'none' : method,
    contexts: listOf(flags.contexts),
    sites: listOf(flags.sites),
    targetModules: listOf(flags.targetModules),
    rank: rank.common,
    rankByContext: rank.own,
    alpha: alpha.common,
    alphaByContext: alpha.own,
    allowFused: true,
  };
  try {
    return resolvePlan(options, { modules, contexts: CONTEXTS });
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    for (const fault of error.faults ?? [error.message]) faults.add(fault);
    return undefined;
  }
}

function readNumbers(flag: string, text: string | undefined, faults: Faults): NamedNumbers {
  const numbers = text === undefined ? { common: undefined, own: new Map() } : parseNamedNumbers(text);
  if (!numbers) faults.add(`Expected ${flag} to be ${NAMED_NUMBERS} but received ${quote(text)}`);
  return numbers ?? { common: undefined, own: new Map() };
}

function listOf(text: string | undefined): string[] | undefined {
  return text?.split(',').map((entry) => entry.trim());
}

/** Parameters of one module kind in one context. */
interface Share {
  readonly context: string;
  readonly kind: string;
  readonly count: number;
}

function sharesOf(plan: AdapterPlan): Share[] {
  return planParameters(plan).map(({ context, module, shape }) => ({
    context,
    kind: kindOf(module),
    count: shape.reduce((product, size) => product * size, 1),
  }));
}

function reportOf(
  method: string,
  { contexts }: AdapterPlan,
  shares: readonly Share[],
  { hiddenSize, parameterCount }: LanguageModel,
  imageDim: number | null,
): Report {
  const kinds = new Set(shares.map(({ kind }) => kind));
  return {
    method,
    contexts,
    adapter: method === 'full' ? parameterCount : total(shares),
    projector: imageDim === null ? 0 : hiddenSize * imageDim + hiddenSize,
    groups: Object.fromEntries(contexts.map((name) => [name, total(shares.filter(({ context }) => context === name))])),
    modules: Object.fromEntries([...kinds].map((name) => [name, total(shares.filter(({ kind }) => kind === name))])),
  };
}

function tableOf(
  { method, contexts, adapter, projector, groups, modules }: Report,
  plan: AdapterPlan,
  shares: readonly Share[],
): string {
  const columns = contexts.length > 1 ? contexts : [];
  const kindRow = ([name, all]: [string, number]) => {
    const own = shares.filter(({ kind }) => kind === name);
    return [name, ...columns.map((column) => grouped(total(own.filter(({ context }) => context === column)))), grouped(all)];
  };
  const summary = (label: string, count: number, cells = columns.map(() => '')) => [label, ...cells, grouped(count)];
  const rows = [
    ...(contexts.length > 0 ? [['', ...columns, columns.length > 0 ? 'sum' : contexts.join()]] : []),
    ...Object.entries(modules).map(kindRow),
    summary(
      method === 'full' ? 'all weights' : 'adapter',
      adapter,
      columns.map((column) => grouped(groups[column] ?? 0)),
    ),
    summary('projector', projector),
    summary('total', adapter + projector),
  ];
  return [`method ${method}${rankOf(plan)}`, '', ...align(rows)].join('\n');
}

/** `, rank 8, alpha 16`, or by context where those differ. */
function rankOf({ rank, alpha }: AdapterPlan): string {
  const words = (label: string, numbers: ReadonlyMap<string, number>) => {
    const [first, ...others] = new Set(numbers.values());
    if (first === undefined) return '';
    const each = [...numbers].map(([context, value]) => `${value} (${context})`);
    return `, ${label} ${others.length === 0 ? first : each.join(' and ')}`;
  };
  return words('rank', rank) + words('alpha', alpha);
}

/** The first column to the left, numbers to the right, each as wide as its widest cell. */
function align(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)));
  const pad = (cell: string, column: number) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0));
  return rows.map((cells) => `  ${cells.map(pad).join('  ')}`.trimEnd());
}

function grouped(count: number): string {
  return count.toLocaleString('en-US');
}

function total(shares: readonly Share[]): number {
  return shares.reduce((sum, { count }) => sum + count, 0);
}
