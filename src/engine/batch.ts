/**
 * The running batch: which row of the cache belongs to which request, joining, leaving and forking between steps.
 *
 * Rows 0 ... count − 1 are always the running ones, so a step is a run over a prefix of the cache. A request that joins takes the next rows;
 * where one leaves, the last row moves into the hole. A step decodes the running rows first and then prefills those that join, so that
 * nobody's next token waits for somebody else's prompt. Every row's numbers depend on its own tokens and adapter alone.
 * A member may rest for a step: its rows go behind those that step, and keep what they hold.
 */
import type { LoadedAdapter } from '../adapter/adapter.js';
import { AppError } from '../errors.js';
import type { Decoder } from './decoder.js';
import type { TokenLogprobs } from './logprobs.js';
import type { Draw, Strategy } from './strategy.js';

/** One request inside the batch. */
export interface Member {
  readonly adapter: LoadedAdapter | null;
  readonly promptIds: readonly number[];
  readonly imageEmbeddings: Float32Array | null;
  readonly imageTokens: number;
  readonly strategy: Strategy;
}

/** What one step brought. */
export interface Outcome<M extends Member> {
  readonly emitted: {
    readonly member: M;
    readonly choice: number;
    readonly tokenId: number;
    readonly logprobs: TokenLogprobs | undefined;
  }[];
  /** Members that had their first logits in this step. */
  readonly started: M[];
  readonly finished: M[];
  readonly failed: { readonly member: M; readonly error: AppError }[];
  decodedRows: number;
  prefilledTokens: number;
  /** How long the prompts took. */
  prefillMs: number;
}

interface Row<M> {
  readonly member: M;
  /** Drawn, and not in the cache yet. */
  tokenId: number;
  /** Tokens in the cache. */
  length: number;
}

export class Batch<M extends Member> {
  readonly #decoder: Decoder;
  readonly #rows: Row<M>[] = [];
  /** Row of each live sequence of a member, in the strategy's order. */
  readonly #members = new Map<M, number[]>();
  #stepping = false;

  constructor(decoder: Decoder) {
    this.#decoder = decoder;
  }

  get size(): number {
    return this.#rows.length;
  }

  get members(): number {
    return this.#members.size;
  }

