import { describe, expect, it } from 'vitest';
import type { AppError } from '../../../src/errors.js';
import { parseTenants, type TenantFile } from '../../../src/tenants/file.js';
import { hashKey } from '../../../src/tenants/key.js';
import { NO_LIMITS } from '../../../src/tenants/tenant.js';

const A = 'a'.repeat(64);
const B = 'b'.repeat(64);

function faultsOf(files: readonly TenantFile[], others?: readonly string[]): readonly string[] {
  try {
    parseTenants(files, others);
  } catch (error) {
    expect(error).toMatchObject({ code: 'invalid_config' });
    return (error as AppError).faults ?? [];
  }
  throw new Error('Expected faults but there were none');
}

const one = (content: string, others?: readonly string[]) => faultsOf([{ name: 't.yaml', content }], others);
/** The faults of a tenant with these fields, in YAML's flow style. */
const fields = (text: string) => one(`tenants: {acme: {${text}}}`);

describe('a file of tenants', () => {
  it('gives all that it may say, and what holds where it says nothing', () => {
    const content = `
# Who may come.
tenants:
  acme:
    keys:
      - id: laptop
        sha256: ${A.toUpperCase()}
        expires: 2027-01-01T00:00:00Z
      - {id: ci.2, sha256: ${B}, expires: 2027-06-30}
    adapters: [alt, shared/*, 'hf://owner/**']
    limits: {requestsPerSecond: 0.5, concurrent: 8, tokensPerMinute: 60000, imageBytes: 5MB, maxTokens: 128}
    weight: 2
  7: {admin: true}
`;
    const entries = parseTenants([{ name: 't.yaml', content }]);
    expect(entries).toHaveLength(2);
    const [acme, seven] = ['acme', '7'].map((name) => entries.find(({ tenant }) => tenant.name === name));
    expect(acme?.tenant).toMatchObject({
      name: 'acme',
      isAdmin: false,
      weight: 2,
      limits: { requestsPerSecond: 0.5, concurrent: 8, tokensPerMinute: 60_000, imageBytes: 5e6, maxTokens: 128 },
    });
    expect(acme?.keys).toEqual([
      { id: 'laptop', sha256: A, expiresMs: Date.UTC(2027, 0, 1) },
      { id: 'ci.2', sha256: B, expiresMs: Date.UTC(2027, 5, 30) },
    ]);
    expect(['alt', 'shared/x', 'hf://owner/a/b', 'acme/x', 'x'].map((name) => acme?.tenant.sees(name))).toEqual([
      true,
      true,
      true,
      true,
      false,
    ]);
    expect(seven).toMatchObject({ tenant: { name: '7', isAdmin: true, weight: 1, limits: NO_LIMITS }, keys: [] });
  });

  it('may be several, in which each tenant and each key stands once', () => {
    const entries = parseTenants([
      { name: 'a.yaml', content: `tenants: {acme: {keys: [{id: a, sha256: ${A}}]}}` },
      { name: 'b.yaml', content: `tenants: {other: {keys: [{id: a, sha256: ${B}}]}}` },
    ]);
    expect(entries.map(({ tenant }) => tenant.name)).toEqual(['acme', 'other']);
    expect(parseTenants([{ name: 'none.yaml', content: 'tenants: {}' }])).toEqual([]);
    expect(parseTenants([])).toEqual([]);
  });

  it('may be the file of settings, of which nothing else is looked at', () => {
    const content = 'port: whatever\ntenants: {acme: {}}\n';
    expect(parseTenants([{ name: 'graft.yaml', content }], ['port', 'host'])).toHaveLength(1);
    expect(one('prot: 1\ntenants: {}', ['port'])).toEqual(['t.yaml: Expected only tenants but received "prot"']);
  });

  it.each<[string, string]>([
    ['', 't.yaml: Expected tenants: and below it their names but received nothing'],
    ['# nothing yet', 't.yaml: Expected tenants: and below it their names but received nothing'],
    ['- acme', 't.yaml: Expected tenants: and below it their names but received a list'],
    ['acme: {}', 't.yaml: Expected tenants: and below it their names but received a mapping of "acme"'],
    ['tenants:', 't.yaml: tenants: Expected tenants by name but received nothing'],
    ['tenants: [acme]', 't.yaml: tenants: Expected tenants by name but received a list'],
    ['tenants: {acme: {}}\ntenant: {}', 't.yaml: Expected only tenants but received "tenant"'],
    ['tenants: {acme: {}, acme: {}}', 't.yaml: Expected YAML but received: Map keys must be unique at line 1, column 21:'],
    ['tenants: {7: {}, "7": {}}', 't.yaml: Expected YAML but received: Map keys must be unique at line 1, column 18:'],
    ['tenants: {acme: {}', 't.yaml: Expected YAML but received: Flow map in block'],
    ['tenants: {a: {}}\n---\ntenants: {b: {}}', 't.yaml: Expected YAML but received: Source contains multiple documents'],
    ['tenants: {acme: !!set {}}\nx: !y 1', 't.yaml: Expected YAML but received: Unresolved tag: !y'],
    ['tenants: {Acme: {}}', 't.yaml: tenants: Expected a name of a-z, 0-9 and -, of at most 64 characters but received "Acme"'],
    ['tenants: {a/b: {}}', 'but received "a/b"'],
    ['tenants: {"": {}}', 'but received ""'],
    ['tenants: {__proto__: {}}', 'but received "__proto__"'],
    [`tenants: {${'a'.repeat(65)}: {}}`, 'of at most 64 characters but received "aaa'],
    ['tenants: {acme: }', 't.yaml: tenants.acme: Expected keys, admin, adapters, limits, weight but received nothing'],
    ['tenants: {acme: [x]}', 't.yaml: tenants.acme: Expected keys, admin, adapters, limits, weight but received a list'],
  ])('refuses %j', (content, fault) => {
    const faults = one(content);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toContain(fault);
  });

  it.each<[string, string]>([
    ['adapter: [a]', 'tenants.acme: Expected only keys, admin, adapters, limits, weight but received "adapter"'],
    ['admin: yes', 'tenants.acme.admin: Expected true or false but received "yes"'],
    [
      'adapters: alt',
      'tenants.acme.adapters: Expected a list of names of adapters, with * for a part of a name but received "alt"',
    ],
    ['adapters: [a b]', 'but received ["a b"]'],
    ['weight: 0', 'tenants.acme.weight: Expected a number above 0, at most 1000 but received 0'],
    ['weight: .inf', 'but received null'],
    [
      'limits: 3',
      'tenants.acme.limits: Expected requestsPerSecond, concurrent, tokensPerMinute, imageBytes, maxTokens but received a number',
    ],
    ['limits: {requests: 3}', 'but received "requests"'],
    [
      'limits: {requestsPerSecond: 0}',
      'tenants.acme.limits.requestsPerSecond: Expected a number above 0, at most 1000000 but received 0',
    ],
    ['limits: {concurrent: 1.5}', 'tenants.acme.limits.concurrent: Expected an integer from 1 to 1000000 but received 1.5'],
    ['limits: {tokensPerMinute: -1}', 'tenants.acme.limits.tokensPerMinute: Expected an integer of at least 1 but received -1'],
    ['limits: {imageBytes: 5XB}', 'tenants.acme.limits.imageBytes: Expected a size such as 64MB or 1GiB but received "5XB"'],
    ['limits: {maxTokens: many}', 'tenants.acme.limits.maxTokens: Expected an integer from 1 to 1048576 but received "many"'],
    ['keys: {}', 'tenants.acme.keys: Expected a list of keys but received a mapping of nothing'],
    [
      `keys: [{sha256: ${A}}]`,
      'tenants.acme.keys[0].id: Expected a name of letters, digits, dots, - and _, of at most 64 characters but received nothing',
    ],
    [`keys: [{id: a b, sha256: ${A}}]`, 'tenants.acme.keys[0].id: Expected a name'],
    [
      'keys: [{id: a}]',
      "tenants.acme.keys[0].sha256: Expected the key's SHA-256, 64 hexadecimal digits (graft keys create writes it), but received nothing",
    ],
    [`keys: [{id: a, sha256: ${'1'.repeat(64)}}]`, 'but received a number'],
    [
      `keys: [{id: a, sha256: ${A}, expires: soon}]`,
      'tenants.acme.keys[0].expires: Expected a date, or a time with its zone such as 2027-01-01T00:00:00Z, but received "soon"',
    ],
    [`keys: [{id: a, sha256: ${A}, expires: 2027-02-30}]`, 'but received "2027-02-30"'],
    [`keys: [{id: a, sha256: ${A}, expires: '2027-01-01T00:00:00'}]`, 'but received "2027-01-01T00:00:00"'],
    [
      `keys: [{id: a, sha256: ${A}}, {id: a, sha256: ${B}}]`,
      'tenants.acme.keys[1].id: Expected another id for each key but received "a" again',
    ],
    [
      `keys: [{id: a, sha256: ${A}}, {id: b, sha256: ${A.toUpperCase()}}]`,
      'tenants.acme.keys[1].sha256: Expected a key once but received that of t.yaml: tenants.acme.keys[0]',
    ],
  ])('refuses a tenant with %s', (text, fault) => {
    const faults = fields(text);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toContain(fault);
  });

  it('refuses the hash of nothing: a variable that is not set hashes to it, and so does a request without a key', () => {
    expect(fields(`keys: [{id: a, sha256: ${hashKey('').toString('hex')}}]`)[0]).toContain(
      'tenants.acme.keys[0].sha256: Expected',
    );
  });

  it('never repeats what may be a key', () => {
    const key = 'graft_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2Vj';
    for (const text of [`keys: [${key}]`, `keys: ${key}`, `keys: [{id: a, sha256: ${key}}]`]) {
      const [fault] = fields(text);
      expect(fault).toMatch(/but received a text of \d+ characters$/);
      expect(fault).not.toContain('c2Vj');
    }
  });

  it('tells every fault of every file at once', () => {
    const faults = faultsOf([
      { name: 'a.yaml', content: `tenants: {acme: {weight: -1, keys: [{id: a, sha256: ${A}, expires: never}]}, B: {admin: 1}}` },
      { name: 'b.yaml', content: 'tenants: [' },
      { name: 'c.yaml', content: Object.assign(new Error('no'), { code: 'EACCES' }) },
      { name: 'd.yaml', content: `tenants: {acme: {}, d: {keys: [{id: a, sha256: ${B}}]}, e: {keys: [{id: a, sha256: ${B}}]}}` },
    ]);
    expect(faults).toEqual([
      'a.yaml: tenants.acme.weight: Expected a number above 0, at most 1000 but received -1',
      expect.stringContaining('a.yaml: tenants: Expected a name of'),
      'a.yaml: tenants.B.admin: Expected true or false but received 1',
      expect.stringContaining('b.yaml: Expected YAML but received: '),
      'c.yaml: Expected a file that can be read but received EACCES',
      'd.yaml: tenants.acme: Expected a tenant once but a.yaml has it too',
      'd.yaml: tenants.e.keys[0].sha256: Expected a key once but received that of d.yaml: tenants.d.keys[0]',
    ]);
  });
});
