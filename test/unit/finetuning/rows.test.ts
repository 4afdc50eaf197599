/** Rows of training files: what is taken, and the sentence for everything that is not. */
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import { readRow, type TrainingRow } from '../../../src/finetuning/rows.js';
import { Faults } from '../../../src/tensor/faults.js';

const LIMITS = { maxImageBytes: 10_000 };
const IMAGE = 'messages[0].content[0].image_url';

let png: string;
beforeAll(async () => {
  const image = sharp({ create: { width: 8, height: 8, channels: 3, background: '#c00' } });
  png = (await image.png().toBuffer()).toString('base64');
});

function read(value: unknown): { row: TrainingRow | undefined; faults: readonly string[] } {
  const faults = new Faults();
  const row = readRow(typeof value === 'string' ? value : JSON.stringify(value), LIMITS, faults);
  return { row, faults: faults.count > 0 ? (faults.error('invalid_request', '').faults ?? []) : [] };
}

const row = (user: unknown, assistant: unknown = { role: 'assistant', content: 'a dog.' }) => ({ messages: [user, assistant] });
const user = (content: unknown) => row({ role: 'user', content });
const picture = (url: unknown, more: object = {}) => ({ type: 'image_url', image_url: { url, ...more } });
const text = (words: unknown) => ({ type: 'text', text: words });

describe('a row', () => {
  test('is an image, a prompt and a caption', () => {
    const content = [picture(`data:image/png;base64,${png}`, { detail: 'low' }), text('What is it?')];
    expect(read(user(content))).toEqual({
      row: { image: png.replace(/=+$/, ''), prompt: 'What is it?', caption: 'a dog.' },
      faults: [],
    });
  });

  test('needs no prompt, and no image', () => {
    const url = `data:image/png;base64,${png}`;
    expect(read(user([picture(url)])).row?.prompt).toBe('');
    expect(read(user('')).row).toEqual({ image: null, prompt: '', caption: 'a dog.' });
    expect(read(user([text('one'), text(''), text('two')])).row).toEqual({ image: null, prompt: 'one\ntwo', caption: 'a dog.' });
  });
});

describe('what is no row', () => {
  const gif = Buffer.from(`GIF89a${'x'.repeat(100)}`).toString('base64');
  const uri = (data: string): string => `data:image/png;base64,${data}`;
  test.each<[string, unknown, string]>([
    ['no JSON', 'dog', 'Expected JSON but received something else'],
    ['a key twice', '{"messages": [], "messages": []}', 'Expected each key once but received "messages" again'],
    ['no object', [1], 'the row: Expected an object but received [1]'],
    ['tools', { ...user('x'), tools: [] }, 'the row: Expected only messages but received "tools"'],
    ['no messages', {}, 'messages: Expected one user message and one assistant message but received nothing'],
    ['a conversation', { messages: [1, 2, 3] }, 'messages: Expected one user message and one assistant message but received 3'],
    ['a system message', row({ role: 'system', content: 'x' }), 'messages[0].role: Expected "user" but received "system"'],
    [
      'the wrong end',
      row({ role: 'user', content: 'x' }, { role: 'user', content: 'x' }),
      'messages[1].role: Expected "assistant" but received "user"',
    ],
    [
      'a weight',
      row({ role: 'user', content: 'x' }, { role: 'assistant', content: 'x', weight: 0 }),
      'messages[1]: Expected only role and content but received "weight"',
    ],
    [
      'an empty caption',
      row({ role: 'user', content: 'x' }, { role: 'assistant', content: ' ' }),
      'messages[1].content: Expected the caption, a text that is not empty, but received " "',
    ],
    [
      'a caption with a NUL',
      row({ role: 'user', content: 'x' }, { role: 'assistant', content: 'a\0b' }),
      'messages[1].content: Expected the caption',
    ],
    ['half a character', user([text('\ud83d')]), 'messages[0].content[0].text: Expected a text but received'],
    ['no content', user(null), 'messages[0].content: Expected a text or a list of 1 to 64 parts but received null'],
    [
      'audio',
      user([{ type: 'input_audio' }]),
      'messages[0].content[0].type: Expected "text" or "image_url" but received "input_audio"',
    ],
    [
      'a URL',
      user([picture('https://example.com/dog.png')]),
      `${IMAGE}.url: Expected a data URI (data:image/jpeg;base64,...) but received "https://example.com/dog.png": a training file brings its images itself, none is fetched`,
    ],
    ['a file on the server', user([picture('file:///etc/passwd')]), `${IMAGE}.url: Expected a data URI`],
    ['no base64', user([picture(uri('a!b'))]), `${IMAGE}.url: Expected base64 but received something else`],
    ['a length that base64 has not', user([picture(uri('abcde'))]), `${IMAGE}.url: Expected base64 but received something else`],
    [
      'no image',
      user([picture(uri('aGVsbG8='))]),
      `${IMAGE}.url: Expected a JPEG, PNG or WebP image but received 5 bytes of something else`,
    ],
    ['a GIF', user([picture(uri(gif))]), `${IMAGE}.url: Expected a JPEG, PNG or WebP image but received a GIF`],
    [
      'too large an image',
      user([picture(uri('A'.repeat(13_336)))]),
      `${IMAGE}.url: Expected an image of at most 10000 bytes but received 10002`,
    ],
    [
      'a detail',
      user([picture(uri('aGVsbG8='), { detail: 'huge' })]),
      `${IMAGE}.detail: Expected "auto", "low" or "high" but received another`,
    ],
  ])('%s', (_, value, fault) => {
    const { row: found, faults } = read(value);
    expect(found).toBeUndefined();
    expect(faults.join('\n')).toContain(fault);
  });

  test('two images, of which each is one', () => {
    const image = picture(`data:image/png;base64,${png}`);
    expect(read(user([image, image])).faults).toEqual(['messages[0].content: Expected at most one image but received 2']);
  });

  test('all that is wrong with it is told at once', () => {
    const both = {
      messages: [
        { role: 'bot', content: 'x' },
        { role: 'bot', content: 'x' },
      ],
    };
    expect(read(both).faults).toHaveLength(2);
  });
});
