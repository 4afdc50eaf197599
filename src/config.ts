/**
 * Every setting in one table: what it may be, what it is unless told, and the sentence that explains it. Flags, environment and graft.yaml
 * all derive from it (`maxBatch` is `--max-batch`, `GRAFT_MAX_BATCH` and `maxBatch:`), so that none of them can know more than the others.
 * A flag wins over the environment, that over the file, that over the default; all wrong values are named at once.
 */
import { readFile } from 'node:fs/promises';
import { BlockList, isIP } from 'node:net';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseDocument } from 'yaml';
import type { z } from 'zod';
import { AppError } from './errors.js';
import {
  bytes,
  choice,
  count,
  integer,
  kebab,
  list,
  location,
  namedTexts,
  optional,
  redisUrl,
  type Setting,
  text,
  toggle,
  userWeightsCache,
  weightSettings,
} from './settings.js';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;

/** What is served unless told: a small backbone that comes with the package, and its adapters. The same place from src and from dist. */
const SHIPPED = {
  backbone: fileURLToPath(new URL('../models/scenes', import.meta.url)),
  adapters: fileURLToPath(new URL('../adapters', import.meta.url)),
};

const SETTINGS = {
  backbone: {
    ...location(
      'Backbone: a folder with backbone.json, that file, or a language checkpoint folder (text only); default: the one that comes along, which knows drawn scenes only',
    ),
    default: SHIPPED.backbone,
  },
  adapters: {
    ...optional(
      location(
        'Folder of adapters, one a sub-folder; default: those of the default backbone; with another one ./adapters where it exists',
      ),
    ),
    default: null,
  },
  adapterSource: {
    ...optional(
      namedTexts(
        'NAME=PLACE',
        'Adapter that comes from elsewhere: NAME=s3://BUCKET/FOLDER or NAME=hf://OWNER/NAME[@REVISION][/FOLDER]; may be repeated',
      ),
    ),
    default: null,
  },
  allowSources: {
    ...optional({
      ...list(
        'Places that requests may name as their adapter, by how they begin: s3://BUCKET/FOLDER, hf://OWNER; may be repeated; default: none',
      ),
      isRepeated: true as const,
    }),
    default: null,
  },
  diskCache: {
    ...optional(location("Folder for adapters that come from elsewhere; default: graft in the system's folder for caches")),
    default: null,
  },
  diskCacheBytes: { ...bytes('Room for them on the disk'), default: 10 * 1024 ** 3 },
  sourceMaxBytes: { ...bytes('Largest adapter that is fetched'), default: 1024 ** 3 },
  sourceRefreshMs: {
    ...integer(0, 86_400_000, 'Age at which a source is asked whether it has another version, in milliseconds'),
    default: 300_000,
  },
  sourceTimeoutMs: { ...integer(1, 86_400_000, 'Longest time for fetching one adapter, in milliseconds'), default: 300_000 },
  store: {
    ...optional(location('Folder for adapters that are published to this server over HTTP; without it nobody can publish any')),
    default: null,
  },
  maxAdapterBytes: { ...bytes('Largest adapter that can be published'), default: 1024 ** 3 },
  loraRoot: {
    ...optional(location('Folder below which POST /v1/load_lora_adapter may read adapters; default: none')),
    default: null,
  },
  host: { ...text('Address to listen on; others than this machine need tenants, or open'), default: '127.0.0.1' },
  port: { ...integer(0, 65_535, 'Port to listen on; 0 takes a free one'), default: 8080 },
  tenants: {
    ...optional(
      location(
        'Who may come, and what they see: a YAML file or a folder of them (graft keys create makes it); without it this machine alone',
      ),
    ),
    default: null,
  },
  open: { ...toggle('Without tenants: let everybody who reaches the host do everything'), default: false },
  maxBatch: { ...integer(1, 1024, 'Sequences that run at once; every one reserves its key-value cache'), default: 32 },
  contextLength: {
    ...optional(integer(8, 1_048_576, 'Tokens a sequence can hold; default: what the checkpoint was made for, at most 2048')),
    default: null,
  },
  threads: { ...integer(1, 1024, 'Threads that compute'), default: availableParallelism() },
  ...weightSettings,
  adapterCacheBytes: { ...bytes('Memory for adapters'), default: 1024 ** 3 },
  visionCacheBytes: { ...bytes('Memory for encoded images'), default: 256 * 10 ** 6 },
  prefillTokens: { ...integer(1, 1_048_576, 'Prompt tokens that one step may take in'), default: 512 },
  queueLimit: { ...integer(1, 1_000_000, 'Requests that may wait; one more gets a 429'), default: 256 },
  defaultAdapter: { ...optional(text('Adapter of caption requests that name none; without it they are refused')), default: null },
  requestTimeoutMs: { ...integer(1, 86_400_000, 'Longest time for one request, in milliseconds'), default: 60_000 },
  maxImageBytes: { ...bytes('Largest image file'), default: 20 * 10 ** 6 },
  maxImagePixels: { ...integer(1, 1e9, 'Most pixels of an image, all its frames together'), default: 64e6 },
  imageHosts: {
    ...optional(
      list('Hosts from which image URLs are fetched, such as images.example.com,*.cdn.example.com; without it URLs are refused'),
    ),
    default: null,
  },
  imageFetchMs: { ...integer(1, 600_000, 'Longest time to fetch an image from its URL, in milliseconds'), default: 5_000 },
  imageProcesses: { ...count(1, 2, 'Processes that decode images'), default: 1 as const },
  maxTokens: { ...integer(1, 1_048_576, 'Upper bound of max_tokens'), default: 256 },
  redis: {
    ...optional(redisUrl('Redis in which servers count together what tenants use of their limits; without it each counts alone')),
    default: null,
  },
  quotaFailure: {
    ...choice(
      ['open', 'closed'],
      'While that Redis is away: open (each server counts alone) or closed (requests of tenants with limits get a 503)',
    ),
    default: 'open' as const,
  },
  finetuning: {
    ...optional(location('Folder of training files and fine-tuning jobs; without it nobody can fine-tune here')),
    default: null,
  },
  maxTrainingBytes: { ...bytes('Training files of one tenant together'), default: 1024 ** 3 },
  finetuningThreads: { ...integer(1, 1024, 'Threads that train one job'), default: 1 },
  finetuningJobs: { ...integer(1, 64, 'Jobs that are trained at once'), default: 1 },
  drainMs: {
    ...integer(0, 3_600_000, 'Time for outstanding requests when the server is told to stop, in milliseconds'),
    default: 20_000,
  },
  logLevel: { ...choice(LOG_LEVELS, 'Least severe log lines to print'), default: 'info' as const },
  traces: {
    ...optional(
      text(
        'OTLP/HTTP collector that gets a trace of each request, such as http://localhost:4318; default: OTEL_EXPORTER_OTLP_ENDPOINT',
      ),
    ),
    default: null,
  },
} satisfies Record<string, Setting<unknown>>;

