import { describe, expect, it } from 'vitest';
import { sniff } from '../../../src/images/format.js';

const latin1 = (text: string) => Buffer.from(text, 'latin1');

describe('sniff', () => {
  it.each([
    ['JPEG', '\xff\xd8\xff\xe0'],
    ['PNG', '\x89PNG\r\n\x1a\n'],
    ['WebP', 'RIFF\x10\0\0\0WEBPVP8 '],
  ])('knows %s', (format, start) => {
    expect(sniff(latin1(start))).toBe(format);
  });

  it.each([
    ['a GIF', 'GIF87a'],
    ['a TIFF', 'II*\0'],
    ['a TIFF', 'MM\0*'],
    ['a BMP', 'BM\x10\0\0\0\0\0\0\0'],
    ['a PDF', '%PDF-1.7'],
    ['an AVIF image', '\0\0\0\x1cftypavif'],
    ['a HEIC image', '\0\0\0\x1cftypheic'],
    ['a JPEG XL image', '\xff\x0a'],
    ['a JPEG XL image', '\0\0\0\x0cJXL '],
    ['a JPEG 2000 image', '\0\0\0\x0cjP  '],
    ['an icon', '\0\0\x01\0'],
    ['an SVG', '<svg>'],
    ['an SVG', '\xef\xbb\xbf\n<!DOCTYPE svg [<!ENTITY a "b">]>\n<SVG xmlns="">'],
    ['an XML or HTML document', '<!doctype html><p>'],
    [null, 'RIFF\x10\0\0\0WAVEfmt '],
    [null, '\xff\xd8'],
    [null, '<3'],
    [null, ''],
  ])('refuses %s: %j', (refused, start) => {
    expect(sniff(latin1(start))).toEqual({ refused });
  });

  it('looks at a view, not at the buffer behind it', () => {
    const behind = latin1('\x89PNG\r\n\x1a\nGIF89a');
    expect(sniff(behind.subarray(8))).toEqual({ refused: 'a GIF' });
  });
});
