/** Whose turn it is. */
import { expect, test } from 'vitest';
import { TenantQueue } from '../../../src/finetuning/queue.js';

function drained(queue: TenantQueue): string[] {
  const ids: string[] = [];
  for (let id = queue.next(); id !== undefined; id = queue.next()) ids.push(id);
  return ids;
}

test('tenants take turns, each with its oldest first', () => {
  const queue = new TenantQueue();
  for (const id of ['a1', 'a2', 'a3', 'a4']) queue.add('a', id);
  for (const id of ['b1', 'b2']) queue.add('b', id);
  queue.add('c', 'c1');
  expect(drained(queue)).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3', 'a4']);
});

test('who comes later and had no turn yet comes before who had one', () => {
  const queue = new TenantQueue();
  for (const id of ['a1', 'a2', 'a3']) queue.add('a', id);
  expect(queue.next()).toBe('a1');
  queue.add('b', 'b1');
  expect(drained(queue)).toEqual(['b1', 'a2', 'a3']);
});

test('what is taken out has no turn, wherever it stands', () => {
  const queue = new TenantQueue();
  for (const id of ['a1', 'a2', 'a3']) queue.add('a', id);
  queue.add('b', 'b1');
  queue.remove('a', 'a2');
  queue.remove('b', 'b1');
  queue.remove('nobody', 'x');
  expect(drained(queue)).toEqual(['a1', 'a3']);
});
