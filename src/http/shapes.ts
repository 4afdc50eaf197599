/**
 * The schemas that check requests, and those of replies, as JSON Schema for the description of the API. Zod does the work; what is here is where
 * named ones go, what a table of fields is, and what stands for bytes.
 */
import { z } from 'zod';
import type { Field, Fields } from './schema.js';

export type Shape = Readonly<Record<string, unknown>>;

/** A file of a form, or a body that is one: JSON Schema has no bytes. The format is what older tools look for. */
const FILE: Shape = { type: 'string', format: 'binary', contentMediaType: 'application/octet-stream' };

/** Where a description has what is used more than once. */
export const COMPONENTS = '#/components/schemas/';

export class Shapes {
  readonly #named = new Map<string, Shape>();

  /** Schemas with an `id` in their `meta`, by it, sorted. */
  get named(): Readonly<Record<string, Shape>> {
    return Object.fromEntries([...this.#named].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** What is sent has to be as the schema's input, what is answered is its output. Throws TypeError where two schemas have one name. */
  of(schema: z.ZodType, io: 'input' | 'output'): Shape {
    const { $schema: _, $defs = {}, ...shape } = z.toJSONSchema(schema, { io, unrepresentable: () => FILE });
    for (const [name, named] of Object.entries($defs)) this.#name(name, moved(named));
    return moved(shape);
  }

  /** An object of these fields and no others. */
  fields(fields: Fields, form: boolean, required: readonly string[] = []): Shape {
    const properties = Object.entries(fields).map(([name, field]) => [
      name,
      { ...this.#field(field, form), description: field.expected },
    ]);
    const needed = Object.entries(fields).filter(([name, field]) => required.includes(name) || isRequired(field));
    return {
      type: 'object',
      properties: Object.fromEntries(properties) as Shape,
      ...(needed.length > 0 && { required: needed.map(([name]) => name) }),
      additionalProperties: false,
    };
  }

  /** As `fields`, one by one, for what comes in the query. */
  query(fields: Fields): object[] {
    return Object.entries(fields).map(([name, field]) => ({
      name,
      in: 'query',
      description: field.expected,
      required: isRequired(field),
      schema: this.#field(field, true),
    }));
  }

  #field({ schema, described = schema, form: kind }: Field, form: boolean): Shape {
    if (!form) return this.of(described, 'input');
    // A form has no null: what is not said is left out.
    return kind === 'file' ? FILE : this.of(present(described), 'input');
  }

  #name(name: string, shape: Shape): void {
    const before = this.#named.get(name);
    if (before !== undefined && JSON.stringify(before) !== JSON.stringify(shape))
      throw new TypeError(`Expected one schema of the name ${name} but received two`);
    this.#named.set(name, shape);
  }
}

function isRequired({ schema }: Field): boolean {
  return !schema.safeParse(undefined).success;
}

function present(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodOptional || schema instanceof z.ZodNullable ? present(schema.unwrap() as z.ZodType) : schema;
}

function moved(shape: object): Shape {
  return JSON.parse(JSON.stringify(shape).replaceAll('"#/$defs/', `"${COMPONENTS}`)) as Shape;
}
