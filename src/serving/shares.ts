/**
 * How tenants share the engine. Pure: no tensors, and of time only what it is told.
 *
 * Tokens decide whose turn it is (../fairness/turns.ts): prompt, image and generated ones, by weight. But turns alone would not keep a neighbour's flood
 * from making everybody slow: a step of 32 rows takes ten times as long as one of one row, and between two steps somebody's image is encoded and
 * somebody's prompt taken in. So while a tenant is there that asks for little, one that asks for more and has had no less is limited:
 * - none of its rows step beside the other's first tokens, and later only so many, the oldest first. Where rows come and go the bank is filled anew,
 *   which costs more than they do. Rows that rest stay where they are, and lose nothing but time;
 * - it begins (encodes an image, takes in a prompt) one thing a turn, and that only for a small part of the time in which the other has something to
 *   do here.
 * The engine never waits: with nothing else to do, what is limited begins. A tenant alone has no limit at all, and two that ask for more than their
 * share of the rows have none either: they take turns, and the batch is full.
 */
import { type Party, Turns } from '../fairness/turns.js';

/** Of all rows, the part that may step where somebody asks for little; those who ask for more share it. */
const SHORT_BATCH = 1 / 8;
/** Steps in a row that who asks for little has to itself: a caption. */
const CALM_STEPS = 32;
/** Of the time, the part that those who ask for more may take with beginning things while one who asks for little has something to do here; by weight. */
const DUTY_BESIDE = 0.2;
/** The same while it is between two requests. */
const DUTY_BETWEEN = 0.4;
/** One row of so many is kept for a tenant that has none. */
const ROWS_A_SPARE = 16;
/** How long a tenant that has gone is still expected: from one request to the next. */
const HOLD_MS = 250;
/** How long a request that is on its way keeps others from beginning things: as long as an image takes to be decoded. */
const EXPECT_MS = 20;
/** Tokens, for weight 1, by which one may be behind: what asking for little is worth when it then asks for more. */
const CREDIT_TOKENS = 512;
/** Tokens, for weight 1, behind those who ask for less from which on nothing of it rests. */
const FAR_BEHIND_TOKENS = 256;
/** Tokens, for weight 1, by which others may pass a request that waits for rows: then nobody begins until it has them. */
export const PATIENCE_TOKENS = 512;

/** What has rows, or wants them. */
export interface Claimant extends Party {
  /** Rows from its first step to its last. */
  readonly width: number;
}

export interface Candidate extends Claimant {
  /** Tokens of its prompt, the image's included. */
  readonly tokens: number;
  /** Adapter and image features are there. */
  readonly ready: boolean;
  /** Its image is still to be encoded. */
  readonly wantsImage: boolean;
}

/** A tenant that is there, or was a moment ago. */
interface Presence {
  weight: number;
  seenMs: number;
  /** Until when something of it is expected. */
  expectedMs: number;
  /** Rows that it has. */
  held: number;
  /** Rows of what is ready and waits. */
  ready: number;
  /** Rows of all that could go on now: those, and what waits for the encoder. */
  demand: number;
  /** Milliseconds that it took with beginning things and has not earned yet. */
  debtMs: number;
}

interface Limit {
  /** Rows that it may have where it wants to begin, and those that may step. */
  readonly rows: number;
  readonly steps: number;
  /** Somebody who asks for less is on the way: what begins now would be in its way. */
  readonly isWaitedFor: boolean;
  /** Lowest tag of those who ask for less: who is below it is behind, and may begin. */
  readonly front: number;
}

export class Shares {
  readonly #turns = new Turns(CREDIT_TOKENS);
  readonly #rows: number;
  readonly #present = new Map<string, Presence>();
  readonly #limits = new Map<string, Limit>();
  #first: string | undefined;
  /** More than one tenant has been here. */
  #isShared = false;
  #lookedMs = 0;
  /** Turns in a row in which somebody rested for another. */
  #calm = 0;
  /** Nothing runs, and nothing has begun. */
  #isEmpty = true;
  /** Something has begun in this turn. */
  #hasBegun = false;

