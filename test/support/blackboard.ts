/** What a store ought to hold after each change: a model of it that has no disk and no second thoughts. */
import fc from 'fast-check';
import { AppError } from '../../src/errors.js';
import type { Entry } from '../../src/store/entry.js';
import type { AdapterStore } from '../../src/store/store.js';
import { digestOfSeed, type TestPublisher } from './versions.js';

const SEEDS = [1, 2, 3, 4];
export const DIGESTS = new Map(SEEDS.map((seed) => [digestOfSeed(seed), seed]));

/** Changes of names. */
export function changesOf(...names: readonly string[]) {
  const name = fc.constantFrom(...names);
  const version = fc.integer({ min: 1, max: 5 });
  return [
    {
      weight: 8,
      arbitrary: fc.record({ type: fc.constant('publish'), name, seed: fc.constantFrom(...SEEDS), flag: fc.boolean() }),
    },
    { weight: 3, arbitrary: fc.record({ type: fc.constant('rollback'), name }) },
    { weight: 2, arbitrary: fc.record({ type: fc.constant('rollbackTo'), name, version }) },
    { weight: 3, arbitrary: fc.record({ type: fc.constant('split'), name, version, other: version, percent: fc.nat(100) }) },
    { weight: 1, arbitrary: fc.record({ type: fc.constant('unsplit'), name }) },
    { weight: 2, arbitrary: fc.record({ type: fc.constant('shadow'), name, version }) },
    { weight: 1, arbitrary: fc.record({ type: fc.constant('unshadow'), name }) },
    { weight: 2, arbitrary: fc.record({ type: fc.constant('promote'), name }) },
    { weight: 1, arbitrary: fc.record({ type: fc.constant('pin'), name, flag: fc.boolean() }) },
    { weight: 4, arbitrary: fc.record({ type: fc.constant('deleteVersion'), name, version }) },
    { weight: 1, arbitrary: fc.record({ type: fc.constant('delete'), name }) },
  ];
}

export type Command = {
  type: string;
  name?: string;
  seed?: number;
  flag?: boolean;
  version?: number;
  other?: number;
  percent?: number;
};

/** A name as one would write it on a blackboard. */
export class Name {
  /** Seeds by number. */
  seeds = new Map<number, number>();
  next = 1;
  current = 0;
  before: number[] = [];
  shares = new Map<number, number>();
  shadow = 0;
  pinned = false;

  serve(number: number): void {
    if (this.shadow === number) this.shadow = 0;
    this.shares.clear();
    if (this.current === number) return;
    if (this.current > 0) this.before.push(this.current);
    this.current = number;
  }

  copy(): Name {
    return Object.assign(new Name(), structuredClone(this));
  }

  publish(seed: number, isCurrent: boolean): void {
    let number = [...this.seeds].find(([, one]) => one === seed)?.[0];
    if (number === undefined) {
      number = this.next++;
      this.seeds.set(number, seed);
    }
    if (isCurrent || this.current === 0) this.serve(number);
  }

  /** What the store ought to say, or undefined where it is done. */
  run({ type, version: at = 0, other = 0, percent = 0, flag = false }: Command): string | undefined {
    const unknown = this.seeds.has(at) ? undefined : 'adapter_not_found';
    switch (type) {
      case 'rollback': {
        const last = this.before.pop();
        if (last === undefined) return 'conflict';
        this.serve(last);
        this.before.pop();
        return undefined;
      }
      case 'rollbackTo':
        if (!unknown) this.serve(at);
        return unknown;
      case 'split':
        if (unknown || !this.seeds.has(other)) return 'adapter_not_found';
        this.shares =
          at === other
            ? new Map([[at, 100]])
            : new Map([
                [at, percent],
                [other, 100 - percent],
              ]);
        return undefined;
      case 'unsplit':
        this.shares.clear();
        return undefined;
      case 'shadow':
        if (at === this.current) return 'conflict';
        if (!unknown) this.shadow = at;
        return unknown;
      case 'unshadow':
        this.shadow = 0;
        return undefined;
      case 'promote':
        if (this.shadow === 0) return 'conflict';
        this.serve(this.shadow);
        return undefined;
      case 'pin':
        this.pinned = flag;
        return undefined;
      default: {
        if (unknown) return unknown;
        if (at === this.current || at === this.shadow || this.shares.has(at)) return 'conflict';
        this.seeds.delete(at);
        const left: number[] = [];
        for (const one of this.before) if (one !== at && one !== left.at(-1)) left.push(one);
        if (left.at(-1) === this.current) left.pop();
        this.before = left;
        return undefined;
      }
    }
  }

  get shown(): object {
    return {
      versions: [...this.seeds],
      current: this.current,
      history: this.before,
      split: [...this.shares].sort(([a], [b]) => a - b),
      shadow: this.shadow || null,
      pinned: this.pinned,
    };
  }
}

const NO_NAME = 'no such name';

/** Does it to a store. Resolves to what is said to it: nothing where it is done. */
export async function applyTo(store: AdapterStore, publisher: TestPublisher, command: Command): Promise<string | undefined> {
  const { type, name = '', seed = 0, version = 0, other = 0, percent = 0, flag = false } = command;
  const both = [
    { version, percent },
    { version: other, percent: 100 - percent },
  ];
  const changes: Record<string, () => Promise<unknown>> = {
    publish: () => publisher.publish(name, seed, { isCurrent: flag }),
    rollback: () => store.rollback(name),
    rollbackTo: () => store.rollback(name, version),
    split: () => store.split(name, version === other ? [{ version, percent: 100 }] : both),
    unsplit: () => store.split(name, []),
    shadow: () => store.shadow(name, version),
    unshadow: () => store.shadow(name, null),
    promote: () => store.promote(name),
    pin: () => store.pin(name, flag),
    deleteVersion: () => store.deleteVersion(name, version),
    delete: async () => (await store.delete(name)) || undefined,
  };
  try {
    return (await changes[type]?.()) === undefined ? NO_NAME : undefined;
  } catch (error) {
    return error instanceof AppError ? error.code : String(error);
  }
}

/** Does it on the blackboard; undefined for a name that is not there. Returns the name after it, and what has to be said. */
export function note(
  model: Name | undefined,
  command: Command,
): { readonly model: Name | undefined; readonly said: string | undefined } {
  const { type, seed = 0, flag = false } = command;
  if (type === 'publish') {
    const named = model?.copy() ?? new Name();
    named.publish(seed, flag);
    return { model: named, said: undefined };
  }
  if (model === undefined) return { model, said: NO_NAME };
  if (type === 'delete') return { model: undefined, said: undefined };
  const changed = model.copy();
  const said = changed.run(command);
  return { model: said === undefined ? changed : model, said };
}

/** What a store's entry says of the same. */
export function shownOf(entry: Entry): object {
  return {
    versions: entry.versions.map(({ version, digest }) => [version, DIGESTS.get(digest)]),
    current: entry.current,
    history: entry.history,
    split: entry.split.map(({ version, percent }) => [version, percent]),
    shadow: entry.shadow,
    pinned: entry.pinned,
  };
}
