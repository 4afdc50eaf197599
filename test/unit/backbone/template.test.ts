import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ChatTemplate, type Turn } from '../../../src/backbone/template.js';
import { Tokenizer } from '../../../src/backbone/tokenizer.js';

const FIXTURES = 'test/fixtures/chat';

interface Case {
  readonly messages: readonly Turn[];
  readonly text?: string;
  readonly ids?: readonly number[];
  readonly refused?: string;
}

describe.each(['chatml', 'brackets', 'headers'])('a template like %s', async (name) => {
  const folder = path.join(FIXTURES, name);
  const cases = JSON.parse(await readFile(path.join(folder, 'cases.json'), 'utf8')) as readonly Case[];
  const template = await ChatTemplate.open(folder);
  const tokenizer = await Tokenizer.open(folder);

  test.each(cases.filter(({ text }) => text !== undefined))(
    'makes of $messages what transformers makes of it',
    ({ messages, text, ids }) => {
      expect(template?.render(messages)).toBe(text);
      expect(tokenizer.encodeWhole(text ?? '')).toEqual(ids);
    },
  );

  test.each(cases.filter(({ refused }) => refused !== undefined))(
    'refuses $messages, as it does there, in its own words',
    ({ messages, refused }) => {
      const message = expect.stringContaining(refused ?? '') as string;
      expect(() => template?.render(messages)).toThrow(
        expect.objectContaining({ code: 'invalid_request', param: 'messages', message }),
      );
    },
  );
});

describe('where it stands', () => {
  let folder = '';
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-template-'));
    await cp(path.join(FIXTURES, 'headers'), folder, { recursive: true });
  });
  afterEach(() => rm(folder, { recursive: true }));

  const config = (value: object) => writeFile(path.join(folder, 'tokenizer_config.json'), JSON.stringify(value));
  const render = async () => (await ChatTemplate.open(folder))?.render([{ role: 'user', content: 'x' }]);

  test('a file of its own wins over the configuration; of several the usual one is taken; none is null', async () => {
    await config({
      chat_template: [
        { name: 'tool_use', template: 'a' },
        { name: 'default', template: 'b' },
      ],
    });
    expect(await render()).toBe('b');
    await config({ chat_template: [{ name: 'tool_use', template: 'a' }] });
    expect(await ChatTemplate.open(folder)).toBe(null);
    await writeFile(path.join(folder, 'chat_template.jinja'), '{{ bos_token }}{{ messages[0].content }}{{ pad_token }}');
    await config({ bos_token: { content: '<b>', lstrip: false }, add_bos_token: true, pad_token: null });
    expect(await render()).toBe('<b>x');
    await rm(path.join(folder, 'chat_template.jinja'));
    expect(await ChatTemplate.open(folder)).toBe(null);
  });

  test('one that cannot be read is named', async () => {
    await config({ chat_template: '{% for message in messages %}' });
    await expect(ChatTemplate.open(folder)).rejects.toThrow(/tokenizer_config\.json: Expected a chat template that can be read/);
    await config({ chat_template: 7 });
    await expect(ChatTemplate.open(folder)).rejects.toThrow(
      'chat_template: Expected a template, or a list of named ones, but received 7',
    );
  });
});
