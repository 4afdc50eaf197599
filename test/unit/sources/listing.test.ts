import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { errorCode, parseListing, plainEtag } from '../../../src/sources/listing.js';

/** As Amazon documents it. */
const ANSWER = `<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Name>quotes</Name><Prefix>E</Prefix><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys>
  <IsTruncated>true</IsTruncated><NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken>
  <Contents><Key>Emma &amp; I/&lt;1&gt;&#x41;&#66;.json</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>
    <ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size><StorageClass>STANDARD</StorageClass></Contents>
  <Contents><Key>empty</Key><ETag>"d41d8cd98f00b204e9800998ecf8427e-2"</ETag><Size>0</Size></Contents>
</ListBucketResult>`;

describe('parseListing', () => {
  test('reads keys, sizes, etags and how to go on', () => {
    expect(parseListing(ANSWER)).toEqual({
      files: [
        { path: 'Emma & I/<1>AB.json', bytes: 434234, etag: 'fba9dede5f27731c9771645a39863328' },
        { path: 'empty', bytes: 0, etag: 'd41d8cd98f00b204e9800998ecf8427e-2' },
      ],
      next: '1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=',
    });
    expect(parseListing('<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>')).toEqual({
      files: [],
      next: undefined,
    });
  });

  test.each([
    'not XML',
    '<html><body>Sign in</body></html>',
    '<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>',
    '<ListBucketResult><Contents><Key>a</Key><ETag>e</ETag><Size>-1</Size></Contents></ListBucketResult>',
    '<ListBucketResult><Contents><Key>a</Key><ETag>e</ETag><Size>1e9</Size></Contents></ListBucketResult>',
    '<ListBucketResult><Contents><Key>a</Key><ETag>e\r\nx: y</ETag><Size>1</Size></Contents></ListBucketResult>',
    '<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>',
  ])('refuses %s', (text) => {
    expect(() => parseListing(text)).toThrow(AppError);
  });

  test('gives back any key that was written as XML, and never throws anything else', () => {
    const escaped = (text: string) => text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary' })), (keys) => {
        const entries = keys.map((key) => `<Contents><Key>${escaped(key)}</Key><ETag>"e"</ETag><Size>1</Size></Contents>`);
        expect(parseListing(`<ListBucketResult>${entries.join('')}</ListBucketResult>`).files.map(({ path }) => path)).toEqual(
          keys,
        );
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        for (const xml of [text, `<ListBucketResult>${text}</ListBucketResult>`]) {
          try {
            parseListing(xml);
          } catch (error) {
            expect(error).toBeInstanceOf(AppError);
          }
        }
      }),
    );
  });
});

test('errors and etags are read as servers write them', () => {
  expect(errorCode('<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>x</Message></Error>')).toBe('NoSuchKey');
  expect(errorCode('<Error><Code>a b\n</Code></Error>')).toBeUndefined();
  expect(errorCode('oops')).toBeUndefined();
  expect(['"a"', 'W/"a"', 'a'].map(plainEtag)).toEqual(['a', 'a', 'a']);
});