  /** `rows`: all that there are. */
  constructor(rows: number) {
    this.#rows = rows;
  }

  /** A request of this tenant is on its way. */
  expect(party: Party, nowMs: number): void {
    const presence = this.#presence(party);
    presence.seenMs = nowMs;
    presence.expectedMs = nowMs + EXPECT_MS;
  }

  /** Begins a turn: who is there, and who is limited. */
  look(nowMs: number, running: Iterable<Claimant>, waiting: Iterable<Candidate>): void {
    for (const presence of this.#present.values()) presence.held = presence.ready = presence.demand = 0;
    this.#hasBegun = false;
    this.#isEmpty = true;
    for (const claimant of running) {
      const presence = this.#meet(claimant, nowMs);
      presence.held += claimant.width;
      this.#isEmpty = false;
    }
    for (const candidate of waiting) {
      if (!candidate.ready && !candidate.wantsImage) continue;
      const presence = this.#meet(candidate, nowMs);
      if (candidate.ready) presence.ready += candidate.width;
    }
    this.#turns.advance([...waiting].filter(({ ready, wantsImage }) => ready || wantsImage));
    for (const [tenant, { seenMs }] of this.#present) if (nowMs - seenMs > HOLD_MS) this.#present.delete(tenant);
    this.#limit(nowMs);
    this.#lookedMs = nowMs;
  }

  /** The one whose turn it is. */
  first<P extends Party>(waiting: Iterable<P>): P | undefined {
    return this.#turns.first(waiting);
  }

  tag({ tenant }: Party): number {
    return this.#turns.tag(tenant);
  }

  /** Whether an image of this tenant may be encoded now. It is of use only where its row can follow. */
  mayEncode({ tenant }: Party): boolean {
    const limit = this.#limits.get(tenant);
    if (!limit || this.#isEmpty) return true;
    const { held = 0, ready = 0 } = this.#present.get(tenant) ?? {};
    return this.#mayBegin(tenant, limit, ready === 0, held + ready < limit.rows);
  }

  /** Whether this one may join the batch now, if it fits. */
  mayJoin({ tenant, width }: Claimant): boolean {
    const limit = this.#limits.get(tenant);
    if (!limit || this.#isEmpty) return true;
    const held = this.#present.get(tenant)?.held ?? 0;
    return this.#mayBegin(tenant, limit, true, held === 0 || held + width <= limit.rows);
  }

  /** Whether it fits into so many free rows. The last ones are for tenants that have none. */
  fits({ tenant, width }: Claimant, freeRows: number): boolean {
    const isKept = this.#isShared && (this.#present.get(tenant)?.held ?? 0) > 0;
    return width <= freeRows - (isKept ? Math.floor(this.#rows / ROWS_A_SPARE) : 0);
  }

  /** It joins the batch. */
  join(candidate: Candidate): void {
    this.#turns.charge(candidate, candidate.tokens);
    const presence = this.#presence(candidate);
    presence.held += candidate.width;
    presence.ready -= candidate.width;
    this.#hasBegun = true;
    this.#isEmpty = false;
  }

  /** So long everybody waited because these began. */
  spend(parties: readonly Party[], ms: number): void {
    for (const { tenant } of parties) {
      this.#hasBegun = true;
      const presence = this.#limits.has(tenant) ? this.#present.get(tenant) : undefined;
      if (presence) presence.debtMs += ms / parties.length;
    }
  }

  /** Tokens that were generated. */
  charge(party: Party, tokens: number): void {
    this.#turns.charge(party, tokens);
  }

  /** Which of the running ones do not step in this turn. They are to be given from the oldest to the newest. */
  resting<C extends Claimant>(running: Iterable<C>): Set<C> {
    const resting = new Set<C>();
    const stepping = new Map<string, number>();
    for (const claimant of this.#limits.size > 0 ? running : []) {
      const steps = this.#stepsOf(claimant.tenant);
      const before = stepping.get(claimant.tenant) ?? 0;
      // A wide one steps as well: alone.
      if (steps === 0 || (before > 0 && before + claimant.width > steps)) resting.add(claimant);
      else stepping.set(claimant.tenant, before + claimant.width);
    }
    return resting;
  }

  /** Whether a limited tenant may begin something, given what is asked of it where it is behind and where it is not. */
  #mayBegin(tenant: string, limit: Limit, isUseful: boolean, hasRows: boolean): boolean {
    const behind = limit.front - this.#turns.tag(tenant);
    if (behind > FAR_BEHIND_TOKENS) return isUseful;
    if (this.#hasBegun || limit.isWaitedFor) return false;
    return behind > 0 ? isUseful : hasRows && (this.#present.get(tenant)?.debtMs ?? 0) <= 0;
  }

  #stepsOf(tenant: string): number {
    const limit = this.#limits.get(tenant);
    if (!limit) return Number.POSITIVE_INFINITY;
    const behind = limit.front - this.#turns.tag(tenant);
    if (behind > FAR_BEHIND_TOKENS) return Number.POSITIVE_INFINITY;
    return behind > 0 ? limit.rows : limit.steps;
  }

  #meet(claimant: Claimant, nowMs: number): Presence {
    const presence = this.#presence(claimant);
    presence.seenMs = nowMs;
    presence.expectedMs = 0;
    presence.demand += claimant.width;
    return presence;
  }

  #presence({ tenant, weight }: Party): Presence {
    let presence = this.#present.get(tenant);
    if (!presence) {
      presence = { weight, seenMs: 0, expectedMs: 0, held: 0, ready: 0, demand: 0, debtMs: 0 };
      this.#present.set(tenant, presence);
      this.#turns.arrive(tenant);
    }
    presence.weight = weight;
    this.#first ??= tenant;
    this.#isShared ||= tenant !== this.#first;
    return presence;
  }

  /** Limits whoever asks for more, by weight, than somebody who asks for no more than its share. */
  #limit(nowMs: number): void {
    this.#limits.clear();
    const calm = this.#calm;
    this.#calm = 0;
    if (this.#present.size < 2) return;
    const weights = [...this.#present.values()].reduce((sum, { weight }) => sum + weight, 0);
    const order = Array.from(this.#present, ([tenant, presence]) => ({
      tenant,
      presence,
      asked: presence.demand / presence.weight,
    }));
    order.sort((a, b) => a.asked - b.asked);
    const short = Math.max(1, this.#rows * SHORT_BATCH) / weights;
    let least = Number.POSITIVE_INFINITY;
    let front = Number.POSITIVE_INFINITY;
    let isBusy = false;
    let isWaitedFor = false;
    let isStepping = false;
    let next = 0;
    for (const { tenant, presence, asked } of order) {
      for (let other = order[next]; other && other.asked < asked; other = order[++next]) {
        if (other.asked > this.#rows / weights) break;
        least = Math.min(least, other.asked);
        front = Math.min(front, this.#turns.tag(other.tenant));
        isBusy ||= other.asked > 0;
        isWaitedFor ||= other.presence.expectedMs > nowMs;
        isStepping ||= other.presence.held > 0;
      }
      const duty = isBusy ? (DUTY_BESIDE * presence.weight) / weights : DUTY_BETWEEN;
      presence.debtMs = Math.max(0, presence.debtMs - duty * (nowMs - this.#lookedMs));
      const rows = Math.max(1, Math.floor(presence.weight * Math.max(short, least)));
      if (least === Number.POSITIVE_INFINITY || presence.demand <= rows) continue;
      if (isStepping) this.#calm = calm + 1;
      this.#limits.set(tenant, { rows, steps: isStepping && calm < CALM_STEPS ? 0 : rows, isWaitedFor, front });
    }
  }
}
