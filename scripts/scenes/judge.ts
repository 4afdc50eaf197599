/**
 * Whether a caption is true: it is read back into claims, and each claim is held against the scene. Any words of the language will do,
 * in any order that makes sense, so that what a trained model says can be scored by what it got right.
 */

import { placesOf, relationsOf } from '../../src/scenes/geometry.js';
import type { Background, Colour, Group, Kind, Place, Relation, Scene, Size } from '../../src/scenes/world.js';
import type { Lexicon } from './captions/lexicon.js';
import { type Aspect, rowOf, type Task } from './captions.js';

/** One verdict for each aspect that the task has. Right: all that is said is true, and nothing that the task asks for is missing. */
export type Judgement = Readonly<Partial<Record<Aspect, boolean>>>;

/** A thing as the caption speaks of it. */
interface Mention {
  readonly kind: Kind;
  readonly number: 'one' | 'many' | 'any';
  count?: number;
  colour?: Colour;
  size?: Size;
}

/** By index of the mention; undefined where there is none. */
interface Claim<T> {
  readonly subject: Mention | undefined;
  readonly is: T;
}

interface Claims {
  readonly mentions: readonly Mention[];
  readonly colours: ReadonlySet<Colour>;
  readonly backgrounds: ReadonlySet<Background>;
  readonly places: readonly Claim<Place>[];
  readonly relations: readonly (Claim<Relation> & { readonly object: Mention | undefined })[];
  readonly unknown: number;
}

export function judge(task: Task, caption: string, scene: Scene): Judgement {
  const { lexicon, aspects, loose = false } = rowOf(task);
  const claims = readClaims(caption, lexicon);
  const verdicts: Readonly<Record<Aspect, () => boolean>> = {
    objects: () =>
      same(
        new Set(claims.mentions.map(({ kind }) => kind)),
        scene.groups.map(({ kind }) => kind),
      ),
    colours: () => coloursAreRight(claims, scene, loose),
    counts: () => countsAreRight(claims, scene),
    sizes: () => sizesAreRight(claims, scene),
    relations: () => relationsAreRight(claims, scene),
    background: () => same(claims.backgrounds, [scene.background]),
    words: () => claims.unknown === 0 && caption.trim() !== '',
  };
  return Object.fromEntries(aspects.map((aspect) => [aspect, verdicts[aspect]()]));
}

/** Whether nothing is wrong. */
export function isRight(judgement: Judgement): boolean {
  return Object.values(judgement).every((verdict) => verdict);
}

function readClaims(caption: string, lexicon: Lexicon): Claims {
  const meanings = lexicon.read(caption);
  const mentions: Mention[] = [];
  const colours = new Set<Colour>();
  const backgrounds = new Set<Background>();
  /** Mentions before it: who stands there is the last of them, or, where a sentence begins with it, the next. */
  const places: { at: number; is: Place }[] = [];
  const relations: { at: number; is: Relation }[] = [];
  let unknown = 0;
  let before: Pick<Mention, 'count' | 'colour' | 'size'> = {};
  let behind: Mention | undefined;
  for (const meaning of meanings) {
    const open = behind;
    behind = undefined;
    switch (meaning.is) {
      case 'kind': {
        const mention: Mention = { kind: meaning.kind, number: meaning.number, ...before };
        mentions.push(mention);
        before = {};
        behind = mention;
        continue;
      }
      case 'colour':
        colours.add(meaning.colour);
        if (!lexicon.colourFollows) before.colour = meaning.colour;
        else if (open !== undefined) open.colour = meaning.colour;
        continue;
      case 'size':
        before.size = meaning.size;
        continue;
      case 'count':
        before.count = meaning.count;
        continue;
      case 'place':
        places.push({ at: mentions.length, is: meaning.place });
        break;
      case 'relation':
        relations.push({ at: mentions.length, is: meaning.relation });
        break;
      case 'background':
        backgrounds.add(meaning.background);
        break;
      case 'unknown':
        unknown++;
        break;
      case 'break':
      case 'filler':
    }
    before = {};
  }
  return {
    mentions,
    colours,
    backgrounds,
    unknown,
    places: places.map(({ at, is }) => ({ is, subject: mentions[Math.max(0, at - 1)] })),
    relations: relations.map(({ at, is }) =>
      at === 0 ? { is, subject: mentions[1], object: mentions[0] } : { is, subject: mentions[at - 1], object: mentions[at] },
    ),
  };
}

function coloursAreRight({ mentions, colours }: Claims, { groups }: Scene, loose: boolean): boolean {
  const told = mentions.every(({ kind, colour }) => colour === undefined || groupOf(groups, kind)?.colour === colour);
  const complete =
    loose || groups.every(({ kind }) => mentions.some((mention) => mention.kind === kind && mention.colour !== undefined));
  return (
    told &&
    complete &&
    same(
      colours,
      groups.map(({ colour }) => colour),
    )
  );
}

function countsAreRight({ mentions }: Claims, { groups }: Scene): boolean {
  const told = mentions.every(({ kind, number, count }) => {
    const truth = groupOf(groups, kind)?.count;
    return truth !== undefined && (count ?? truth) === truth && (number === 'any' || (number === 'one') === (truth === 1));
  });
  return told && groups.every(({ kind }) => mentions.some((mention) => mention.kind === kind && mention.count !== undefined));
}

/** A medium size goes without saying, and must. */
function sizesAreRight({ mentions }: Claims, { groups }: Scene): boolean {
  const told = mentions.every(({ kind, size }) => size === undefined || groupOf(groups, kind)?.size === size);
  return (
    told &&
    groups.every(
      ({ kind, size }) => size === 'medium' || mentions.some((mention) => mention.kind === kind && mention.size !== undefined),
    )
  );
}

/** Each group must have its place: one alone in the picture, others by how they stand to each other. */
function relationsAreRight({ places, relations }: Claims, { groups }: Scene): boolean {
  const placed = places.every(({ subject, is }) => {
    const group = groupOf(groups, subject?.kind);
    return group !== undefined && placesOf(group).includes(is);
  });
  const related = relations.every(({ subject, object, is }) => {
    const [one, other] = [groupOf(groups, subject?.kind), groupOf(groups, object?.kind)];
    return one !== undefined && other !== undefined && relationsOf(one, other).includes(is);
  });
  const complete = groups.length === 1 ? places.length > 0 : relations.length >= groups.length - 1;
  return placed && related && complete;
}

function groupOf(groups: readonly Group[], kind: Kind | undefined): Group | undefined {
  return groups.find((group) => group.kind === kind);
}

function same<T>(found: ReadonlySet<T>, truth: readonly T[]): boolean {
  const expected = new Set(truth);
  return found.size === expected.size && [...found].every((value) => expected.has(value));
}
