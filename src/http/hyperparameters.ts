/** What a fine-tuning job may say, field by field: OpenAI's, as far as there is something here that does it, and ours. */
import { z } from 'zod';
import { AppError } from '../errors.js';
import { type Auto, MAX_STEPS, type Wishes } from '../finetuning/auto.js';
import { type GraftOptions, METHODS } from '../finetuning/job.js';
import { check, type Field, type Values } from './schema.js';

export interface JobAsk {
  readonly model: string;
  readonly trainingFile: string;
  readonly validationFile: string | null;
  readonly suffix: string | null;
  readonly seed: number | null;
  readonly wishes: Wishes;
  readonly graft: GraftOptions;
  readonly metadata: Readonly<Record<string, string>> | null;
}

const SUFFIX = /^(?!.*\.tmp-)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** Folders of an adapter's own. */
const RESERVED = ['image', 'text', 'all'];
const MAX_RANK = 1024;
const MAX_EPOCHS = 1000;
const MAX_BATCH = 256;
const MAX_MULTIPLIER = 100;
/** What an adapter's directory calls a context. */
const CONTEXT = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

function field<Schema extends z.ZodType>(schema: Schema, expected: string) {
  return { schema, expected, form: 'text' as const } satisfies Field;
}

const auto = <Schema extends z.ZodType<number>>(schema: Schema) => z.union([z.literal('auto'), schema]).nullish();
const numbers = z.strictObject({
  n_epochs: auto(z.int().min(1).max(MAX_EPOCHS)),
  batch_size: auto(z.int().min(1).max(MAX_BATCH)),
  learning_rate_multiplier: auto(z.number().gt(0).max(MAX_MULTIPLIER)),
});
const NUMBERS = `n_epochs ("auto", or 1 to ${MAX_EPOCHS}), batch_size ("auto", or 1 to ${MAX_BATCH}) and learning_rate_multiplier ("auto", or a number above 0, at most ${MAX_MULTIPLIER})`;
const rank = z.int().min(1).max(MAX_RANK);
const id = z.string().min(1).max(100);

export const JOB_FIELDS = {
  model: field(z.string().min(1).max(2048), 'the name of the backbone, or of an adapter to begin with,'),
  training_file: field(id, 'the id of a file'),
  validation_file: field(id.nullish(), 'the id of a file'),
  suffix: field(
    z
      .string()
      .regex(SUFFIX)
      .refine((value) => !RESERVED.includes(value))
      .nullish(),
    `a name of letters, digits, ".", "_" or "-" (at most 64, and none of ${RESERVED.join(', ')})`,
  ),
  seed: field(z.int().min(0).nullish(), 'an integer of at least 0'),
  method: field(
    z
      .strictObject({
        type: z.literal('supervised'),
        supervised: z.strictObject({ hyperparameters: numbers.nullish() }).nullish(),
      })
      .nullish(),
    `type "supervised" and supervised.hyperparameters of ${NUMBERS}`,
  ),
  /** OpenAI's older place for them. */
  hyperparameters: field(numbers.nullish(), NUMBERS),
  graft: field(
    z
      .strictObject({
        method: z.enum(METHODS).nullish(),
        contexts: z.array(z.string().regex(CONTEXT)).min(1).max(8).nullish(),
        rank: z.union([rank, z.record(z.string().regex(CONTEXT), rank)]).nullish(),
        steps: z.int().min(1).max(MAX_STEPS).nullish(),
      })
      .nullish(),
    `method (${METHODS.join(', ')}), contexts (a list such as ["image", "text"], or ["agnostic"]), rank (1 to ${MAX_RANK}, or one a context) and steps (1 to ${MAX_STEPS})`,
  ),
  metadata: field(
    z
      .record(z.string().max(64), z.string().max(512))
      .refine((value) => Object.keys(value).length <= 16)
      .nullish(),
    'at most 16 texts of at most 512 characters, by names of at most 64',
  ),
  integrations: field(z.array(z.never()).nullish(), '[] or null (there are none here)'),
};

type Body = Values<typeof JOB_FIELDS>;

/** Throws `invalid_request` or `unknown_field`. */
export function parseJob(body: unknown): JobAsk {
  const value = check(JOB_FIELDS, body, false) as Body;
  const { hyperparameters: older, graft, method } = value;
  const newer = method?.supervised?.hyperparameters;
  if (older && newer) throw both('hyperparameters', 'method.supervised.hyperparameters and hyperparameters');
  const given = newer ?? older;
  const steps = graft?.steps ?? null;
  const epochs = wish(given?.n_epochs);
  if (steps !== null && epochs !== 'auto') throw both('graft', 'n_epochs and graft.steps');
  return {
    model: value.model,
    trainingFile: value.training_file,
    validationFile: value.validation_file ?? null,
    suffix: value.suffix ?? null,
    seed: value.seed ?? null,
    wishes: { epochs, batch: wish(given?.batch_size), rateMultiplier: wish(given?.learning_rate_multiplier), steps },
    graft: { method: graft?.method ?? null, contexts: graft?.contexts ?? null, rank: graft?.rank ?? null },
    metadata: value.metadata ?? null,
  };
}

function wish(value: Auto<number> | null | undefined): Auto<number> {
  return value ?? 'auto';
}

function both(param: string, names: string): AppError {
  return new AppError('invalid_request', `${param}: Expected one of ${names} but received both`, { param });
}
