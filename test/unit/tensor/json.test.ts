import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { Faults } from '../../../src/tensor/faults.js';
import { members, parseJson, quote } from '../../../src/tensor/json.js';

function parse(text: string, maxDepth?: number): { value: unknown; faults: readonly string[] } {
  const faults = new Faults();
  const value = parseJson(text, faults, maxDepth);
  return { value, faults: faults.count > 0 ? (faults.error('invalid_file', 'text').faults ?? []) : [] };
}

describe('parseJson', () => {
  it('gives what JSON.parse gives, without a fault, for whatever JSON.stringify writes', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), fc.constantFrom(0, 2), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        expect(parse(text)).toEqual({ value: JSON.parse(text), faults: [] });
      }),
    );
  });

  it('names a key that comes twice in one object, however it is escaped and wherever it is', () => {
    expect(parse('{"a": 1, "b": {"c": 1, "\\u0063" : 2}, "a": 2}').faults).toEqual([
      'Expected each key once but received "c" again',
      'Expected each key once but received "a" again',
    ]);
  });

  it('accepts equal keys in different objects, and strings that look like keys', () => {
    const text = '{"a": [{"a": "a"}, {"a": "\\"a\\":"}], "b": "a", "c": "{\\"a\\":1,\\"a\\":2}"}';
    expect(parse(text).faults).toEqual([]);
  });

  it('finds a duplicate that is inserted anywhere', () => {
    const object = fc.dictionary(fc.string({ maxLength: 4, unit: 'binary' }), fc.jsonValue({ maxDepth: 1 }), {
      minKeys: 1,
      maxKeys: 5,
    });
    fc.assert(
      fc.property(object, fc.nat(), (value, pick) => {
        const key = Object.keys(value).at(pick % Object.keys(value).length) ?? '';
        const text = `${JSON.stringify(value).slice(0, -1)}, ${JSON.stringify(key)}: null}`;
        expect(parse(text).faults).toEqual([`Expected each key once but received ${quote(key)} again`]);
      }),
    );
  });

  it.each(['', '{', '{"a" 1}', '"\\', '{"a": 01}', 'NaN', '[1,]', ']', '{"\\x": 1}'])('refuses %j', (text) => {
    const { value, faults } = parse(text);
    expect(value).toBeUndefined();
    expect(faults).toEqual([expect.stringContaining('Expected JSON but received')]);
  });

  it('bounds the depth before it builds anything', () => {
    expect(parse('[[[]]]', 3).value).toEqual([[[]]]);
    expect(parse('[[[]]]', 2)).toEqual({ value: undefined, faults: ['Expected JSON of at most 2 levels but received more'] });
    expect(parse('['.repeat(5_000_000)).faults).toEqual(['Expected JSON of at most 32 levels but received more']);
    expect(parse('"[[[["', 1).faults).toEqual([]);
  });

  it('survives a very long string', () => {
    const long = `"${'\\"'.repeat(2_000_000)}"`;
    expect(parse(`{${long}: 1}`).faults).toEqual([]);
  });
});

describe('members', () => {
  it('keeps __proto__ as a name', () => {
    expect(members(JSON.parse('{"__proto__": 1, "toString": 2}'))).toEqual(
      new Map([
        ['__proto__', 1],
        ['toString', 2],
      ]),
    );
  });

  it.each([[[]], [null], ['text'], [1], [undefined]])('is undefined for %j', (value) => expect(members(value)).toBeUndefined());
});

describe('Faults', () => {
  it('names a hundred and counts the rest', () => {
    const faults = new Faults();
    faults.check('invalid_file', 'nothing');
    for (let i = 0; i < 250; i++) faults.add(`fault ${i}`);
    const error = faults.error('invalid_file', 'file');
    expect(error).toBeInstanceOf(AppError);
    expect(error.faults).toHaveLength(101);
    expect(error.message).toMatch(/^file: fault 0; .*; fault 99; and 150 more faults$/);
    expect(() => faults.check('adapter_invalid', 'file')).toThrow(expect.objectContaining({ code: 'adapter_invalid' }));
  });
});
