/**
 * The adapters that a request may name: those of the folder, those that were published to the store, and those that come from elsewhere. Everything
 * here is asked for by a tenant, and what that tenant may not see is as if it were nowhere: absent from lists, and refused with the words for
 * what there is not.
 */
import type { AdapterRegistry, RegisteredAdapter } from '../adapter/registry.js';
import { AppError } from '../errors.js';
import type { NamedSource, SourceLibrary } from '../sources/library.js';
import { parseReference, type Reference } from '../store/reference.js';
import type { AdapterStore, StoredAdapter } from '../store/store.js';
import type { Tenant } from '../tenants/tenant.js';
import { partyOf } from './exchange.js';

/** The part of the registry that requests need; a server without an adapters folder has an empty one. */
export type AdapterDirectory = Pick<AdapterRegistry, 'list' | 'get' | 'rescan'>;

/** The part of the store that requests need. */
export type VersionDirectory = Pick<AdapterStore, 'list' | 'get' | 'select' | 'examine'>;

/** An adapter as lists show it: there, or still to be fetched. */
export type Listed = RegisteredAdapter | NamedSource;

/** What an adapter is chosen for: it stays for as long as that lasts. */
export interface Keeper {
  readonly tenant: Tenant;
  /** Requests that have it in common get the same version of a split. */
  readonly stickyKey: string;
  readonly signal: AbortSignal;
  keep(release: () => void): void;
}

export interface SelectedAdapter {
  readonly adapter: RegisteredAdapter;
  /** As it was asked for. */
  readonly reference: string;
  /** How long its source was waited for. */
  readonly fetchMs: number;
}

export class Catalogue {
  readonly #adapters: AdapterDirectory;
  readonly #sources: SourceLibrary | null;
  readonly #store: VersionDirectory | null;

  constructor(adapters: AdapterDirectory, sources: SourceLibrary | null, store: VersionDirectory | null = null) {
    this.#adapters = adapters;
    this.#sources = sources;
    this.#store = store;
  }

  /** All there are, whoever may see them. */
  get size(): number {
    return this.#all().length;
  }

  /** What a tenant can ask for by name, sorted. */
  list(tenant: Tenant): Listed[] {
    return this.#all().filter(({ name }) => tenant.sees(name));
  }

  /** Whether an operator has said where the adapter of this name comes from: it comes from nowhere else then. */
  isConfigured(name: string): boolean {
    return this.#sources?.knows(name) ?? false;
  }

  /** Whether a tenant may ask for an adapter of this reference, or at this place, be it there or not. */
  isVisible(reference: string, tenant: Tenant): boolean {
    const { name } = parse(reference);
    return tenant.sees(this.#sources?.spelling(name) ?? name);
  }

  /**
   * The adapter of a reference (`NAME`, `NAME@3`, `NAME@sha256:...`, a place), fetched first where it comes from elsewhere. What an operator has
   * named so wins over what was published, and that over a folder of that name. Throws `adapter_not_found`, the same for what there is not and for
   * what may not be asked for; `adapter_invalid` with the reason where its files are not in order; what the library throws. Whether there is what a
   * tenant does not see is not even looked up: no clock can tell.
   */
  async select(reference: string, keeper: Keeper): Promise<SelectedAdapter> {
    if (!this.isVisible(reference, keeper.tenant)) throw unknownAdapter(reference);
    const parsed = parse(reference);
    const { name, version, digest } = parsed;
    if (this.#store?.get(name) && !this.isConfigured(name)) return this.#stored(reference, parsed, keeper, this.#store);
    const found = version === undefined ? await this.#found(name, keeper) : undefined;
    if (found === undefined || (digest !== undefined && digest !== found.adapter.ref.digest)) throw unknownAdapter(reference);
    return { reference, ...found, adapter: sound(reference, found.adapter) };
  }

  /** The engine found other content than the digest says: looks again. */
  async refresh(adapter: RegisteredAdapter): Promise<void> {
    const { source, ref } = adapter;
    if (isStored(adapter)) await this.#store?.examine(ref.digest);
    else if (source === undefined) await this.#adapters.rescan();
    else await this.#sources?.mend(ref.digest);
  }

  /** What a request for an image is told that names no adapter, or the backbone alone. */
  required(tenant: Tenant, param: string, received: string): AppError {
    const known = this.list(tenant)
      .slice(0, 10)
      .map(({ name }) => name);
    const such = known.join(', ') || 'one in the adapters folder';
    return new AppError(
      'adapter_required',
      `${param}: Expected the name of an adapter (such as ${such}) but received ${received}: a bare backbone cannot see`,
      { param },
    );
  }

  #stored(reference: string, parsed: Reference, keeper: Keeper, store: VersionDirectory): SelectedAdapter {
    const held = store.select(parsed, keeper.stickyKey);
    if (held === undefined) throw unknownAdapter(reference);
    keeper.keep(held.release);
    return { reference, adapter: sound(reference, held.adapter), fetchMs: 0 };
  }

  /** From elsewhere, or from the folder. */
  async #found(name: string, keeper: Keeper): Promise<Omit<SelectedAdapter, 'reference'> | undefined> {
    if (this.#sources?.knows(name)) {
      const { adapter, fetchMs, release } = await this.#sources
        .acquire(name, keeper.signal, partyOf(keeper.tenant))
        .catch((error: unknown) => {
          throw error instanceof AppError && error.code === 'adapter_not_found' ? unknownAdapter(name) : error;
        });
      keeper.keep(release);
      return { adapter, fetchMs };
    }
    const adapter = this.#adapters.get(name);
    return adapter && { adapter, fetchMs: 0 };
  }

  #all(): Listed[] {
    const named = this.#sources?.list() ?? [];
    const names = new Set(named.map(({ name }) => name));
    const stored = this.#store?.list().filter(({ name }) => !names.has(name)) ?? [];
    for (const { name } of stored) names.add(name);
    const own = this.#adapters.list().filter(({ name }) => !names.has(name));
    return [...own, ...stored, ...named].sort((a, b) => (a.name < b.name ? -1 : 1));
  }
}

/** A place has its own signs for a version. */
function parse(reference: string): Reference {
  return reference.includes('://') ? { name: reference } : parseReference(reference);
}

/** Whether it is a version of the store's. */
export function isStored(adapter: Listed): adapter is StoredAdapter {
  return 'version' in adapter;
}

/** For what there is not, and in the same words for what may not be seen. */
export function unknownAdapter(name: string): AppError {
  return new AppError('adapter_not_found', `Expected the name of an adapter (GET /v1/adapters lists them) but received ${name}`, {
    param: 'adapter',
  });
}

/** Throws `adapter_invalid` where something is known against it. */
function sound(reference: string, adapter: RegisteredAdapter): RegisteredAdapter {
  if (adapter.fault === undefined) return adapter;
  throw new AppError('adapter_invalid', `Adapter ${reference} cannot be served: ${adapter.fault}`, { param: 'adapter' });
}
