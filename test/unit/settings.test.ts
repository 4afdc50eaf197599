/** Settings as they are written on a command line: what each kind takes, what it refuses, and that all faults come at once. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../src/errors.js';
import {
  anyText,
  choice,
  flagOf,
  integer,
  kebab,
  list,
  location,
  namedNumbers,
  number,
  optional,
  parseFlags,
  parseNamedNumbers,
  type Setting,
  text,
  toggle,
} from '../../src/settings.js';

const REFUSED = Symbol('refused');

/** What one setting makes of a value. */
function taken(setting: Setting<unknown>, value: unknown): unknown {
  const parsed = setting.schema.safeParse(value);
  return parsed.success ? parsed.data : REFUSED;
}

describe('parseNamedNumbers', () => {
  it.each<[string, number | undefined, Record<string, number>]>([
    ['8', 8, {}],
    ['0.5', 0.5, {}],
    ['.5', 0.5, {}],
    ['-3', -3, {}],
    ['image=4,text=16', undefined, { image: 4, text: 16 }],
    ['8, image=4', 8, { image: 4 }],
    ['image=4,8', 8, { image: 4 }],
    [' text=1.25 ', undefined, { text: 1.25 }],
    [
      'constructor=2,__proto__=3',
      undefined,
      Object.fromEntries([
        ['constructor', 2],
        ['__proto__', 3],
      ]),
    ],
  ])('%j', (written, common, own) => {
    expect(parseNamedNumbers(written)).toEqual({ common, own: new Map(Object.entries(own)) });
  });

  it.each([
    '',
    ',',
    '8,',
    '8,8',
    'image=4,image=4',
    'image=',
    '=',
    'image',
    'image=four',
    'a=b=4',
    '1e3',
    '0x10',
    '5.',
    'NaN',
    '4;5',
  ])('refuses %j', (written) => {
    expect(parseNamedNumbers(written)).toBeUndefined();
  });

  it('takes what it would write (property)', () => {
    const value = fc.integer({ min: -1000, max: 1000 });
    const names = fc.uniqueArray(fc.stringMatching(/^[a-z_]{1,8}$/), { maxLength: 4 });
    fc.assert(
      fc.property(fc.option(value, { nil: undefined }), names, value, (common, keys, each) => {
        fc.pre(common !== undefined || keys.length > 0);
        const own = new Map(keys.map((key, index) => [key, each + index]));
        const written = [...(common === undefined ? [] : [common]), ...[...own].map(([key, of]) => `${key}=${of}`)].join();
        expect(parseNamedNumbers(written)).toEqual({ common, own });
      }),
    );
  });
});

describe('kinds of settings', () => {
  const numbers = { common: 8, own: new Map([['image', 4]]) };
  it.each<[string, Setting<unknown>, unknown, unknown]>([
    ['integer', integer(1, 10, ''), '7', 7],
    ['integer', integer(1, 10, ''), ' 7 ', 7],
    ['integer', integer(1, 10, ''), 7, 7],
    ['integer', integer(1, 1e9, ''), '1e3', 1000],
    ['integer', integer(1, 10, ''), '7.5', REFUSED],
    ['integer', integer(1, 10, ''), '11', REFUSED],
    ['integer', integer(1, 10, ''), '0', REFUSED],
    ['integer', integer(1, 10, ''), 'seven', REFUSED],
    ['integer', integer(1, 10, ''), '', REFUSED],
    ['integer', integer(0, 10, ''), true, REFUSED],
    ['integer', integer(0, Number.MAX_SAFE_INTEGER, ''), '9007199254740993', REFUSED],
    ['number', number(0, 1, ''), '.25', 0.25],
    ['number', number(0, 1, ''), '2e-3', 0.002],
    ['number', number(0, 1, ''), '1.5', REFUSED],
    ['number', number(0, 1, ''), 'NaN', REFUSED],
    ['number', number(0, Number.MAX_VALUE, ''), '1e999', REFUSED],
    ['number', number(0, 1, ''), '0x1', REFUSED],
    ['choice', choice(['a', 'b'], ''), 'b', 'b'],
    ['choice', choice(['a', 'b'], ''), 'B', REFUSED],
    ['text', text(''), 'x', 'x'],
    ['text', text(''), '', REFUSED],
    ['anyText', anyText(''), '', ''],
    ['toggle', toggle(''), true, true],
    ['toggle', toggle(''), 'false', false],
    ['toggle', toggle(''), 'perhaps', REFUSED],
    ['list', list(''), 'a, b,c', ['a', 'b', 'c']],
    ['list', list(''), ['a'], ['a']],
    ['list', list(''), 'a,,b', REFUSED],
    ['list', list(''), '', REFUSED],
    ['namedNumbers', namedNumbers(''), '8,image=4', numbers],
    ['namedNumbers', namedNumbers(''), numbers, numbers],
    ['namedNumbers', namedNumbers(''), 'image', REFUSED],
    ['namedNumbers', namedNumbers(''), undefined, REFUSED],
    ['optional', optional(integer(1, 10, '')), 'none', null],
    ['optional', optional(integer(1, 10, '')), null, null],
    ['optional', optional(integer(1, 10, '')), '3', 3],
    ['optional', optional(integer(1, 10, '')), '30', REFUSED],
    ['optional', optional(list('')), 'none', null],
  ])('%s', (_, setting, value, expected) => {
    expect(taken(setting, value)).toEqual(expected);
  });
});