export type ConfigKey = keyof typeof SETTINGS;
export type Config = { readonly [Key in ConfigKey]: z.output<(typeof SETTINGS)[Key]['schema']> } & {
  /** The user's own where none was named. */
  readonly weightsCache: string;
  /** The file of settings that was read; null where there was none. */
  readonly settingsFile: string | null;
};

export const CONFIG_KEYS = Object.keys(SETTINGS) as ConfigKey[];

/** Where values come from. */
export interface ConfigSources {
  /** By config key, as the command line gave them; true where one stands without a value. */
  readonly flags: Readonly<Partial<Record<ConfigKey, string | true>>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `--config`; a file that must exist. */
  readonly file?: string | undefined;
  readonly folder: string;
}

/** A flag as `--help` shows it. */
export interface FlagInfo {
  readonly key: ConfigKey;
  readonly flag: string;
  readonly environment: string;
  readonly help: string;
  readonly isRepeated: boolean;
  readonly isToggle: boolean;
}

export function flagInfos(): FlagInfo[] {
  return CONFIG_KEYS.map((key) => {
    const { help, default: value, isPath, isRepeated, isToggle }: Setting<unknown> = SETTINGS[key];
    const isShown = !isPath && (typeof value === 'string' || typeof value === 'number');
    const shown = isShown ? ` (default ${value})` : '';
    return {
      key,
      flag: `--${kebab(key)}`,
      environment: environmentName(key),
      help: `${help}${shown}`,
      isRepeated: isRepeated === true,
      isToggle: isToggle === true,
    };
  });
}

/** Reads all sources into one frozen configuration. Throws `invalid_config` naming every wrong value: its key, source, what was expected, what came. */
export async function loadConfig(sources: ConfigSources): Promise<Config> {
  const faults: string[] = [];
  const file = await readFileValues(sources, faults);
  const values = Object.fromEntries(CONFIG_KEYS.map((key) => [key, resolve(key, sources, file, faults)]));
  checkReach(values, faults);
  if (faults.length > 0) throw AppError.ofFaults('invalid_config', 'The configuration is wrong', faults);
  values['weightsCache'] ??= userWeightsCache(sources.env);
  values['settingsFile'] = file?.path ?? null;
  if (isShipped(values as Config)) values['adapters'] ??= SHIPPED.adapters;
  return Object.freeze(values) as Config;
}

