import { describe, expect, it } from 'vitest';
import { Tenant } from '../../../src/tenants/tenant.js';
import { ANYONE } from '../../../src/tenants/tenants.js';

const sees = (adapters: readonly string[], name: string) => new Tenant({ name: 'acme', adapters }).sees(name);

describe('what a tenant sees', () => {
  it.each<[string[], string, boolean]>([
    [[], 'acme/own', true],
    [[], 'acme', false],
    [[], 'acme-too/own', false],
    [[], 'alt', false],
    [['alt'], 'alt', true],
    [['alt'], 'alto', false],
    [['alt'], 'xalt', false],
    [['a.t'], 'alt', false],
    [['shared/*'], 'shared/one', true],
    [['shared/*'], 'shared/', true],
    [['shared/*'], 'shared/one/two', false],
    [['shared/**'], 'shared/one/two', true],
    [['*'], 'alt', true],
    [['*'], 'other/secret', false],
    [['**'], 'other/secret', true],
    [['v*-*'], 'v1-final', true],
    [['hf://owner/*'], 'hf://owner/name', true],
    [['hf://owner/*'], 'hf://owner/name@v2', true],
    [['hf://owner/*'], 'hf://owner/name/folder', false],
    [['hf://owner/*'], 'hf://other/name', false],
    [['s3://bucket/team/**'], 's3://bucket/team/a/b', true],
    [['s3://bucket/team/**'], 's3://bucket/team-b/a', false],
    [['(a|b)+[c]{2}?^$\\'], '(a|b)+[c]{2}?^$\\', true],
    [['(a|b)'], 'a', false],
  ])('with %j, %s: %s', (adapters, name, seen) => {
    expect(sees(adapters, name)).toBe(seen);
  });

  it('an admin sees and owns all; others own what begins with their name', () => {
    const admin = new Tenant({ name: 'ops', isAdmin: true });
    const acme = new Tenant({ name: 'acme', adapters: ['**'] });
    expect([admin.sees('any/thing'), admin.owns('any/thing'), ANYONE.owns('any')]).toEqual([true, true, true]);
    expect([acme.owns('acme/x'), acme.owns('alt'), acme.owns('acme'), acme.owns('acme2/x')]).toEqual([true, false, false, false]);
  });
});
