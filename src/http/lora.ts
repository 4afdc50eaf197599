/**
 * vLLM's two routes for adapters that come and go, with its fields and its words, so that what drives a vLLM drives this server. What is loaded is
 * copied into the store as a version: its folder may go away, and it is still there after a restart.
 */
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import type { Request, RequestHandler, Response } from 'express';
import { z } from 'zod';
import { AppError, type ErrorCode } from '../errors.js';
import { isBelow, takeFolder } from '../store/copy.js';
import { isName, NAME_FORM } from '../store/reference.js';
import { exchangeOf, partyOf } from './exchange.js';
import { checkFree, lifecycleOf, note } from './lifecycle.js';
import { bodyOf, jsonBody } from './multipart.js';
import type { About, Route } from './route.js';
import { boolean, check, type Fields, type Values } from './schema.js';
import { Scope } from './scope.js';
import type { Services } from './services.js';
import { loraAbout } from './versions.js';

const text = (expected: string) => ({ schema: z.string().max(4096).nullish(), expected, form: 'text' as const });
const never = { schema: z.literal(false).nullish(), expected: 'false or null', form: 'boolean' as const };
const lora_name = text('the name of the adapter');
const loadFields = {
  lora_name,
  lora_path: text('a folder below --lora-root, or a place of --allow-sources'),
  load_inplace: boolean,
  is_3d_lora_weight: never,
} satisfies Fields;
const unloadFields = {
  lora_name,
  lora_int_id: { schema: z.int().nullish(), expected: 'an integer', form: 'text' as const },
} satisfies Fields;

/** What loading can fail with, besides what both can. */
const LOADING: readonly ErrorCode[] = [
  'adapter_invalid',
  'adapter_too_large',
  'conflict',
  'queue_full',
  'engine_unavailable',
  'download_failed',
  'source_unavailable',
  'source_timeout',
  'disk_full',
];

export function loraRoutes(services: Services): Route[] {
  const route = (word: string, about: About, act: (req: Request, res: Response) => Promise<string>): Route => {
    const handler: RequestHandler = async (req, res) => {
      const said = await act(req, res);
      res.type('text/plain').send(said);
    };
    return { method: 'post', path: `/v1/${word}`, access: 'admin', handlers: [...jsonBody(), handler], about };
  };
  const toLoad = loraAbout('Load an adapter from a folder', loadFields, ['lora_name', 'lora_path'], LOADING);
  const toUnload = loraAbout('Forget an adapter', unloadFields, ['lora_name'], []);
  return [
    route('load_lora_adapter', toLoad, (req, res) => load(services, req, res)),
    route('unload_lora_adapter', toUnload, (req, res) => unload(services, req, res)),
  ];
}

async function load(services: Services, req: Request, res: Response): Promise<string> {
  const { publisher } = lifecycleOf(services);
  const { catalogue, engine, config } = services;
  const body = check(loadFields, bodyOf(req).value, false) as Values<typeof loadFields>;
  const { lora_name: name, lora_path: place } = body;
  if (!name || !place) throw new AppError('invalid_request', "Both 'lora_name' and 'lora_path' must be provided.");
  if (!isName(name))
    throw new AppError('invalid_request', `lora_name: Expected ${NAME_FORM} but received ${JSON.stringify(name.slice(0, 200))}`);
  checkFree(services, name);
  const exchange = exchangeOf(res);
  if (body.load_inplace !== true && catalogue.list(exchange.tenant).some((listed) => listed.name === name))
    throw new AppError(
      'invalid_request',
      `The lora adapter '${name}' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.`,
      { param: 'lora_name' },
    );
  const scope = new Scope(exchange, config.requestTimeoutMs);
  try {
    const { folder, root } = await placeOf(services, scope, name, place);
    const publication = { name, by: exchange.tenant.name, isCurrent: true };
    const { version } = await publisher.publish(publication, (intake) => takeFolder(folder, root, intake));
    note(services, res, name, 'publish', { version: version.version, digest: version.digest });
    const { adapter } = await catalogue.select(name, scope);
    engine.prefetch(partyOf(scope.tenant), [adapter.ref]);
    return `Success: LoRA adapter '${name}' added successfully.`;
  } finally {
    scope.end();
  }
}

async function unload(services: Services, req: Request, res: Response): Promise<string> {
  const { store } = lifecycleOf(services);
  const { lora_name: name } = check(unloadFields, bodyOf(req).value, false) as Values<typeof unloadFields>;
  if (!name) throw new AppError('invalid_request', "'lora_name' needs to be provided to unload a LoRA adapter.");
  if (!(await store.delete(name)))
    throw new AppError('adapter_not_found', `The lora adapter '${name}' cannot be found.`, { param: 'lora_name' });
  note(services, res, name, 'delete', {});
  return `Success: LoRA adapter '${name}' removed successfully.`;
}

/** The folder of a place, and what all of it has to lie below. What is not there and what may not be read are told alike. */
async function placeOf(
  { config, catalogue }: Services,
  scope: Scope,
  name: string,
  place: string,
): Promise<{ readonly folder: string; readonly root: string }> {
  if (/^(?:s3|hf):\/\//.test(place)) {
    const { adapter } = await catalogue.select(place, scope).catch((error: unknown) => {
      throw error instanceof AppError && error.code === 'adapter_not_found' ? notThere(name, place) : error;
    });
    const folder = await realpath(adapter.ref.folder);
    return { folder, root: folder };
  }
  if (config.loraRoot === null) throw notThere(name, place);
  const root = await realpath(config.loraRoot).catch(() => undefined);
  const folder = root && (await realpath(path.resolve(root, place)).catch(() => undefined));
  if (root === undefined || folder === undefined || !isBelow(root, folder)) throw notThere(name, place);
  return { folder, root };
}

function notThere(name: string, place: string): AppError {
  return new AppError('adapter_not_found', `Loading lora ${name} failed: No adapter found for ${place}`, { param: 'lora_path' });
}
