/**
 * Whose request it is, and what they may see and ask for. What a tenant may not see does not exist for it, so there is one question about an
 * adapter, `sees`, and whoever shows or serves adapters asks it first.
 */

/** Bounds of one tenant's requests; null where there is none. */
export interface Limits {
  readonly requestsPerSecond: number | null;
  /** Requests that this server works on at once. */
  readonly concurrent: number | null;
  /** Prompt, image and generated tokens. */
  readonly tokensPerMinute: number | null;
  readonly imageBytes: number | null;
  /** Upper bound of `max_tokens`. */
  readonly maxTokens: number | null;
}

export const NO_LIMITS: Limits = {
  requestsPerSecond: null,
  concurrent: null,
  tokensPerMinute: null,
  imageBytes: null,
  maxTokens: null,
};

export interface TenantOptions {
  readonly name: string;
  /** May see and change everything, and read what is about all tenants. */
  readonly isAdmin?: boolean;
  /** Adapters that it sees beside its own: names, with `*` for any text without a slash and `**` for any text. */
  readonly adapters?: readonly string[];
  readonly limits?: Limits;
  /** Share of the machine where others want it too. */
  readonly weight?: number;
}

export class Tenant {
  readonly name: string;
  readonly isAdmin: boolean;
  readonly limits: Limits;
  readonly weight: number;
  readonly #patterns: readonly RegExp[];

  constructor({ name, isAdmin = false, adapters = [], limits = NO_LIMITS, weight = 1 }: TenantOptions) {
    this.name = name;
    this.isAdmin = isAdmin;
    this.limits = limits;
    this.weight = weight;
    this.#patterns = adapters.map(patternOf);
  }

  /** Whether an adapter of this name (without a version) exists for it. */
  sees(adapter: string): boolean {
    return this.isAdmin || this.owns(adapter) || this.#patterns.some((pattern) => pattern.test(adapter));
  }

  /** Whether it may publish, change and delete an adapter of this name: its own are `TENANT/NAME`. */
  owns(adapter: string): boolean {
    return this.isAdmin || adapter.startsWith(`${this.name}/`);
  }
}

function patternOf(pattern: string): RegExp {
  const parts = pattern.split(/(\*\*|\*)/);
  const source = parts.map((part) =>
    part === '**' ? '.*' : part === '*' ? '[^/]*' : part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'),
  );
  return new RegExp(`^${source.join('')}$`, 'u');
}
