/**
 * API keys. A key is 256 random bits, so that its plain SHA-256 is all that need be kept: there is nothing to guess that a slow hash would
 * protect, and whoever reads the file of tenants cannot come in with what stands there.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Tenant } from './tenant.js';

/** Tells people, and those who scan for secrets that got out, what it is. */
const PREFIX = 'graft_';
const RANDOM_BYTES = 32;

/** A key as a file has it. */
export interface Key {
  /** What people call it. */
  readonly id: string;
  /** Hex, of the whole key text. */
  readonly sha256: string;
  /** Milliseconds since 1970; null: never. */
  readonly expiresMs: number | null;
}

interface Held {
  readonly tenant: Tenant | undefined;
  readonly hash: Buffer;
  readonly expiresMs: number;
}

/** `graft_` and 43 characters of base64url. */
export function makeKey(): string {
  return PREFIX + randomBytes(RANDOM_BYTES).toString('base64url');
}

export function hashKey(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/**
 * All keys of a server. A lookup does the same whatever it is given. Hashes are looked up under a name that only this process can compute, so
 * that how long a lookup takes says nothing about any hash, and the hash that is found (or one that nobody has) is compared in constant time.
 */
export class KeyRing {
  readonly #secret = randomBytes(RANDOM_BYTES);
  readonly #nobody: Held = { tenant: undefined, hash: randomBytes(RANDOM_BYTES), expiresMs: Number.POSITIVE_INFINITY };
  readonly #held = new Map<string, Held>();

  constructor(owners: Iterable<{ readonly tenant: Tenant; readonly keys: readonly Key[] }>) {
    for (const { tenant, keys } of owners) {
      for (const { sha256, expiresMs } of keys) {
        const hash = Buffer.from(sha256, 'hex');
        this.#held.set(this.#nameOf(hash), { tenant, hash, expiresMs: expiresMs ?? Number.POSITIVE_INFINITY });
      }
    }
  }

  /** Whose key this is at a time; undefined for a missing, an unknown and an expired one. */
  find(key: string | undefined, nowMs: number): Tenant | undefined {
    const hash = hashKey(key ?? '');
    const held = this.#held.get(this.#nameOf(hash)) ?? this.#nobody;
    const isSame = timingSafeEqual(held.hash, hash);
    const isCurrent = nowMs < held.expiresMs;
    return isSame && isCurrent ? held.tenant : undefined;
  }

  #nameOf(hash: Buffer): string {
    return createHmac('sha256', this.#secret).update(hash).digest('base64');
  }
}
