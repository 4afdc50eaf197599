/**
 * A process that changes a store until somebody kills it: `doomed.ts FOLDER SEED`. Two lanes, a name each, work at once; every change is announced
 * before it is begun and when it is done, by a write that has happened when it returns.
 */
import { writeSync } from 'node:fs';
import fc from 'fast-check';
import { AdapterStore } from '../../src/store/store.js';
import { applyTo, changesOf } from './blackboard.js';
import { TestPublisher } from './versions.js';

const [folder = '', seed = '0'] = process.argv.slice(2);
const say = (line: object): void => void writeSync(1, `${JSON.stringify(line)}\n`);

say({ opening: true });
const store = await AdapterStore.open(folder);
const publisher = new TestPublisher(store);
await Promise.all(
  ['a', 'b/c'].map(async (name, lane) => {
    for (const command of fc.sample(fc.oneof(...changesOf(name)), { seed: 2 * Number(seed) + lane, numRuns: 10_000 })) {
      say({ name, begun: command });
      const said = await applyTo(store, publisher, command);
      say({ name, done: said ?? null });
    }
  }),
);
