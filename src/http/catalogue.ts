/**
 * The adapters that a request may name: those of the folder, and those that come from elsewhere. Everything here is asked for by a tenant, and
 * what that tenant may not see is as if it were nowhere: absent from lists, and refused with the words for what there is not.
 */
import type { AdapterRegistry, RegisteredAdapter } from '../adapter/registry.js';
import { AppError } from '../errors.js';
import type { NamedSource, SourceLibrary } from '../sources/library.js';
import type { Tenant } from '../tenants/tenant.js';
import { partyOf } from './exchange.js';

/** The part of the registry that requests need; a server without an adapters folder has an empty one. */
export type AdapterDirectory = Pick<AdapterRegistry, 'list' | 'get' | 'rescan'>;

/** An adapter as lists show it: there, or still to be fetched. */
export type Listed = RegisteredAdapter | NamedSource;

/** What an adapter is chosen for: it stays for as long as that lasts. */
export interface Keeper {
  readonly tenant: Tenant;
  readonly signal: AbortSignal;
  keep(release: () => void): void;
}

export interface SelectedAdapter {
  readonly adapter: RegisteredAdapter;
  /** How long its source was waited for. */
  readonly fetchMs: number;
}

export class Catalogue {
  readonly #adapters: AdapterDirectory;
  readonly #sources: SourceLibrary | null;

  constructor(adapters: AdapterDirectory, sources: SourceLibrary | null) {
    this.#adapters = adapters;
    this.#sources = sources;
  }

  /** All there are, whoever may see them. */
  get size(): number {
    return this.#all().length;
  }

  /** What a tenant can ask for by name, sorted. */
  list(tenant: Tenant): Listed[] {
    return this.#all().filter(({ name }) => tenant.sees(name));
  }

  /** Whether a tenant may ask for an adapter of this name, or at this place, be it there or not. */
  isVisible(name: string, tenant: Tenant): boolean {
    return tenant.sees(this.#sources?.spelling(name) ?? name);
  }

  /**
   * The adapter of a name, fetched first where it comes from elsewhere. What an operator has named so wins over a folder of that name. Throws
   * `adapter_not_found`, the same for what there is not and for what may not be asked for; `adapter_invalid` with the reason where its files are
   * not in order; what the library throws. Whether there is what a tenant does not see is not even looked up: no clock can tell.
   */
  async select(name: string, keeper: Keeper): Promise<SelectedAdapter> {
    if (!this.isVisible(name, keeper.tenant)) throw unknownAdapter(name);
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
    if (!adapter) throw unknownAdapter(name);
    if (adapter.fault !== undefined)
      throw new AppError('adapter_invalid', `Adapter ${name} cannot be served: ${adapter.fault}`, { param: 'adapter' });
    return { adapter, fetchMs: 0 };
  }

  /** The engine found other content than the digest says: looks again. */
  async refresh({ source, ref }: RegisteredAdapter): Promise<void> {
    if (source === undefined) await this.#adapters.rescan();
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

  #all(): Listed[] {
    const named = this.#sources?.list() ?? [];
    const names = new Set(named.map(({ name }) => name));
    const own = this.#adapters.list().filter(({ name }) => !names.has(name));
    return [...own, ...named].sort((a, b) => (a.name < b.name ? -1 : 1));
  }
}

function unknownAdapter(name: string): AppError {
  return new AppError('adapter_not_found', `Expected the name of an adapter (GET /v1/adapters lists them) but received ${name}`, {
    param: 'adapter',
  });
}
