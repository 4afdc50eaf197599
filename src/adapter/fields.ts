/**
 * Fields of a JSON object that we did not write. A wrong one becomes a fault that says what was expected and what came, and reads as
 * absent: the file is read to its end, so that all its faults are told at once. `null` is how Python writes an absent value.
 */
import type { Faults } from '../tensor/faults.js';
import { members, parseJson, quote } from '../tensor/json.js';

/** What a field has to be, in words for the fault, and the check. */
export interface Kind<T> {
  readonly words: string;
  is(value: unknown): value is T;
}

export const TEXT: Kind<string> = { words: 'a string', is: (value) => typeof value === 'string' };
export const FLAG: Kind<boolean> = { words: 'true or false', is: (value) => typeof value === 'boolean' };
export const NUMBER: Kind<number> = {
  words: 'a finite number',
  is: (value): value is number => typeof value === 'number' && Number.isFinite(value),
};
export const RANK: Kind<number> = {
  words: 'a positive integer',
  is: (value): value is number => Number.isSafeInteger(value) && (value as number) > 0,
};
export const INDEX: Kind<number> = {
  words: 'a non-negative integer',
  is: (value): value is number => Number.isSafeInteger(value) && (value as number) >= 0,
};
export const OBJECT: Kind<Record<string, unknown>> = {
  words: 'an object',
  is: (value): value is Record<string, unknown> => members(value) !== undefined,
};

export const listOf = <T>(item: Kind<T>): Kind<readonly T[]> => ({
  words: `a list in which each is ${item.words}`,
  is: (value): value is readonly T[] => Array.isArray(value) && value.every((entry) => item.is(entry)),
});

export const either = <A, B>(a: Kind<A>, b: Kind<B>): Kind<A | B> => ({
  words: `${a.words} or ${b.words}`,
  is: (value): value is A | B => a.is(value) || b.is(value),
});

export class Fields {
  readonly faults: Faults;
  readonly #values: ReadonlyMap<string, unknown>;

  constructor(values: ReadonlyMap<string, unknown>, faults: Faults) {
    this.#values = values;
    this.faults = faults;
  }

  /** The object in a file's bytes; undefined, always with a fault, where they hold something else. */
  static parse(bytes: Uint8Array, faults: Faults): Fields | undefined {
    let text: string;
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch {
      faults.add('Expected JSON in UTF-8 but received other bytes');
      return undefined;
    }
    const before = faults.count;
    const value = parseJson(text, faults);
    const values = members(value);
    if (values !== undefined) return new Fields(values, faults);
    // Where the text was no JSON, that fault says enough.
    if (faults.count === before) faults.add(`Expected an object but received ${quote(value)}`);
    return undefined;
  }

  keys(): Iterable<string> {
    return this.#values.keys();
  }

  /** As it stands in the file; undefined for null as well. */
  raw(key: string): unknown {
    return this.#values.get(key) ?? undefined;
  }

  get<T>(key: string, kind: Kind<T>): T | undefined {
    const value = this.raw(key);
    if (value === undefined || kind.is(value)) return value;
    this.faults.add(`Expected ${key} to be ${kind.words} but received ${quote(value)}`);
    return undefined;
  }

  require<T>(key: string, kind: Kind<T>): T | undefined {
    if (this.raw(key) === undefined) this.faults.add(`Expected ${key} to be ${kind.words} but received nothing`);
    return this.get(key, kind);
  }

  /** The entries of an object in which each value is of this kind; none where it is absent. */
  entries<T>(key: string, kind: Kind<T>): (readonly [string, T])[] {
    return Object.entries(this.get(key, OBJECT) ?? {}).filter((entry): entry is [string, T] => {
      if (kind.is(entry[1])) return true;
      this.faults.add(`Expected ${key}'s ${quote(entry[0])} to be ${kind.words} but received ${quote(entry[1])}`);
      return false;
    });
  }
}