  /** Rows that nobody has or may still fork into. */
  get freeRows(): number {
    let reserved = 0;
    for (const member of this.#members.keys()) reserved += member.strategy.width;
    return this.#decoder.kv.shape.rows - reserved;
  }

  /** From the oldest to the newest. */
  get running(): Iterable<M> {
    return this.#members.keys();
  }

  /** Tokens held by running rows. */
  get usedTokens(): number {
    return this.#rows.reduce((total, { length }) => total + length, 0);
  }

  /** Takes a member out; its rows are free at once. Between steps only: a step has its rows laid out. */
  remove(member: M): void {
    if (this.#stepping) throw new TypeError('Expected remove() between steps but a step is under way');
    this.#release(member);
  }

  /**
   * One token for every running sequence but those of members that rest, and the first one for each of `joining`. A failure costs only the members
   * that it concerns.
   */
  async step(joining: readonly M[], resting: ReadonlySet<M> = new Set()): Promise<Outcome<M>> {
    const stepping = this.#arrange(resting);
    const outcome: Outcome<M> = {
      emitted: [],
      started: [],
      finished: [],
      failed: [],
      decodedRows: stepping,
      prefilledTokens: 0,
      prefillMs: 0,
    };
    this.#stepping = true;
    try {
      if (stepping > 0) await this.#decode(stepping, outcome);
      if (joining.length > 0) await this.#prefill(joining, outcome);
    } finally {
      this.#stepping = false;
    }
    return outcome;
  }

  /** Puts the rows of those that rest behind the others, and counts the others. */
  #arrange(resting: ReadonlySet<M>): number {
    const count = this.#rows.filter(({ member }) => !resting.has(member)).length;
    let behind = count;
    for (let front = 0; front < count; front++) {
      if (!resting.has((this.#rows[front] as Row<M>).member)) continue;
      while (resting.has((this.#rows[behind] as Row<M>).member)) behind++;
      this.#swap(front, behind);
    }
    return count;
  }

  #swap(one: number, other: number): void {
    const [first, second] = [this.#rows[one] as Row<M>, this.#rows[other] as Row<M>];
    this.#decoder.kv.swap(one, other, Math.max(first.length, second.length));
    this.#rows[one] = second;
    this.#rows[other] = first;
    const own = this.#members.get(first.member) as number[];
    const others = this.#members.get(second.member) as number[];
    const [at, otherAt] = [own.indexOf(one), others.indexOf(other)];
    own[at] = other;
    others[otherAt] = one;
  }

  /** Steps the first so many rows: all of a member's or none. */
  async #decode(stepping: number, outcome: Outcome<M>): Promise<void> {
    const rows = this.#rows.slice(0, stepping);
    const members = [...this.#members.keys()].filter((member) => (this.#members.get(member)?.[0] ?? 0) < stepping);
    try {
      const entries = this.#rows.map(({ member, tokenId, length }) => ({ adapter: member.adapter, tokenId, length }));
      const logits = await this.#decoder.decode(entries.slice(0, stepping), entries.slice(stepping));
      for (const row of rows) row.length++;
      this.#draw(members, logits, outcome);
    } catch (error) {
      this.#fail(members, error, outcome);
    }
  }

  async #prefill(joining: readonly M[], outcome: Outcome<M>): Promise<void> {
    const first = this.#rows.length;
    const startMs = performance.now();
    try {
      const logits = await this.#decoder.prefill(first, joining);
      outcome.prefillMs = performance.now() - startMs;
      joining.forEach((member, index) => {
        const length = member.promptIds.length + member.imageTokens;
        this.#rows.push({ member, tokenId: 0, length });
        this.#members.set(member, [first + index]);
        outcome.prefilledTokens += length;
        outcome.started.push(member);
      });
      this.#draw(joining, [...this.#rows.slice(0, first).map(() => EMPTY), ...logits], outcome);
    } catch (error) {
      this.#fail(joining, error, outcome);
    }
  }

  /** Draws for all members from logits by row, and only then moves rows: until then the logits' rows are the batch's rows. */
  #draw(members: readonly M[], logits: readonly Float32Array[], outcome: Outcome<M>): void {
    const draws: [M, Draw][] = [];
    for (const member of members) {
      try {
        const rows = this.#members.get(member) ?? [];
        draws.push([member, member.strategy.advance(rows.map((row) => logits[row] as Float32Array))]);
      } catch (error) {
        outcome.failed.push({ member, error: AppError.from(error) });
      }
    }
    for (const { member } of outcome.failed) this.#release(member);
    for (const [member, draw] of draws) {
      for (const [choice, tokenId, logprobs] of draw.emitted) outcome.emitted.push({ member, choice, tokenId, logprobs });
      this.#continue(member, draw);
      if (draw.parents.length === 0) {
        this.#release(member);
        outcome.finished.push(member);
      }
    }
  }

  /** Gives each live sequence a row: its parent's own for the first child, a copy for every other one. */
  #continue(member: M, { parents, tokens }: Draw): void {
    const old = this.#members.get(member) as number[];
    const unclaimed = new Set(old);
    const next = parents.map((parent) => {
      const row = old[parent] as number;
      return unclaimed.delete(row) ? row : undefined;
    });
    const spare = [...unclaimed];
    const rows = next.map((row, index) => row ?? this.#fork(member, old[parents[index] as number] as number, spare.pop()));
    rows.forEach((row, index) => {
      (this.#rows[row] as Row<M>).tokenId = tokens[index] as number;
    });
    this.#members.set(member, rows);
    this.#drop(spare);
  }

  /** Copies a row into a spare one of the same member, or into a new one at the end. */
  #fork(member: M, from: number, spare: number | undefined): number {
    const { length } = this.#rows[from] as Row<M>;
    const to = spare ?? this.#rows.push({ member, tokenId: 0, length }) - 1;
    this.#decoder.kv.copy(from, to, length);
    return to;
  }

  #release(member: M): void {
    const rows = this.#members.get(member);
    this.#members.delete(member);
    this.#drop(rows ?? []);
  }

  /** Frees rows, the highest first, so that the row that fills a hole is never one that is about to go. */
  #drop(rows: readonly number[]): void {
    for (const hole of [...rows].sort((a, b) => b - a)) {
      const last = this.#rows.pop() as Row<M>;
      const from = this.#rows.length;
      if (hole === from) continue;
      this.#decoder.kv.copy(from, hole, last.length);
      this.#rows[hole] = last;
      const own = this.#members.get(last.member) as number[];
      own[own.indexOf(from)] = hole;
    }
  }

  #fail(members: readonly M[], error: unknown, outcome: Outcome<M>): void {
    for (const member of members) {
      this.#release(member);
      outcome.failed.push({ member, error: AppError.from(error) });
    }
  }
}

const EMPTY = new Float32Array(0);
