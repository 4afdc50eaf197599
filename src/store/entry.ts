/**
 * One name of the store: its versions, and which of them serves. A version's number is never given again while the name exists. Every change makes
 * a new entry out of an old one, so that what is being written to the disk and what serves until that is done are two things.
 */
import { AppError } from '../errors.js';

export interface Version {
  readonly version: number;
  /** `sha256:` and 64 hex digits. */
  readonly digest: string;
  /** Of its files. */
  readonly bytes: number;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  /** The tenant that published it; empty where nobody has a name. */
  readonly by: string;
}

/** How many in a hundred of a name's requests a version gets. */
export interface Share {
  readonly version: number;
  readonly percent: number;
}

export interface Entry {
  /** In order of their numbers; one at least. */
  readonly versions: readonly Version[];
  /** The number of the next one. */
  readonly next: number;
  /** What the bare name means where no split says otherwise. */
  readonly current: number;
  /** What was current before, oldest first: the way back. */
  readonly history: readonly number[];
  /** In order of versions, 100 in sum; empty where all requests go to the current one. */
  readonly split: readonly Share[];
  /** Runs behind the requests that others answer. */
  readonly shadow: number | null;
  /** What serves stays in memory. */
  readonly pinned: boolean;
}

export type Content = Pick<Version, 'digest' | 'bytes' | 'createdMs' | 'by'>;

/** More is somebody's mistake, and the index is written whole with every change. */
const MAX_VERSIONS = 1000;
const MAX_HISTORY = 100;

/** A content as a version: a new one unless the name has it already. The first becomes current, others where that is asked for. */
export function publish(
  name: string,
  entry: Entry | undefined,
  content: Content,
  isCurrent: boolean,
): { readonly entry: Entry; readonly version: Version; readonly isNew: boolean } {
  if (entry === undefined) {
    const version = { version: 1, ...content };
    const first = { versions: [version], next: 2, current: 1, history: [], split: [], shadow: null, pinned: false };
    return { entry: first, version, isNew: true };
  }
  const known = entry.versions.find(({ digest }) => digest === content.digest);
  if (known === undefined && entry.versions.length >= MAX_VERSIONS)
    throw conflict(`Expected adapter ${name} to have fewer than ${MAX_VERSIONS} versions: delete some of them first`);
  const version = known ?? { version: entry.next, ...content };
  const grown = known ? entry : { ...entry, versions: [...entry.versions, version], next: entry.next + 1 };
  return { entry: isCurrent ? withCurrent(grown, version.version) : grown, version, isNew: known === undefined };
}

/** Back to what was current before, and further back where it is asked again; or to a version of one's choice. */
export function rollback(name: string, entry: Entry, to?: number): Entry {
  if (to !== undefined) return withCurrent(entry, existing(name, entry, to));
  const before = entry.history.at(-1);
  if (before === undefined) throw conflict(`Expected a version of ${name} that was current before but there is none`);
  return { ...withCurrent(entry, before), history: entry.history.slice(0, -1) };
}

/** No shares end a split. */
export function withSplit(name: string, entry: Entry, shares: readonly Share[]): Entry {
  for (const { version } of shares) existing(name, entry, version);
  return { ...entry, split: shares.toSorted((a, b) => a.version - b.version) };
}

/** null ends it. */
export function withShadow(name: string, entry: Entry, shadow: number | null): Entry {
  if (shadow === entry.current)
    throw conflict(`Expected another version of ${name} than the one that serves but received ${shadow}`);
  return { ...entry, shadow: shadow === null ? null : existing(name, entry, shadow) };
}

/** The shadow becomes current. */
export function promote(name: string, entry: Entry): Entry {
  if (entry.shadow === null) throw conflict(`Expected a shadow of ${name} to promote but there is none`);
  return withCurrent(entry, entry.shadow);
}

/** Without a version that nothing depends on; the last one is current, and goes with its name only. */
export function withoutVersion(name: string, entry: Entry, version: number): Entry {
  existing(name, entry, version);
  const uses = [
    ...(entry.current === version ? ['current'] : []),
    ...(entry.split.some((share) => share.version === version) ? ['part of a split'] : []),
    ...(entry.shadow === version ? ['the shadow'] : []),
  ];
  if (uses.length > 0) throw conflict(`Expected a version that is not in use but ${name}@${version} is ${uses.join(' and ')}`);
  const way = [...entry.history.filter((one) => one !== version), entry.current];
  return {
    ...entry,
    versions: entry.versions.filter((one) => one.version !== version),
    // What stood on both sides of it would be twice in a row now.
    history: way.slice(0, -1).filter((one, at) => one !== way[at + 1]),
  };
}

/** What requests by the bare name may get. */
export function serving({ current, split }: Entry): number[] {
  return split.length > 0 ? split.filter(({ percent }) => percent > 0).map(({ version }) => version) : [current];
}

/** What makes a version current ends a split: from then on it is what the name means, for everybody. */
function withCurrent(entry: Entry, version: number): Entry {
  const shadow = entry.shadow === version ? null : entry.shadow;
  if (version === entry.current) return { ...entry, split: [], shadow };
  const history = [...entry.history, entry.current].slice(-MAX_HISTORY);
  return { ...entry, current: version, history, split: [], shadow };
}

function existing(name: string, entry: Entry, version: number): number {
  if (entry.versions.some((one) => one.version === version)) return version;
  const known = entry.versions.map((one) => one.version).slice(-10);
  throw new AppError('adapter_not_found', `Expected a version of ${name} (such as ${known.join(', ')}) but received ${version}`, {
    param: 'version',
  });
}

function conflict(message: string): AppError {
  return new AppError('conflict', message);
}
