/** Changes that a program makes to a file of tenants. All else in it stays, comments included. Nothing is read or written here. */
import { type Document, isCollection, isMap } from 'yaml';
import { AppError } from '../errors.js';
import { parseYaml } from './file.js';

export interface KeyDraft {
  readonly tenant: string;
  /** Undefined: key-1, or the first such that is free. */
  readonly id: string | undefined;
  readonly sha256: string;
  readonly expires: string | undefined;
  /** Only for a tenant that is new: whoever has a key of another would be raised with it. */
  readonly isAdmin: boolean;
}

export interface AddedKey {
  readonly text: string;
  readonly id: string;
  readonly isNewTenant: boolean;
}

/** Whether a file has a tenant. */
export function hasTenant(text: string, tenant: string): boolean {
  return parseYaml(text).hasIn(['tenants', tenant]);
}

/** Adds a key, and its tenant where that is new. Throws `invalid_config` where the file or the wish makes no sense. */
export function addKey(text: string, { tenant, id, sha256, expires, isAdmin }: KeyDraft): AddedKey {
  const document = open(text);
  const place = ['tenants', tenant];
  const isNewTenant = !document.hasIn(place);
  if (!isNewTenant && isAdmin && document.getIn([...place, 'admin']) !== true)
    throw fault(
      `a new tenant for an admin's key but received ${tenant}, which is there and no admin (that is for the file to say)`,
    );

  const taken = idsOf(document, tenant);
  if (id !== undefined && taken.includes(id)) throw fault(`another id for each key of ${tenant} but received ${id} again`);
  const free = id ?? firstFree(taken);
  const key = { id: free, sha256, ...(expires !== undefined && { expires }) };
  if (isNewTenant) {
    ensure(document, ['tenants'], {});
    document.setIn(place, document.createNode({ ...(isAdmin && { admin: true }), keys: [key] }));
  } else {
    ensure(document, [...place, 'keys'], []);
    document.addIn([...place, 'keys'], document.createNode(key));
  }
  return { text: print(document), id: free, isNewTenant };
}

/** Removes a key. Throws `invalid_config` where there is none such. */
export function removeKey(text: string, tenant: string, id: string): string {
  const document = open(text);
  if (!document.hasIn(['tenants', tenant])) throw fault(`a tenant that is there but received ${tenant}`);
  const ids = idsOf(document, tenant);
  const index = ids.indexOf(id);
  if (index < 0) throw fault(`a key of ${tenant} (${ids.join(', ') || 'it has none'}) but received ${id}`);
  document.deleteIn(['tenants', tenant, 'keys', index]);
  return print(document);
}

function open(text: string): Document {
  const document = parseYaml(text);
  const [error] = document.errors;
  if (error) throw fault(`YAML but received: ${error.message.split('\n')[0]}`);
  if (document.contents !== null && !isMap(document.contents)) throw fault('tenants by name but received something else');
  return document;
}

function idsOf(document: Document, tenant: string): string[] {
  const root = document.toJS() as {
    readonly tenants?: Readonly<Record<string, { readonly keys?: unknown } | null>> | null;
  } | null;
  const keys = root?.tenants?.[tenant]?.keys;
  return Array.isArray(keys) ? keys.map((key: { readonly id?: unknown } | null) => String(key?.id)) : [];
}

function firstFree(taken: readonly string[]): string {
  let number = 1;
  while (taken.includes(`key-${number}`)) number++;
  return `key-${number}`;
}

/** Makes what is missing on the way to a mapping or list. One that is empty is written in lines from now on. */
function ensure(document: Document, path: readonly string[], empty: object): void {
  for (let length = 1; length <= path.length; length++) {
    const part = path.slice(0, length);
    if (document.getIn(part) == null) document.setIn(part, document.createNode(length < path.length ? {} : empty));
    const collection = document.getIn(part);
    if (!isCollection(collection)) throw fault(`${part.join('.')} to hold others but received ${String(collection)}`);
    if (collection.items.length === 0) collection.flow = false;
  }
}

/** Lines stay as long as they are. */
function print(document: Document): string {
  return document.toString({ lineWidth: 0 });
}

function fault(sentence: string): AppError {
  return new AppError('invalid_config', `Expected ${sentence}`);
}