/** Where the tenants are, for commands that need nothing else. Throws `invalid_config` where that, or the file of settings, is wrong. */
export async function findTenants(sources: ConfigSources): Promise<Pick<Config, 'tenants' | 'settingsFile'>> {
  const faults: string[] = [];
  const file = await readFileValues(sources, faults);
  const tenants = resolve('tenants', sources, file, faults) as Config['tenants'];
  if (faults.length > 0) throw AppError.ofFaults('invalid_config', 'The configuration is wrong', faults);
  return { tenants, settingsFile: file?.path ?? null };
}

/** Whether only this machine reaches an address. */
export function isLoopback(host: string): boolean {
  const version = isIP(host);
  return version === 0 ? host.toLowerCase() === 'localhost' : LOOPBACK.check(host, version === 4 ? 'ipv4' : 'ipv6');
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** Nobody shall open a server to others by setting its address alone. */
function checkReach({ host, tenants, open }: Partial<Config>, faults: string[]): void {
  if (open && tenants)
    faults.push('open: Expected false where there are tenants but received true: it would be unsaid which of the two holds');
  if (open === false && tenants === null && host !== undefined && !isLoopback(host))
    faults.push(
      `host: Expected this machine alone (127.0.0.1, ::1, localhost) but received ${JSON.stringify(host)}: whoever reaches it could do everything. ` +
        'Say who may come with --tenants (graft keys create makes them), or --open to let everybody in',
    );
}

/** Whether the backbone is the one that comes along. */
export function isShipped({ backbone }: Pick<Config, 'backbone'>): boolean {
  return backbone === SHIPPED.backbone;
}

interface FileValues {
  readonly path: string;
  readonly name: string;
  readonly folder: string;
  readonly values: ReadonlyMap<string, unknown>;
}

function resolve(key: ConfigKey, { flags, env, folder }: ConfigSources, file: FileValues | null, faults: string[]): unknown {
  const setting: Setting<unknown> = SETTINGS[key];
  const variable = environmentName(key);
  const found = [
    { value: flags[key], source: `--${kebab(key)}`, folder },
    { value: env[variable] === '' ? undefined : env[variable], source: variable, folder },
    { value: file?.values.get(key), source: file?.name ?? '', folder: file?.folder ?? folder },
  ].find(({ value }) => value !== undefined);

  if (!found) return setting.default;
  const parsed = setting.schema.safeParse(found.value);
  if (!parsed.success) {
    const received = setting.isSecret ? 'something else, which is not shown' : JSON.stringify(found.value);
    faults.push(`${key} (${found.source}): Expected ${setting.expected} but received ${received}`);
  }
  return setting.isPath && typeof parsed.data === 'string' ? path.resolve(found.folder, parsed.data) : parsed.data;
}

async function readFileValues(sources: ConfigSources, faults: string[]): Promise<FileValues | null> {
  const { env, folder } = sources;
  const asked = sources.file ?? (env['GRAFT_CONFIG'] || undefined);
  const file = path.resolve(folder, asked ?? 'graft.yaml');
  const content = await readFile(file, 'utf8').catch((thrown: unknown) => {
    const error = thrown as NodeJS.ErrnoException;
    if (asked !== undefined || error.code !== 'ENOENT')
      faults.push(`config: Expected a readable file at ${file} but received ${error.code ?? error.message}`);
    return null;
  });
  if (content === null) return null;

  const document = parseDocument(content);
  const name = path.basename(file);
  for (const { message } of document.errors) faults.push(`${name}: Expected YAML but received: ${message.split('\n')[0]}`);
  const value: unknown = document.errors.length > 0 ? {} : (document.toJS() ?? {});
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    faults.push(`${name}: Expected settings as "key: value" lines but received ${JSON.stringify(value)}`);
    return null;
  }
  const values = new Map(Object.entries(value as Record<string, unknown>));
  for (const key of values.keys()) {
    if (!Object.hasOwn(SETTINGS, key))
      faults.push(`${name}: Expected a known setting but received ${key}; did you mean ${nearest(key)}?`);
  }
  // Tenants that stand here themselves: this file is theirs too, and read as such by whoever reads theirs.
  if (typeof values.get('tenants') === 'object' && values.get('tenants') !== null) values.set('tenants', file);
  return { path: file, name, folder: path.dirname(file), values };
}

function environmentName(key: string): string {
  return `GRAFT_${kebab(key).replaceAll('-', '_').toUpperCase()}`;
}

/** The known key with the fewest edits to this one. */
function nearest(unknown: string): string {
  const plain = (key: string) => key.replace(/[^a-z0-9]/gi, '').toLowerCase();
  const ranked = CONFIG_KEYS.map((key) => ({ key, distance: editDistance(plain(unknown), plain(key)) }));
  return ranked.reduce((best, next) => (next.distance < best.distance ? next : best)).key;
}

/** Levenshtein's: insertions, deletions and replacements. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
