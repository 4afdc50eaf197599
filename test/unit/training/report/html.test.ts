import { describe, expect, it } from 'vitest';
import { clip, html, trusted } from '../../../../src/training/report/html.js';

describe('html', () => {
  it('escapes text, in content and in attributes', () => {
    const text = `</style><script>"&'`;
    expect(html`<p title="${text}">${text}</p>`.text).toBe(
      '<p title="&lt;/style&gt;&lt;script&gt;&quot;&amp;&#39;">&lt;/style&gt;&lt;script&gt;&quot;&amp;&#39;</p>',
    );
  });

  it('leaves markup as it is, once', () => {
    expect(html`<p>${html`<b>${'<'}</b>`}${[html`<i></i>`, '>', 3]}${trusted('<hr>')}</p>`.text).toBe(
      '<p><b>&lt;</b><i></i>&gt;3<hr></p>',
    );
  });

  it('takes nothing for markup that only looks like it', () => {
    const forged = JSON.parse('{"text": "<script>"}');
    expect(() => html`${forged}`).toThrow(TypeError);
  });

  it('shows what is no character of a document as U+FFFD, and keeps line ends and pairs', () => {
    expect(html`${'a\0\x1b\x85\ud800b\udc00\n\t\ud83d\udc15'}`.text).toBe('a\ufffd\ufffd\ufffd\ufffdb\ufffd\n\t\ud83d\udc15');
  });
});

describe('clip', () => {
  it.each([
    ['abc', 3, 'abc'],
    ['abcd', 3, 'abc…'],
    ['a\ud83d\udc15b', 2, 'a…'],
    ['a\ud83d\udc15b', 3, 'a\ud83d\udc15…'],
    ['', 0, ''],
  ])('cuts %j to %d', (text, length, expected) => {
    expect(clip(text, length)).toBe(expected);
  });
});
