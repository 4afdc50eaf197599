/** A fine-tuning job as it is kept: what was asked for, what that came to, and how far it got. */
import { z } from 'zod';

/** In OpenAI's words. */
export const STATUSES = ['validating_files', 'queued', 'running', 'succeeded', 'failed', 'cancelled'] as const;
export type Status = (typeof STATUSES)[number];
export type FinalStatus = 'succeeded' | 'failed' | 'cancelled';

export const METHODS = ['lora', 'bitfit', 'ia3'] as const;

const count = z.int().nonnegative();
const positive = z.int().positive();
const rank = z.union([positive, z.record(z.string(), positive)]);

/** What is ours beside OpenAI's hyperparameters; null: as the adapter has it that a job begins with, else as `graft train` does it. */
export const GraftJson = z.strictObject({
  method: z.enum(METHODS).nullable(),
  contexts: z.array(z.string()).nullable(),
  rank: rank.nullable(),
});
export type GraftOptions = Readonly<z.infer<typeof GraftJson>>;

const ErrorJson = z.strictObject({ code: z.string(), message: z.string(), param: z.string().nullable() });
export type JobError = Readonly<z.infer<typeof ErrorJson>>;

export const JobJson = z.strictObject({
  id: z.string(),
  /** Its owner; empty where there are no tenants. */
  tenant: z.string(),
  /** Milliseconds since 1970. */
  createdAt: count,
  startedAt: count.nullable(),
  finishedAt: count.nullable(),
  status: z.enum(STATUSES),
  error: ErrorJson.nullable(),
  /** What it was told to begin with: the backbone's name, or an adapter's. */
  model: z.string(),
  /** The adapter that it begins with, as it was then; null for the bare backbone. */
  from: z.strictObject({ name: z.string(), digest: z.string() }).nullable(),
  trainingFile: z.string(),
  validationFile: z.string().nullable(),
  /** The name that its adapter gets. */
  result: z.string(),
  /** ... and got: what was published. */
  published: z.strictObject({ version: count.nullable(), digest: z.string() }).nullable(),
  seed: count,
  epochs: positive,
  batch: positive,
  rateMultiplier: z.number().positive(),
  steps: positive,
  graft: GraftJson,
  metadata: z.record(z.string(), z.string()).nullable(),
  trainedTokens: count.nullable(),
  /** Starts of its training since a step of it was last done: a job that takes the machine down must not do so for ever. */
  attempts: count,
});

export type Job = Readonly<z.infer<typeof JobJson>>;

export function isOver({ status }: Pick<Job, 'status'>): boolean {
  return status === 'succeeded' || status === 'failed' || status === 'cancelled';
}

export const EventJson = z.strictObject({
  id: z.string(),
  createdAt: count,
  level: z.enum(['info', 'warn', 'error']),
  message: z.string(),
  /** Numbers of a step or an evaluation; null for plain words. */
  data: z.record(z.string(), z.union([z.number(), z.string()])).nullable(),
});

export type JobEvent = Readonly<z.infer<typeof EventJson>>;
