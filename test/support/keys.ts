/** Tenants by key, without a file. */
import { AppError } from '../../src/errors.js';
import { type Limits, NO_LIMITS, Tenant, type TenantOptions } from '../../src/tenants/tenant.js';
import type { Tenants } from '../../src/tenants/tenants.js';

export function tenantsOf(tenants: Readonly<Record<string, Tenant>>): Tenants {
  const byKey = new Map(Object.entries(tenants));
  const authenticate = (key = ''): Tenant => {
    const tenant = byKey.get(key);
    if (!tenant) throw new AppError('invalid_api_key', 'Expected a key of a tenant but received another one, or none');
    return tenant;
  };
  return { isOpen: false, authenticate };
}

export function limited(name: string, limits: Partial<Limits>, options: Omit<TenantOptions, 'name' | 'limits'> = {}): Tenant {
  return new Tenant({ name, adapters: ['**'], ...options, limits: { ...NO_LIMITS, ...limits } });
}
