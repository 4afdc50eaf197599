/** `graft keys create` and `revoke`: a key is written down as its hash first, and shown after that, so that every key that was shown works. */
import path from 'node:path';
import { z } from 'zod';
import { AppError } from '../../errors.js';
import { type AddedKey, addKey, removeKey } from '../../tenants/edit.js';
import { TENANT_NAME } from '../../tenants/file.js';
import { hashKey, makeKey } from '../../tenants/key.js';
import { shellWord } from '../shell.js';
import { changeBook, findBook } from './book.js';

export interface KeyFlags {
  readonly tenants?: string;
  readonly config?: string;
}

export interface CreateFlags extends KeyFlags {
  readonly id?: string;
  readonly expires?: string;
  readonly admin?: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

const UNIT_MS = { h: 3_600_000, d: 86_400_000 } as const;
/** JavaScript's last day is far behind this, YAML's readers may have others. */
const MAX_YEARS_MS = 100 * 365 * UNIT_MS.d;

/** The key, and what there is to say of it. Throws `invalid_config`. */
export async function createKey(
  tenant: string,
  { tenants, config, id, expires, admin = false }: CreateFlags,
  env: Environment,
  folder: string,
): Promise<{ readonly key: string; readonly note: string }> {
  if (!TENANT_NAME.test(tenant))
    throw new AppError('invalid_config', `Expected a tenant of a-z, 0-9 and -, of at most 64 characters, but received ${tenant}`);
  const book = await findBook({ flags: tenants === undefined ? {} : { tenants }, env, file: config, folder });
  const key = makeKey();
  const draft = {
    tenant,
    id,
    sha256: hashKey(key).toString('hex'),
    expires: expires === undefined ? undefined : parseExpiry(expires, Date.now()),
    isAdmin: admin,
  };
  let added: AddedKey | undefined;
  const file = await changeBook(book, tenant, (text) => {
    added = addKey(text, draft);
    return added.text;
  });
  const until = draft.expires === undefined ? 'never expires' : `expires at ${draft.expires}`;
  const lines = [
    `${added?.isNewTenant ? 'new tenant ' : ''}${tenant}: key ${added?.id} is in ${place(file, folder)} and ${until}`,
    'it is shown this once; a running server takes it up within 2 seconds, another is started with',
    `  graft serve --tenants ${shellWord(place(book.location, folder))}`,
  ];
  return { key, note: lines.join('\n') };
}

export async function revokeKey(
  tenant: string,
  id: string,
  { tenants, config }: KeyFlags,
  env: Environment,
  folder: string,
): Promise<string> {
  const book = await findBook({ flags: tenants === undefined ? {} : { tenants }, env, file: config, folder });
  const file = await changeBook(book, tenant, (text) => removeKey(text, tenant, id));
  return `key ${id} of ${tenant} is no longer in ${place(file, folder)}; a running server refuses it within 2 seconds`;
}

/** A time to come, as the file has it. Throws `invalid_config`. */
export function parseExpiry(text: string, nowMs: number): string {
  const [, amount, unit] = /^(\d{1,6})([dh])$/.exec(text) ?? [];
  const isTime = z.union([z.iso.datetime({ offset: true }), z.iso.date()]).safeParse(text).success;
  const ms =
    amount === undefined ? (isTime ? Date.parse(text) : Number.NaN) : nowMs + Number(amount) * UNIT_MS[unit as 'd' | 'h'];
  if (!(ms > nowMs && ms < nowMs + MAX_YEARS_MS))
    throw new AppError(
      'invalid_config',
      `--expires: Expected a time to come, as 90d, 12h, 2027-01-01 or 2027-01-01T00:00:00Z, but received ${text}`,
    );
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

/** From where one stands, if it is below. */
function place(file: string, folder: string): string {
  const relative = path.relative(folder, file);
  return relative === '' || relative.startsWith('..') ? file : relative;
}
