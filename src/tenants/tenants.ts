/** All tenants of a server, as its routes know them: a key goes in, a tenant comes out. */
import { Tenant } from './tenant.js';

export interface Tenants {
  /** Nobody has a key and everybody is the one tenant, who may do everything: a server for its own machine. */
  readonly isOpen: boolean;
  /** Whose key this is, now. Throws `invalid_api_key`, the same for a missing, a wrong and an expired one. */
  authenticate(key: string | undefined): Tenant;
}

export const ANYONE = new Tenant({ name: '', isAdmin: true });

/** Where no tenants are configured. */
export const OPEN: Tenants = { isOpen: true, authenticate: () => ANYONE };
