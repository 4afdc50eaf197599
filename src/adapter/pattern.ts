/**
 * Regular expressions from PEFT configurations. They are Python's, and they come from strangers: they are translated where the two
 * languages differ in how they write the same thing, refused where JavaScript has no such thing, and run with a time limit, because
 * one short pattern can take for ever.
 */
import { runInNewContext } from 'node:vm';
import type { Faults } from '../tensor/faults.js';
import { quote } from '../tensor/json.js';

export interface Match {
  /** Index of the first pattern that matched. */
  readonly pattern: number;
  /** What its group named `idx` caught. */
  readonly idx: string | undefined;
}

const BUDGET_MS = 2000;

/** Names in which a pattern may need some of Python's syntax, and what JavaScript calls it. */
const PYTHON = /\\A|\\Z|\\[\s\S]|\(\?P<|\(\?P=(\w+)\)|\{,(\d+)\}/g;

/** The same pattern in JavaScript, as far as its spelling differs. */
export function translate(python: string): string {
  return python.replace(PYTHON, (token, reference?: string, upTo?: string) => {
    if (token === '\\A') return '^';
    if (token === '\\Z') return '$';
    if (token === '(?P<') return '(?<';
    if (reference !== undefined) return `\\k<${reference}>`;
    return upTo === undefined ? token : `{0,${upTo}}`;
  });
}

/** Whether a pattern of `field` can be used at all; adds a fault where not. Runs nothing. */
export function checkPattern(python: string, field: string, faults: Faults): boolean {
  try {
    return new RegExp(translate(python)) instanceof RegExp;
  } catch (error) {
    faults.add(`Expected ${field} to be a regular expression but received ${quote(python)} (${(error as Error).message})`);
    return false;
  }
}

/**
 * For each name the first of the patterns that matches at its start (Python's `re.match`), or null.
 * Returns undefined, always with a fault about `field`, where they take longer than two seconds together.
 */
export function firstMatches(
  patterns: readonly string[],
  names: readonly string[],
  field: string,
  faults: Faults,
): (Match | null)[] | undefined {
  if (patterns.length === 0) return names.map(() => null);
  const sources = patterns.map((pattern) => `^(?:${translate(pattern)})`);
  try {
    // A context of its own is not for safety (it runs only our code) but for the limit, which interrupts a match.
    const json = runInNewContext(SEARCH, { sources, names }, { timeout: BUDGET_MS }) as string;
    return JSON.parse(json) as (Match | null)[];
  } catch (error) {
    faults.add(`Expected ${field} to match within ${BUDGET_MS} ms but it did not (${(error as Error).message})`);
    return undefined;
  }
}

const SEARCH = `
  const expressions = sources.map((source) => new RegExp(source));
  JSON.stringify(names.map((name) => {
    for (const [pattern, expression] of expressions.entries()) {
      const match = expression.exec(name);
      if (match) return { pattern, idx: match.groups?.idx };
    }
    return null;
  }));
`;
