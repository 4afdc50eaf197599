/** The store under random sequences of everything that can be done to it, beside a model of it. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { AdapterStore, type HeldVersion } from '../../../src/store/store.js';
import { applyTo, type Command, changesOf, DIGESTS, type Name, note, shownOf } from '../../support/blackboard.js';
import { digestOfSeed, TestPublisher } from '../../support/versions.js';

const NAMES = ['a', 'b/c'];
const command: fc.Arbitrary<Command> = fc.oneof(
  ...changesOf(...NAMES),
  { weight: 3, arbitrary: fc.record({ type: fc.constant('lease'), name: fc.constantFrom(...NAMES) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('release') }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('reopen') }) },
);

class World {
  readonly folder: string;
  store: AdapterStore;
  publisher: TestPublisher;
  readonly names = new Map<string, Name | undefined>();
  leases: HeldVersion[] = [];

  constructor(folder: string, store: AdapterStore) {
    this.folder = folder;
    this.store = store;
    this.publisher = new TestPublisher(store);
  }

  async run(step: Command): Promise<void> {
    const { type, name = '' } = step;
    if (type === 'reopen') {
      await this.store.close();
      this.store = await AdapterStore.open(this.folder);
      this.publisher = new TestPublisher(this.store);
      this.leases = [];
    } else if (type === 'lease') this.lease(name);
    else if (type === 'release') this.leases.shift()?.release();
    else {
      const { model, said } = note(this.names.get(name), step);
      expect(await applyTo(this.store, this.publisher, step)).toBe(said);
      this.names.set(name, model);
    }
  }

  lease(name: string): void {
    const model = this.names.get(name);
    const held = this.store.select({ name }, 'key');
    expect(held !== undefined).toBe(model !== undefined);
    if (held === undefined || model === undefined) return;
    this.leases.push(held);
    const { version, ref } = held.adapter;
    const shares = [...model.shares].filter(([, percent]) => percent > 0).map(([number]) => number);
    expect(shares.length > 0 ? shares : [model.current]).toContain(version);
    expect(DIGESTS.get(ref.digest)).toBe(model.seeds.get(version));
  }

  async check(): Promise<void> {
    for (const name of NAMES) {
      const entry = this.store.get(name);
      expect(entry && shownOf(entry)).toEqual(this.names.get(name)?.shown);
    }
    // Nothing is kept that nobody needs: a change that changes nothing waits for what leases have left to do.
    await this.store.delete('nobody');
    const named = [...this.names.values()].flatMap((model) => [...(model?.seeds.values() ?? [])].map(digestOfSeed));
    const needed = new Set([...named, ...this.leases.map(({ adapter }) => adapter.ref.digest)]);
    const kept = await readdir(path.join(this.folder, 'versions'));
    expect(new Set(kept.map((hex) => `sha256:${hex}`))).toEqual(needed);
    expect(await readdir(path.join(this.folder, 'uploads'))).toEqual([]);
  }
}

it('does what the blackboard says, and its folder holds what is needed', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 30 }), async (steps) => {
      const folder = await mkdtemp(path.join(tmpdir(), 'graft-store-'));
      const world = new World(folder, await AdapterStore.open(folder));
      try {
        for (const step of [...steps, { type: 'reopen' }]) {
          await world.run(step);
          await world.check();
        }
      } finally {
        await world.store.close();
        await rm(folder, { recursive: true });
      }
    }),
    { numRuns: 40 },
  );
}, 120_000);
