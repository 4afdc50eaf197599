import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { AppError, ERRORS, type ErrorCode } from '../../src/errors.js';

test('docs/api.md has the whole table of errors, and nothing that is not in it', async () => {
  const docs = await readFile('docs/api.md', 'utf8');
  const table = docs.slice(docs.indexOf('| code | status |')).split('\n\n')[0];
  const rows = Object.entries(ERRORS).map(
    ([code, { status, retryable, meaning }]) => `| \`${code}\` | ${status} | ${retryable ? 'yes' : ''} | ${meaning} |`,
  );
  expect(table?.trim().split('\n').slice(2)).toEqual(rows);
});

test('an error has what its row says', () => {
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    const { status, type, retryable } = new AppError(code, 'x');
    expect({ status, type, retryable }).toEqual({
      status: ERRORS[code].status,
      type: ERRORS[code].type,
      retryable: ERRORS[code].retryable ?? false,
    });
  }
});
