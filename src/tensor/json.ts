/**
 * JSON from files that we did not write. `JSON.parse` alone keeps the last of two equal keys without a word (two readers of one
 * file can then see two different tensors) and builds any depth of nesting; a walk over the text before it finds both.
 */

import type { Faults } from './faults.js';

/**
 * Parses JSON; equal keys in one object, and more than `maxDepth` objects or arrays within each other, are faults.
 * Returns undefined, always with a fault, where the text is not JSON or nests too deep. Never throws.
 */
export function parseJson(text: string, faults: Faults, maxDepth = 32): unknown {
  if (!scan(text, faults, maxDepth)) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    faults.add(`Expected JSON but received something else (${shorten(String(error))})`);
    return undefined;
  }
}

/** The members of a JSON object as a Map, in which `__proto__` is a name like any other; undefined for anything else. */
export function members(value: unknown): Map<string, unknown> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  return new Map(Object.entries(value));
}

/** A value from a file as it may stand in an error message: JSON, and never long. */
export function quote(value: unknown): string {
  return shorten(JSON.stringify(value) ?? 'nothing');
}

function shorten(text: string): string {
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OBJECT_OPEN = 0x7b;
const OBJECT_CLOSE = 0x7d;
const ARRAY_OPEN = 0x5b;
const ARRAY_CLOSE = 0x5d;

/** Names the repeated keys of a text that may yet turn out not to be JSON; false where it nests deeper than `maxDepth`. */
function scan(text: string, faults: Faults, maxDepth: number): boolean {
  const open: Set<string>[] = []; // keys of each object around the position; stays empty for an array
  const colon = /[ \t\n\r]*:/y;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case OBJECT_OPEN:
      case ARRAY_OPEN:
        if (open.length === maxDepth) {
          faults.add(`Expected JSON of at most ${maxDepth} levels but received more`);
          return false;
        }
        open.push(new Set());
        break;
      case OBJECT_CLOSE:
      case ARRAY_CLOSE:
        open.pop();
        break;
      case QUOTE: {
        const start = i;
        i = closingQuote(text, start);
        colon.lastIndex = i + 1;
        if (!colon.test(text)) break;
        const key = keyOf(text.slice(start, i + 1));
        const keys = open.at(-1);
        if (keys?.has(key)) faults.add(`Expected each key once but received ${quote(key)} again`);
        keys?.add(key);
        break;
      }
    }
  }
  return true;
}

function closingQuote(text: string, start: number): number {
  let i = start + 1;
  while (i < text.length && text.charCodeAt(i) !== QUOTE) i += text.charCodeAt(i) === BACKSLASH ? 2 : 1;
  return i;
}

/** `"\u0061"` and `"a"` are one key. What is no JSON string stays as it is: JSON.parse refuses the whole text afterwards. */
function keyOf(literal: string): string {
  if (!literal.includes('\\')) return literal.slice(1, -1);
  try {
    return String(JSON.parse(literal));
  } catch {
    return literal;
  }
}
