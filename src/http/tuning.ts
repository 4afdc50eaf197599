/** What the description of the API says of files and of fine-tuning jobs: what they take, what they answer, how they fail. */
import { z } from 'zod';
import type { ErrorCode } from '../errors.js';
import { STATUSES } from '../finetuning/job.js';
import { JOB_FIELDS } from './hyperparameters.js';
import { pageFields } from './page.js';
import { BYTES, TEXT } from './replies.js';
import type { About } from './route.js';

export const PURPOSE = 'fine-tune';
export const CONTENT_TYPE = 'application/jsonl';

/** Fields of the queries of lists. */
export const FILES_QUERY = {
  ...pageFields(10_000),
  purpose: { schema: z.string().nullish(), expected: 'a purpose of files', form: 'text' as const },
  order: { schema: z.enum(['asc', 'desc']).nullish(), expected: 'asc or desc', form: 'text' as const },
};
export const JOBS_QUERY = pageFields(100);

/** What every route here can fail with: there may be no folder for it, or another server may still have it. */
const COMMON: readonly ErrorCode[] = ['not_found', 'engine_unavailable', 'shutting_down'];
const LISTING: readonly ErrorCode[] = [...COMMON, 'invalid_request', 'unknown_field'];

const count = z.int().min(0);
const time = count.nullable();
const text = z.string();

function listOf(item: z.ZodType, id: string) {
  const body = {
    object: z.literal('list'),
    data: z.array(item),
    has_more: z.boolean(),
    first_id: text.nullable(),
    last_id: text.nullable(),
  };
  return z.strictObject(body).meta({ id });
}

const file = z
  .strictObject({
    id: text,
    object: z.literal('file'),
    bytes: count,
    created_at: count,
    filename: text,
    purpose: z.literal(PURPOSE),
    status: z.literal('processed'),
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
    rows: count,
  })
  .meta({ id: 'File' });
const deleted = z.strictObject({ id: text, object: z.literal('file'), deleted: z.literal(true) }).meta({ id: 'FileDeleted' });

const numbers = z
  .strictObject({ n_epochs: count, batch_size: count, learning_rate_multiplier: z.number() })
  .meta({ id: 'Hyperparameters' });
const graft = z
  .strictObject({
    method: text.nullable(),
    contexts: z.array(text).nullable(),
    rank: z.union([count, z.record(z.string(), count)]).nullable(),
    steps: count,
    from: z.strictObject({ name: text, digest: text }).nullable().meta({ description: 'The adapter that it begins with.' }),
    version: count.nullable(),
    digest: text.nullable().meta({ description: 'Of the adapter that came out.' }),
  })
  .meta({
    id: 'FineTuningGraft',
    description: "What is ours beside OpenAI's; null: as the adapter has it that a job begins with.",
  });
const job = z
  .strictObject({
    id: text,
    object: z.literal('fine_tuning.job'),
    created_at: count,
    finished_at: time,
    estimated_finish: time,
    status: z.enum(STATUSES),
    error: z.strictObject({ code: text, message: text, param: text.nullable() }).nullable(),
    model: text,
    fine_tuned_model: text.nullable().meta({ description: 'The adapter that came out, to be asked for.' }),
    organization_id: text,
    training_file: text,
    validation_file: text.nullable(),
    result_files: z.array(text),
    trained_tokens: count.nullable(),
    hyperparameters: numbers,
    method: z.strictObject({ type: z.literal('supervised'), supervised: z.strictObject({ hyperparameters: numbers }) }),
    seed: count,
    integrations: z.array(text),
    metadata: z.record(z.string(), text).nullable(),
    graft,
  })
  .meta({ id: 'FineTuningJob' });
const event = z
  .strictObject({
    id: text,
    object: z.literal('fine_tuning.job.event'),
    created_at: count,
    level: z.enum(['info', 'warn', 'error']),
    message: text,
    type: z.enum(['message', 'metrics']),
    data: z.record(z.string(), z.union([z.number(), text])).nullable(),
  })
  .meta({ id: 'FineTuningEvent' });

const tag = 'fine-tuning';
const parameters = { id: 'The id of a file.' };
const jobParameters = { id: 'The id of a job.' };

export const listFilesAbout: About = {
  tag,
  summary: 'Training files, the newest first',
  query: FILES_QUERY,
  reply: { schema: listOf(file, 'FileList') },
  errors: LISTING,
};

export const uploadAbout: About = {
  tag,
  summary: 'Upload a training file',
  description:
    'JSON lines in the form of OpenAI, images as data URIs. Every row is read; a file with a wrong one is refused as a whole.',
  body: { schema: z.strictObject({ file: BYTES, purpose: z.literal(PURPOSE) }), type: 'multipart/form-data' },
  reply: { schema: file },
  errors: [...LISTING, 'payload_too_large', 'unsupported_media_type', 'disk_full'],
};

export const fileAbout: About = { tag, summary: 'A training file', parameters, reply: { schema: file }, errors: COMMON };

export const contentAbout: About = {
  tag,
  summary: 'The rows of a training file',
  parameters,
  reply: { type: CONTENT_TYPE, schema: TEXT },
  errors: COMMON,
};

export const deleteAbout: About = {
  tag,
  summary: 'Delete a training file',
  parameters,
  reply: { schema: deleted },
  errors: [...COMMON, 'conflict'],
};

export const listJobsAbout: About = {
  tag,
  summary: 'Fine-tuning jobs, the newest first',
  query: JOBS_QUERY,
  reply: { schema: listOf(job, 'FineTuningJobList') },
  errors: LISTING,
};

export const createAbout: About = {
  tag,
  summary: 'Begin a fine-tuning job',
  description:
    'From the backbone, or from an adapter as it is now. The result is asked for by its name as soon as the job has succeeded.',
  body: { fields: JOB_FIELDS },
  reply: { schema: job },
  errors: [
    ...LISTING,
    'unsupported_media_type',
    'payload_too_large',
    'adapter_not_found',
    'adapter_invalid',
    'adapter_changed',
    'adapter_too_large',
    'conflict',
    'queue_full',
    'deadline_exceeded',
    'download_failed',
    'source_unavailable',
    'source_timeout',
    'disk_full',
  ],
};

export const jobAbout: About = {
  tag,
  summary: 'A fine-tuning job',
  parameters: jobParameters,
  reply: { schema: job },
  errors: COMMON,
};

export const cancelAbout: About = {
  tag,
  summary: 'Cancel a fine-tuning job',
  parameters: jobParameters,
  reply: { schema: job },
  errors: [...COMMON, 'conflict'],
};

export const eventsAbout: About = {
  tag,
  summary: 'What happened to a fine-tuning job, the newest first',
  parameters: jobParameters,
  query: JOBS_QUERY,
  reply: { schema: listOf(event, 'FineTuningEventList') },
  errors: LISTING,
};
