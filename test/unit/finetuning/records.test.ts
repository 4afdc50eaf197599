/** Records and events on the disk: there whole or not at all, and what a crash cut short is passed over. */
import { appendFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { EventLog } from '../../../src/finetuning/events.js';
import { newId } from '../../../src/finetuning/name.js';
import { Records } from '../../../src/finetuning/records.js';

const Schema = z.strictObject({ id: z.string(), tenant: z.string(), createdAt: z.int(), state: z.int() });

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-records-'));
});
afterEach(() => rm(folder, { recursive: true }));

const open = (faults: string[] = []) => Records.open(folder, Schema, (place) => faults.push(path.basename(place)));

test('a record is as it was last written, whoever opens the folder next', async () => {
  const records = await open();
  const [older, newer] = [newId('job'), newId('job')];
  await records.put({ id: newer, tenant: 'a', createdAt: 2, state: 0 });
  await records.put({ id: older, tenant: 'a', createdAt: 1, state: 0 });
  // All at once: the last one called is the last one written.
  await Promise.all(Array.from({ length: 20 }, (_, state) => records.put({ id: newer, tenant: 'a', createdAt: 2, state })));
  expect((await open()).all().map(({ id, state }) => [id, state])).toEqual([
    [older, 0],
    [newer, 19],
  ]);
  await records.remove(older);
  expect((await open()).get(older)).toBeUndefined();
  expect(await readdir(folder)).toEqual([`${newer}.json`]);
});

test('what is no record is left alone and told, and a half-written one is nothing', async () => {
  const records = await open();
  const id = newId('job');
  await records.put({ id, tenant: 'a', createdAt: 1, state: 1 });
  const [torn, other] = [`${newId('job')}.json`, `${newId('job')}.json`];
  await writeFile(path.join(folder, torn), '{"id": "ftj');
  await writeFile(path.join(folder, other), JSON.stringify({ id, tenant: 'a', createdAt: 1, state: 1 }));
  await writeFile(path.join(folder, `.${id}.json.tmp-${newId('job')}`), '{');
  const faults: string[] = [];
  expect((await open(faults)).all().map((record) => record.id)).toEqual([id]);
  expect(faults.sort()).toEqual([torn, other].sort());
  expect(await readdir(folder)).toHaveLength(4);
});

test('events come in the order in which they were told, also after one that was cut short', async () => {
  const log = new EventLog(folder);
  const job = newId('job');
  const words = (message: string) => ({ level: 'info' as const, message, data: null });
  await Promise.all(['one', 'two', 'three'].map((message) => log.add(job, words(message))));
  await appendFile(path.join(folder, `${job}.events.jsonl`), '\n{"id": "ftevent-');
  await new EventLog(folder).add(job, { level: 'warn', message: 'four', data: { step: 4 } });
  const events = await log.read(job);
  expect(events.map(({ message }) => message)).toEqual(['one', 'two', 'three', 'four']);
  expect(events.at(-1)?.data).toEqual({ step: 4 });
  expect(new Set(events.map(({ id }) => id)).size).toBe(4);
  await log.remove(job);
  expect(await log.read(job)).toEqual([]);
});
