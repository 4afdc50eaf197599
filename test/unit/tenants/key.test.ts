import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { hashKey, KeyRing, makeKey } from '../../../src/tenants/key.js';
import { Tenant } from '../../../src/tenants/tenant.js';

const hex = (key: string) => createHash('sha256').update(key).digest('hex');

describe('makeKey', () => {
  it('has 256 random bits after its mark, another each time', () => {
    const keys = Array.from({ length: 200 }, makeKey);
    for (const key of keys) {
      expect(key).toMatch(/^graft_[A-Za-z0-9_-]{43}$/);
      expect(Buffer.from(key.slice(6), 'base64url')).toHaveLength(32);
    }
    expect(new Set(keys).size).toBe(200);
  });

  it('is hashed as sha256sum hashes its text', () => {
    // printf graft_x | sha256sum
    expect(hashKey('graft_x').toString('hex')).toBe('1adafc36414dd6c8b56ae3aa82a2e44a248daca3058035d0e8cace60c69ea02f');
  });
});

describe('KeyRing', () => {
  const [acme, other] = [new Tenant({ name: 'acme' }), new Tenant({ name: 'other' })];
  const [first, second, third] = [makeKey(), makeKey(), makeKey()];
  const ring = new KeyRing([
    {
      tenant: acme,
      keys: [
        { id: 'a', sha256: hex(first), expiresMs: null },
        { id: 'b', sha256: hex(second), expiresMs: 1000 },
      ],
    },
    { tenant: other, keys: [{ id: 'a', sha256: hex(third), expiresMs: null }] },
  ]);

  it('knows whose a key is, by the whole of its text', () => {
    expect(ring.find(first, 0)).toBe(acme);
    expect(ring.find(third, 0)).toBe(other);
    for (const wrong of [makeKey(), first.slice(0, -1), `${first} `, first.toUpperCase(), hex(first), '', 'graft_', undefined])
      expect(ring.find(wrong, 0), String(wrong)).toBeUndefined();
  });

  it('lets nobody in with a key whose time is over', () => {
    expect(ring.find(second, 999)).toBe(acme);
    expect(ring.find(second, 1000)).toBeUndefined();
  });

  it('lets nobody in where there are no keys', () => {
    expect(new KeyRing([]).find(first, 0)).toBeUndefined();
    expect(new KeyRing([]).find(undefined, 0)).toBeUndefined();
  });
});
