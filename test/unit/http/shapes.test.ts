import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { ChatParser } from '../../../src/http/dialect.js';
import { type Fields, RequestParser } from '../../../src/http/schema.js';
import { COMPONENTS, Shapes } from '../../../src/http/shapes.js';

const LIMITS = { maxTokens: 60, timeoutMs: 60_000, maxBatch: 8 };
const parser = new RequestParser(LIMITS, 'tiny');
const tables: readonly (readonly [string, Fields])[] = [
  ['captions', parser.captionFields],
  ['completions', parser.completionFields],
  ['chat completions', new ChatParser(LIMITS, 'tiny', false).fields],
];
const ajv = new Ajv2020({ strict: true, allowUnionTypes: true });

const TEXTS = [
  '',
  'a',
  'none',
  'auto',
  'a b',
  '../x',
  '-a',
  'team/name',
  's3://bucket/x',
  's3://a b',
  'a\u0000',
  'é',
  '1',
  'x'.repeat(257),
  'x'.repeat(65_537),
];
const NUMBERS = [0, 1, 2, 8, 9, 10, 11, 60, 61, 60_000, 60_001, -1, -10, -11, 0.5, 2.5, 1e300];
const part = (name: string, weight = 1) => ({ name, weight });
const OTHERS = [
  null,
  true,
  false,
  [],
  {},
  ['a'],
  ['a', ''],
  ['text'],
  ['a', 1],
  Array(5).fill('a'),
  { type: 'text' },
  { type: 'json' },
  { include_usage: true },
  { a: 'b' },
  { blend: [part('a'), part('b', -4)] },
  { blend: [part('a')] },
  { blend: [part('a'), part('b', 5)] },
  { blend: [part('a'), { name: 'b' }] },
  [{ blend: [part('a'), part('b')] }, 'c'],
  { a: 1 },
];

describe.each(tables)('the fields of %s', (_name, fields) => {
  const shape = new Shapes().fields(fields, false);

  // Those that have a schema of their own for descriptions are told apart by code.
  test.each(Object.entries(fields).filter(([, { described }]) => described === undefined))(
    '%s takes what its schema takes, and nothing else',
    (name, { schema }) => {
      const validate = ajv.compile((shape['properties'] as Record<string, object>)[name] as object);
      const values = [...TEXTS, ...NUMBERS, ...OTHERS];
      const taken = values.map((value) => schema.safeParse(value).success);
      expect(values.map((value) => validate(value))).toEqual(taken);
      expect(new Set(taken).size).toBe(2);
    },
  );

  test('are described by what errors expect, and no other is allowed', () => {
    for (const [name, { expected }] of Object.entries(fields))
      expect((shape['properties'] as Record<string, object>)[name]).toMatchObject({ description: expected });
    expect(shape).toMatchObject({ type: 'object', additionalProperties: false });
    const empty = Object.entries(fields).filter(([, { schema }]) => !schema.safeParse(undefined).success);
    expect(shape['required'] ?? []).toEqual(empty.map(([name]) => name));
  });
});

test('a form has files, and nothing that is null', () => {
  const form = new Shapes().fields(parser.captionFields, true, ['image']);
  expect(form['required']).toEqual(['image']);
  expect(form['properties']).toMatchObject({
    image: { type: 'string', format: 'binary', contentMediaType: 'application/octet-stream' },
    max_tokens: { type: 'integer', minimum: 1, maximum: 60 },
    adapters: { type: 'array', minItems: 1, maxItems: 64 },
  });
  expect(JSON.stringify(form)).not.toContain('null');
});

test('what has a name is where everybody finds it, and no name stands for two things', () => {
  const shapes = new Shapes();
  const inner = z.strictObject({ x: z.string() }).meta({ id: 'ShapesInner' });
  expect(shapes.of(z.strictObject({ a: inner, b: z.array(inner) }), 'output')).toMatchObject({
    properties: { a: { $ref: `${COMPONENTS}ShapesInner` }, b: { items: { $ref: `${COMPONENTS}ShapesInner` } } },
  });
  expect(shapes.of(inner, 'output')).toEqual({ $ref: `${COMPONENTS}ShapesInner` });
  expect(shapes.named).toEqual({
    ShapesInner: { type: 'object', properties: { x: { type: 'string' } }, required: ['x'], additionalProperties: false },
  });
  expect(() => shapes.of(z.strictObject({ y: z.string() }).meta({ id: 'ShapesInner' }), 'output')).toThrow(TypeError);
});

test('fields of a query are parameters', () => {
  const current = { schema: z.boolean().nullish(), expected: 'true or false', form: 'boolean' as const };
  expect(new Shapes().query({ current })).toEqual([
    { name: 'current', in: 'query', description: 'true or false', required: false, schema: { type: 'boolean' } },
  ]);
});