describe('parseFlags', () => {
  const table = {
    data: location('Data'),
    cache: { ...location('Cache'), default: '.cache' },
    images: { ...optional(location('Images')), default: null },
    maxTokens: { ...integer(1, 10, 'Tokens'), default: 5 },
    deep: { ...toggle('Deep'), default: false },
  };

  it('gives every setting, defaults where nothing is said, and paths from the folder', () => {
    expect(parseFlags(table, { data: 'x/y' }, '/base')).toEqual({
      data: '/base/x/y',
      cache: '/base/.cache',
      images: null,
      maxTokens: 5,
      deep: false,
    });
    expect(parseFlags(table, { data: '/x', cache: '../c', images: 'i', maxTokens: '3', deep: true }, '/base')).toEqual({
      data: '/x',
      cache: '/c',
      images: '/base/i',
      maxTokens: 3,
      deep: true,
    });
    expect(parseFlags(table, { data: 'x', images: 'none' }, '/base').images).toBeNull();
    expect(Object.isFrozen(parseFlags(table, { data: 'x' }, '/base'))).toBe(true);
  });

  it('names every fault at once, with the flag as it is written and what was received', () => {
    const error = (() => {
      try {
        return parseFlags(table, { maxTokens: '11', deep: 'perhaps', images: '' }, '/base');
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toBeInstanceOf(AppError);
    expect(error).toMatchObject({
      code: 'invalid_config',
      faults: [
        '--data: Expected a path but received nothing',
        '--images: Expected a path, or none but received ""',
        '--max-tokens: Expected an integer from 1 to 10 but received "11"',
        '--deep: Expected true or false but received "perhaps"',
      ],
    });
  });
});

describe('flagOf', () => {
  it('shows a flag, whether it takes a value, and the default where that says something', () => {
    const shown = (setting: Setting<unknown>): string => Object.values(flagOf('maxBatch', setting)).join(' | ');
    expect(shown({ ...integer(1, 10, 'Rows'), default: 4 })).toBe('--max-batch <value> | Rows (default 4)');
    expect(shown({ ...integer(0, 10, 'Rows'), default: 0 })).toBe('--max-batch <value> | Rows (default 0)');
    expect(shown(integer(1, 10, 'Rows'))).toBe('--max-batch <value> | Rows');
    expect(shown({ ...toggle('Deep'), default: false })).toBe('--max-batch | Deep');
    expect(shown({ ...list('Sites'), default: ['a', 'b'] })).toBe('--max-batch <value> | Sites (default a,b)');
    expect(shown({ ...anyText('Prompt'), default: '' })).toBe('--max-batch <value> | Prompt');
    expect(shown({ ...optional(text('Task')), default: null })).toBe('--max-batch <value> | Task');
    expect(kebab('evalEveryStep')).toBe('eval-every-step');
  });
});
