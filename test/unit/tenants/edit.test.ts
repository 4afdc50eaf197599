import { describe, expect, it } from 'vitest';
import { addKey, hasTenant, removeKey } from '../../../src/tenants/edit.js';
import { parseTenants } from '../../../src/tenants/file.js';

const A = 'a'.repeat(64);
const B = 'b'.repeat(64);
const draft = (more: Partial<Parameters<typeof addKey>[1]> = {}) => ({
  tenant: 'acme',
  id: undefined,
  sha256: B,
  expires: undefined,
  isAdmin: false,
  ...more,
});

const FILE = `# Ours alone.
# Ask Ada before you change it.

tenants:
  # They pay for two.
  acme:
    keys:
      - id: laptop # Ada's
        sha256: ${A}
    adapters: [ alt, shared/* ] # read only
    weight: 2

  other: {}

# The end.
`;

describe('addKey', () => {
  it('adds a key and leaves all else as it was, comments and all', () => {
    const { text, id, isNewTenant } = addKey(FILE, draft({ expires: '2027-01-01T00:00:00Z' }));
    expect([id, isNewTenant]).toEqual(['key-1', false]);
    const added = `      - id: key-1\n        sha256: ${B}\n        expires: 2027-01-01T00:00:00Z\n`;
    expect(text).toBe(FILE.replace(`        sha256: ${A}\n`, `        sha256: ${A}\n${added}`));
    expect(removeKey(text, 'acme', 'key-1')).toBe(FILE);
  });

  it('makes a tenant, and a file', () => {
    const first = addKey('', draft({ tenant: 'ops', isAdmin: true, id: 'ada' }));
    expect(first).toEqual({
      text: `tenants:\n  ops:\n    admin: true\n    keys:\n      - id: ada\n        sha256: ${B}\n`,
      id: 'ada',
      isNewTenant: true,
    });
    const { text } = addKey(first.text, draft({ sha256: A }));
    expect(text).toBe(`${first.text}  acme:\n    keys:\n      - id: key-1\n        sha256: ${A}\n`);
  });

  it.each<[string, string]>([
    ['# only words\n', '# only words'],
    ['port: 1 # of settings\n', 'port: 1 # of settings'],
    ['tenants:\n', 'tenants:'],
    ['tenants: {}\n', 'tenants:'],
    ['tenants:\n  acme:\n', '  acme:'],
    ['tenants:\n  acme: {}\n', '  acme:'],
    ['tenants:\n  acme:\n    keys: []\n', '    keys:'],
    ['tenants: {acme: {weight: 2}}\n', 'weight: 2'],
  ])('fills %j', (before, kept) => {
    const { text } = addKey(before, draft());
    expect(text).toContain(kept);
    const [entry] = parseTenants([{ name: 't', content: text }], ['port']);
    expect(entry).toMatchObject({ tenant: { name: 'acme' }, keys: [{ id: 'key-1', sha256: B }] });
  });

  it('finds an id that is free, and refuses one that is not', () => {
    let text = '';
    for (const expected of ['key-1', 'key-2', 'key-3']) {
      const added = addKey(text, draft({ sha256: expected.at(-1)?.repeat(64) ?? '' }));
      expect(added.id).toBe(expected);
      text = added.text;
    }
    expect(addKey(removeKey(text, 'acme', 'key-2'), draft()).id).toBe('key-2');
    expect(() => addKey(text, draft({ id: 'key-3' }))).toThrow(
      'Expected another id for each key of acme but received key-3 again',
    );
    // A hash of digits alone stays a text.
    expect(parseTenants([{ name: 't', content: text }])[0]?.keys).toHaveLength(3);
  });

  it('raises nobody: an admin is a new tenant, or one already', () => {
    expect(() => addKey(FILE, draft({ isAdmin: true }))).toThrow('Expected a new tenant');
    const { text } = addKey('tenants: {acme: {admin: true}}', draft({ isAdmin: true }));
    expect(parseTenants([{ name: 't', content: text }])[0]).toMatchObject({ tenant: { isAdmin: true }, keys: [{ id: 'key-1' }] });
  });

  it('refuses what is no file of tenants', () => {
    expect(() => addKey('tenants: [', draft())).toThrow('Expected YAML but received');
    expect(() => addKey('- a', draft())).toThrow('Expected tenants by name but received something else');
    expect(() => addKey('tenants: 3', draft())).toThrow('Expected tenants to hold others but received 3');
    expect(() => addKey('tenants: {acme: {keys: x}}', draft())).toThrow(
      'Expected tenants.acme.keys to hold others but received x',
    );
  });
});

describe('removeKey', () => {
  it('says what there is where it is not that', () => {
    expect(() => removeKey(FILE, 'nobody', 'laptop')).toThrow('Expected a tenant that is there but received nobody');
    expect(() => removeKey(FILE, 'acme', 'phone')).toThrow('Expected a key of acme (laptop) but received phone');
    expect(() => removeKey(FILE, 'other', 'phone')).toThrow('Expected a key of other (it has none) but received phone');
    expect(removeKey(FILE, 'acme', 'laptop')).toContain('    keys: []\n    adapters: [ alt, shared/* ] # read only\n');
  });
});

it('hasTenant', () => {
  expect([hasTenant(FILE, 'acme'), hasTenant(FILE, 'acm'), hasTenant('', 'acme'), hasTenant('tenants: 3', 'acme')]).toEqual([
    true,
    false,
    false,
    false,
  ]);
});
