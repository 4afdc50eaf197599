import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Allowance, parsePlace } from '../../../src/sources/place.js';

describe('parsePlace', () => {
  test.each([
    ['s3://bucket', 's3://bucket'],
    ['s3://bucket/', 's3://bucket'],
    ['s3://my.bucket-1/team/a b'.replace(' ', '+'), 's3://my.bucket-1/team/a+b'],
    ['s3://bucket/team/alt/', 's3://bucket/team/alt'],
    ['hf://owner/name', 'hf://owner/name'],
    ['hf://owner/name@main/', 'hf://owner/name'],
    ['hf://owner/name@v1.0/sub/folder', 'hf://owner/name@v1.0/sub/folder'],
    ['hf://owner/name@refs%2Fpr%2F1', 'hf://owner/name@refs%2Fpr%2F1'],
  ])('%s is %s', (text, canonical) => {
    const place = parsePlace(text);
    expect(place?.text).toBe(canonical);
    expect(parsePlace(canonical)).toEqual(place);
  });

  test('takes a place apart', () => {
    expect(parsePlace('s3://bucket/team/alt')).toMatchObject({ kind: 's3', bucket: 'bucket', folder: 'team/alt' });
    expect(parsePlace('hf://owner/name@refs%2Fpr%2F1/sub')).toMatchObject({
      kind: 'hub',
      reference: { owner: 'owner', name: 'name', revision: 'refs/pr/1' },
      folder: 'sub',
    });
  });

  test.each([
    'alt',
    'http://169.254.169.254/latest',
    'file:///etc/passwd',
    's3://',
    's3://b',
    's3://BUCKET/x',
    's3://bucket..evil/x',
    's3://bucket.s3.evil.com:80/x',
    's3://user@host/x',
    's3://-bucket/x',
    's3://bucket/../other',
    's3://bucket/a/../../b',
    's3://bucket/a//b',
    's3://bucket/./a',
    's3://bucket/a\\..\\b',
    's3://bucket/a b',
    's3://bucket/a\u0000',
    'hf://owner',
    'hf://owner/name@',
    'hf://owner/../x',
    'hf://owner/name@../x',
    'hf://owner/name@%2e%2e',
    'hf://owner/name@a%2F..%2Fb',
    'hf://owner/name@%zz',
    'hf://owner/name/../../other',
    'hf://ow:ner/name',
    `s3://bucket/${'a'.repeat(3000)}`,
  ])('%s is no place', (text) => {
    expect(parsePlace(text)).toBeUndefined();
  });

  test('whatever is said, what comes of it stays inside', () => {
    const part = fc.constantFrom('..', '.', 'a', '', '%2e%2e', 'b@c', '\\', 'x:', 's3://', '@', '%2F');
    fc.assert(
      fc.property(fc.constantFrom('s3://bucket/', 'hf://o/n/', 'hf://o/n@r/'), fc.array(part), (start, parts) => {
        const place = parsePlace(start + parts.join('/'));
        if (place === undefined) return;
        expect(place.folder.split('/')).not.toContain('..');
        expect(place.folder).not.toMatch(/\\|\/\/|^\/|\/$/);
        expect(parsePlace(place.text)).toEqual(place);
      }),
    );
  });
});

describe('Allowance', () => {
  const allows = (prefix: string, text: string): boolean => {
    const place = parsePlace(text);
    if (!place) throw new Error(`Expected a place but received ${text}`);
    return new Allowance([prefix]).allows(place);
  };

  test.each([
    ['s3://bucket', 's3://bucket/any/where'],
    ['s3://bucket/team/', 's3://bucket/team/alt'],
    ['s3://bucket/team', 's3://bucket/team'],
    ['s3://', 's3://bucket/team'],
    ['hf://owner', 'hf://owner/name@v1/sub'],
    ['hf://owner/', 'hf://owner/name'],
    ['hf://owner/name', 'hf://owner/name@v1/sub'],
    ['hf://owner/name@v1', 'hf://owner/name@v1/sub'],
    ['hf://owner/name@main', 'hf://owner/name'],
    ['hf://owner/name/sub', 'hf://owner/name@v1/sub/more'],
  ])('%s allows %s', (prefix, text) => expect(allows(prefix, text)).toBe(true));

  test.each([
    ['s3://bucket/team', 's3://bucket/team-evil/alt'],
    ['s3://bucket/team', 's3://bucket/tea'],
    ['s3://bucket', 's3://bucket-evil/team'],
    ['hf://owner', 'hf://owner-evil/name'],
    ['hf://owner/name', 'hf://owner/name-evil'],
    ['hf://owner/name@v1', 'hf://owner/name@v10'],
    ['hf://owner/name@v1', 'hf://owner/name'],
    ['hf://owner/name/sub', 'hf://owner/name/sub-evil'],
    ['hf://', 's3://bucket/team'],
    ['s3://', 'hf://owner/name'],
  ])('%s does not allow %s', (prefix, text) => expect(allows(prefix, text)).toBe(false));

  test('nothing is allowed unless somebody says so, and nonsense is named', () => {
    const place = parsePlace('s3://bucket/team');
    if (!place) throw new Error('Expected a place');
    expect(new Allowance([]).allows(place)).toBe(false);
    expect(() => new Allowance(['s3://bucket', 'https://x', '*'])).toThrow(
      /Expected the beginning of s3:.* but received "https:\/\/x"; .* but received "\*"/,
    );
  });
});
