/**
 * The files of tenants as commands change them: found by the rules of `graft serve`, changed by one process at a time, judged as a whole before
 * anything is written, and replaced in one step, so that a server that reads at that moment has the old file or the new one.
 */
import { realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { type ConfigSources, findTenants } from '../../config.js';
import { AppError } from '../../errors.js';
import { hasTenant } from '../../tenants/edit.js';
import { parseTenants, type TenantEntry } from '../../tenants/file.js';
import { readFiles } from '../../tenants/place.js';
import { type Access, replaceFile } from '../../tensor/folder.js';
import { locked } from '../../tensor/lock.js';
import { othersIn } from '../tenants.js';

const USUAL = 'tenants.yaml';
/** Hashes are no secret that lets anybody in, and still nobody else's affair. */
const NEW_MODE = 0o600;
/** An editor's change comes between our reading and our writing only so often. */
const ATTEMPTS = 3;

export interface Book {
  /** A file, or a folder of them. */
  readonly location: string;
  /** What else may stand in a file. */
  readonly others: readonly string[];
}

/** A file of the book; without content where it is not there yet. */
interface Page {
  readonly path: string;
  readonly content: string | undefined;
}

export async function findBook(sources: ConfigSources): Promise<Book> {
  const found = await findTenants(sources);
  return { location: found.tenants ?? path.resolve(sources.folder, USUAL), others: othersIn(found) };
}

/** Throws `invalid_config` with every fault of every file. */
export async function readBook({ location, others }: Book): Promise<TenantEntry[]> {
  return parseTenants(await readFiles(location), others);
}

/**
 * Changes the file that has a tenant, or should have it, and says which one that is. Throws what `change` throws, and `invalid_config` where the
 * files would be wrong with it: nothing is written then.
 */
export async function changeBook(book: Book, tenant: string, change: (text: string) => string): Promise<string> {
  const place = await realpath(book.location).catch(() => book.location);
  const lock = path.join(path.dirname(place), `.${path.basename(place)}.lock`);
  return locked(lock, () => changeLocked(book, tenant, change));
}

async function changeLocked({ location, others }: Book, tenant: string, change: (text: string) => string): Promise<string> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const pages = await readPages(location);
    const page = await pageOf(location, pages, tenant);
    const content = change(page.content ?? '');
    const changed = [...pages.filter((other) => other.path !== page.path), { path: page.path, content }];
    parseTenants(
      changed.map((file) => ({ name: path.basename(file.path), content: file.content })),
      others,
    );
    if (await isUnchanged(page)) {
      await replaceFile(page.path, new TextEncoder().encode(content), await accessOf(page.path));
      return page.path;
    }
  }
  throw new AppError('conflict', `Expected ${location} to hold still but somebody else is changing it: please try again`);
}

async function readPages(location: string): Promise<(Page & { readonly content: string })[]> {
  if ((await stat(location).catch(() => undefined)) === undefined) return [];
  const files = await readFiles(location);
  return Promise.all(
    files.map(async ({ path: file, name, content }) => {
      if (typeof content === 'string') return { path: await realpath(file), content };
      throw new AppError('invalid_config', `${name}: Expected a file that can be read but received ${content.message}`);
    }),
  );
}

/** Of a folder the file that has the tenant, or one of the tenant's own. */
async function pageOf(location: string, pages: readonly (Page & { readonly content: string })[], tenant: string): Promise<Page> {
  const found = await stat(location).catch(() => undefined);
  if (found?.isDirectory()) {
    const having = pages.find(({ content }) => hasTenant(content, tenant));
    if (having) return having;
    const file = path.join(await realpath(location), `${tenant}.yaml`);
    return pages.find((page) => page.path === file) ?? { path: file, content: undefined };
  }
  if (pages[0]) return pages[0];
  if (/\.ya?ml$/.test(location)) return { path: location, content: undefined };
  throw new AppError('invalid_config', `Expected a file named *.yaml, or a folder that is there, but received ${location}`);
}

async function isUnchanged({ path: file, content }: Page): Promise<boolean> {
  const [now] = (await stat(file).catch(() => undefined)) ? await readFiles(file) : [];
  return now?.content === content;
}

/** As the file before it. */
async function accessOf(file: string): Promise<Access> {
  const before = await stat(file).catch(() => undefined);
  return before ?? { mode: NEW_MODE, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}
