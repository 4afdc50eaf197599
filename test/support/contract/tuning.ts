/** What the routes for files and fine-tuning jobs are asked: what each answers, and what it refuses. */
import { colours, rowsOf } from '../finetuning.js';
import type { Ask, Call, Calls, Refusals } from './calls.js';
import type { Stage } from './stage.js';

const JOBS = '/v1/fine_tuning/jobs';
const ROWS = rowsOf(await colours());
/** Jobs of one tenant that are not over. */
const MAX_PENDING = 20;

function formOf(rows: string, purpose: string, field = 'file'): FormData {
  const form = new FormData();
  form.set('purpose', purpose);
  form.set(field, new Blob([rows]), 'train.jsonl');
  return form;
}

async function idOf(answer: Promise<Response>): Promise<string> {
  const { id } = (await (await answer).json()) as { id: string };
  return id;
}

const fileIn = (stage: Stage): Promise<string> =>
  idOf(fetch(stage.at('main', '/v1/files'), { method: 'POST', body: formOf(ROWS, 'fine-tune') }));

/** A job that would take for ever, and its file; those before it are cancelled. */
async function jobIn(stage: Stage): Promise<{ job: string; file: string }> {
  const { data } = (await (await fetch(stage.at('main', `${JOBS}?limit=100`))).json()) as { data: { id: string }[] };
  for (const { id } of data) await fetch(stage.at('main', `${JOBS}/${id}/cancel`), { method: 'POST' });
  const file = await fileIn(stage);
  return { job: await create(stage, file), file };
}

const wishOf = (training_file: string, more: object = {}): object => {
  return { training_file, model: 'tiny', graft: { steps: 1_000_000 }, ...more };
};

function create(stage: Stage, file: string, more: object = {}): Promise<string> {
  const headers = { 'content-type': 'application/json' };
  return idOf(fetch(stage.at('main', JOBS), { method: 'POST', headers, body: JSON.stringify(wishOf(file, more)) }));
}

const asking =
  (more: object = {}): Call =>
  async (stage): Promise<Ask> => ({ url: stage.at('main', JOBS), body: wishOf(await fileIn(stage), more) });

const uploading =
  (rows: string, purpose = 'fine-tune', field = 'file'): Call =>
  (stage) => ({ url: stage.at('main', '/v1/files'), body: formOf(rows, purpose, field) });

const at =
  (place: string, server: Parameters<Stage['at']>[0] = 'main'): Call =>
  (stage) => ({ url: stage.at(server, place) });

const ofFile =
  (place = ''): Call =>
  async (stage) => ({ url: stage.at('main', `/v1/files/${await fileIn(stage)}${place}`) });

const ofJob =
  (place = ''): Call =>
  async (stage) => ({ url: stage.at('main', `${JOBS}/${(await jobIn(stage)).job}${place}`) });

/** A list of a server that does not fine-tune, and queries that are none. */
const listing = (place: string): Refusals => ({
  not_found: at(place, 'tight'),
  invalid_request: at(`${place}?limit=0`),
  unknown_field: at(`${place}?offset=3`),
});

export const TUNING_CALLS: Readonly<Record<string, Calls>> = {
  'GET /v1/files': { replies: [at('/v1/files?order=asc&limit=2')], refusals: listing('/v1/files') },
  'POST /v1/files': {
    replies: [uploading(ROWS)],
    refusals: {
      not_found: at('/v1/files', 'tight'),
      invalid_request: uploading('no row'),
      unknown_field: uploading(ROWS, 'fine-tune', 'document'),
      payload_too_large: uploading('x'.repeat(9_000_000)),
      unsupported_media_type: (stage) => ({ url: stage.at('main', '/v1/files'), body: { purpose: 'fine-tune' } }),
    },
  },
  'GET /v1/files/{id}': { replies: [ofFile()], refusals: { not_found: at('/v1/files/x') } },
  'DELETE /v1/files/{id}': {
    replies: [ofFile()],
    refusals: {
      not_found: at('/v1/files/x'),
      conflict: async (stage) => ({ url: stage.at('main', `/v1/files/${(await jobIn(stage)).file}`) }),
    },
  },
  'GET /v1/files/{id}/content': { replies: [ofFile('/content')], refusals: { not_found: at('/v1/files/x/content') } },
  [`GET ${JOBS}`]: { replies: [at(JOBS), at(`${JOBS}?limit=1`)], refusals: listing(JOBS) },
  [`POST ${JOBS}`]: {
    replies: [
      asking(),
      asking({
        model: 'english',
        suffix: 'mine',
        seed: 3,
        metadata: { team: 'docs' },
        graft: { method: 'lora', rank: { text: 2 }, steps: 1 },
      }),
      asking({
        graft: null,
        method: {
          type: 'supervised',
          supervised: { hyperparameters: { n_epochs: 1, batch_size: 'auto', learning_rate_multiplier: 0.5 } },
        },
      }),
    ],
    refusals: {
      not_found: (stage) => ({ url: stage.at('main', JOBS), body: wishOf('file-x') }),
      invalid_request: asking({ suffix: 'a/b' }),
      unknown_field: asking({ warmth: 1 }),
      unsupported_media_type: async (stage) => ({ ...(await asking()(stage)), headers: { 'content-type': 'text/plain' } }),
      payload_too_large: asking({ metadata: { text: 'a'.repeat(1_100_000) } }),
      adapter_not_found: asking({ model: 'nobody' }),
      adapter_invalid: asking({ model: 'broken' }),
      conflict: async (stage) => {
        const { file } = await jobIn(stage);
        await create(stage, file, { suffix: 'twice' });
        return { url: stage.at('main', JOBS), body: wishOf(file, { suffix: 'twice' }) };
      },
      queue_full: async (stage) => {
        const { file } = await jobIn(stage);
        for (let count = 1; count < MAX_PENDING; count++) await create(stage, file);
        return { url: stage.at('main', JOBS), body: wishOf(file) };
      },
      download_failed: asking({ model: 'hf://owner/model@portal' }),
      source_unavailable: asking({ model: 'hf://owner/model@busy' }),
      source_timeout: asking({ model: 'hf://owner/model@slow' }),
    },
  },
  [`GET ${JOBS}/{id}`]: { replies: [ofJob()], refusals: { not_found: at(`${JOBS}/x`) } },
  [`POST ${JOBS}/{id}/cancel`]: {
    replies: [ofJob('/cancel')],
    refusals: {
      not_found: at(`${JOBS}/x/cancel`),
      conflict: async (stage) => {
        const { url } = await ofJob('/cancel')(stage);
        await fetch(url, { method: 'POST' });
        return { url };
      },
    },
  },
  [`GET ${JOBS}/{id}/events`]: {
    replies: [ofJob('/events')],
    refusals: {
      not_found: at(`${JOBS}/x/events`),
      invalid_request: async (stage) => ({ url: `${(await ofJob('/events')(stage)).url}?after=x` }),
      unknown_field: async (stage) => ({ url: `${(await ofJob('/events')(stage)).url}?offset=3` }),
    },
  },
};
