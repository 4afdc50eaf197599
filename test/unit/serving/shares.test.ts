/**
 * The promises of sharing, on an engine that is only counted: a turn takes a millisecond or what its work costs, a row gives a token a step. Who is
 * there, what they ask for and how long it runs is drawn at random.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { admit } from '../../../src/serving/scheduler.js';
import { type Candidate, PATIENCE_TOKENS, Shares } from '../../../src/serving/shares.js';

const ROWS = 32;
const PROMPT = 60;
/** Rows of others that step beside who asks for little, of equal weight. */
const SHORT = 2;

interface Request extends Candidate {
  ready: boolean;
  wantsImage: boolean;
  left: number;
  readonly bornTurn: number;
}

interface Wish {
  readonly tenant: string;
  readonly weight?: number;
  readonly width?: number;
  readonly tokens?: number;
  readonly hasImage?: boolean;
}

/** What happened in one turn. */
interface Turn {
  readonly encoded: Request | undefined;
  readonly joined: readonly Request[];
  readonly stepped: readonly Request[];
  readonly done: readonly Request[];
}

class Engine {
  readonly shares = new Shares(ROWS);
  readonly waiting = new Set<Request>();
  readonly running = new Set<Request>();
  readonly given = new Map<string, number>();
  turns = 0;
  nowMs = 0;
  longestWait = 0;

  submit({ tenant, weight = 1, width = 1, tokens = 20, hasImage = false }: Wish): Request {
    const wantsImage = hasImage;
    const request = { tenant, weight, width, tokens: PROMPT, ready: !wantsImage, wantsImage, left: tokens, bornTurn: this.turns };
    this.waiting.add(request);
    return request;
  }

  /** Keeps so many of a tenant under way. */
  fill(count: number, wish: Wish): void {
    let missing = count;
    for (const all of [this.waiting, this.running]) for (const { tenant } of all) if (tenant === wish.tenant) missing--;
    for (; missing > 0; missing--) this.submit(wish);
  }

  turn(): Turn {
    this.turns++;
    const { shares } = this;
    shares.look(this.nowMs, this.running, this.waiting);
    this.nowMs += 1;
    const wanting = [...this.waiting].filter(({ wantsImage }) => wantsImage);
    const encoded = shares.first(wanting.filter((one) => shares.mayEncode(one)));
    if (encoded) {
      encoded.wantsImage = false;
      encoded.ready = true;
      this.#spend([encoded]);
    }
    const free = ROWS - [...this.running].reduce((sum, { width }) => sum + width, 0);
    const joined = admit(this.waiting, free, 512, shares);
    for (const one of joined) {
      this.waiting.delete(one);
      this.#give(one, one.tokens);
    }
    if (joined.length > 0) this.#spend(joined);
    const resting = shares.resting(this.running);
    const stepped = [...this.running].filter((one) => !resting.has(one));
    for (const one of joined) this.running.add(one);
    for (const one of stepped) {
      one.left--;
      shares.charge(one, one.width);
      this.#give(one, one.width);
    }
    const done = stepped.filter(({ left }) => left <= 0);
    for (const one of done) {
      this.running.delete(one);
      this.longestWait = Math.max(this.longestWait, this.turns - one.bornTurn);
    }
    return { encoded, joined, stepped, done };
  }

  /** A prompt or an image takes three milliseconds. */
  #spend(parties: readonly Request[]): void {
    this.nowMs += 3 * parties.length;
    this.shares.spend(parties, 3 * parties.length);
  }

  #give({ tenant }: Request, tokens: number): void {
    this.given.set(tenant, (this.given.get(tenant) ?? 0) + tokens);
  }
}

const rowsOf = (requests: readonly Request[], tenant: string): number =>
  requests.filter((one) => one.tenant === tenant).reduce((sum, { width }) => sum + width, 0);

describe('a tenant that asks for little beside one that floods', () => {
  it('has a row at once, few others step with it, and little begins meanwhile', () => {
    const engine = new Engine();
    engine.submit({ tenant: 'late' });
    engine.turn();
    for (let turn = 0; turn < 500; turn++) {
      engine.fill(64, { tenant: 'flood', hasImage: true });
      engine.turn();
    }
    // Alone it has all the rows but those that are kept for others.
    expect(rowsOf([...engine.running], 'flood')).toBeGreaterThan(ROWS / 2);
    for (let captions = 0; captions < 20; captions++) {
      const request = engine.submit({ tenant: 'late', hasImage: true });
      let turns = 0;
      let begun = 0;
      while (request.left > 0) {
        engine.fill(64, { tenant: 'flood', hasImage: true });
        const { encoded, joined, stepped } = engine.turn();
        turns++;
        begun += (encoded?.tenant === 'flood' ? 1 : 0) + joined.filter(({ tenant }) => tenant === 'flood').length;
        expect(rowsOf(stepped, 'flood')).toBeLessThanOrEqual(SHORT);
        expect(joined.length).toBeLessThanOrEqual(1);
      }
      // An image, a prompt, twenty tokens: not one turn was spent on waiting.
      expect(turns).toBe(21);
      // As much as its own request began, and half as much again.
      expect(begun).toBeLessThanOrEqual(4);
    }
    expect(engine.given.get('flood')).toBeGreaterThan(engine.given.get('late') ?? 0);
  });

  it('leaves the flood the whole batch as soon as it has been gone for a while', () => {
    const engine = new Engine();
    engine.submit({ tenant: 'late' });
    const steppedAfter = (): number => {
      let most = 0;
      for (let turn = 0; turn < 400; turn++) {
        engine.fill(64, { tenant: 'flood' });
        most = rowsOf(engine.turn().stepped, 'flood');
      }
      return most;
    };
    expect(steppedAfter()).toBeGreaterThanOrEqual(ROWS - 4);
  });

  it('that is expected is as good as there', () => {
    const engine = new Engine();
    for (let turn = 0; turn < 100; turn++) {
      engine.fill(64, { tenant: 'flood' });
      engine.turn();
    }
    engine.shares.expect({ tenant: 'late', weight: 1 }, engine.nowMs);
    expect(rowsOf(engine.turn().stepped, 'flood')).toBe(SHORT);
  });

  it('has no part in a flood of its own: two floods share all rows, and none rests', () => {
    const engine = new Engine();
    for (let turn = 0; turn < 300; turn++) {
      engine.fill(64, { tenant: 'a' });
      engine.fill(48, { tenant: 'b' });
      const { stepped } = engine.turn();
      if (turn > 100) expect(stepped.length).toBeGreaterThanOrEqual(ROWS - 10);
    }
    const [a = 0, b = 0] = ['a', 'b'].map((tenant) => engine.given.get(tenant));
    expect(a / b).toBeGreaterThan(0.9);
    expect(a / b).toBeLessThan(1.1);
  });
});

/** A tenant that always has so many requests under way. */
const asker = fc.record({
  weight: fc.integer({ min: 1, max: 8 }),
  count: fc.constantFrom(1, 1, 2, 8, 40),
  width: fc.constantFrom(1, 1, 1, 3, ROWS),
  tokens: fc.integer({ min: 1, max: 40 }),
  hasImage: fc.boolean(),
});

describe('whoever asks, and for whatever', () => {
  it('everything is served: no request waits without an end, and no turn passes in which nothing happens', () => {
    fc.assert(
      fc.property(fc.array(asker, { minLength: 1, maxLength: 5 }), (askers) => {
        const engine = new Engine();
        const wishes = askers.map((one, index) => ({ ...one, tenant: `t${index}` }));
        const served = new Map<string, number>();
        for (let turn = 0; turn < 3000; turn++) {
          for (const wish of wishes) engine.fill(wish.count, wish);
          const { joined, stepped, done } = engine.turn();
          expect(joined.length + stepped.length).toBeGreaterThan(0);
          for (const { tenant } of done) served.set(tenant, (served.get(tenant) ?? 0) + 1);
        }
        for (const { tenant } of wishes) expect(served.get(tenant) ?? 0).toBeGreaterThan(0);
        // Nobody comes any more: what is left is done soon.
        const rest = [...engine.waiting, ...engine.running];
        for (let turn = 0; turn < 45 * rest.length + 1000 && engine.waiting.size + engine.running.size > 0; turn++) engine.turn();
        expect(engine.waiting.size + engine.running.size).toBe(0);
      }),
      { numRuns: 15 },
    );
  });

  it('tenants that always have more than their share get it by weight', () => {
    const weights = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 2, maxLength: 4 });
    fc.assert(
      fc.property(weights, fc.integer({ min: 5, max: 40 }), (all, tokens) => {
        const engine = new Engine();
        for (let turn = 0; turn < 2000; turn++) {
          for (const [index, weight] of all.entries()) engine.fill(2 * ROWS, { tenant: `t${index}`, weight, tokens });
          engine.turn();
        }
        // What may be in the batch unpaid: a row's tokens are counted as they come.
        const bound = ROWS * (PROMPT + tokens);
        for (const [index, weight] of all.entries()) {
          for (const [other, otherWeight] of all.entries()) {
            const [own = 0, others = 0] = [engine.given.get(`t${index}`), engine.given.get(`t${other}`)];
            expect(Math.abs(own / weight - others / otherWeight)).toBeLessThanOrEqual(bound / weight + bound / otherWeight);
          }
        }
      }),
      { numRuns: 15 },
    );
  });

  it('one that asks for no more than its share is never held back, and one that asks for more gets no less than it by weight', () => {
    const little = fc.record({
      weight: fc.integer({ min: 1, max: 4 }),
      count: fc.integer({ min: 1, max: 4 }),
      tokens: fc.integer({ min: 1, max: 40 }),
    });
    fc.assert(
      fc.property(little, fc.integer({ min: 1, max: 4 }), ({ weight, count, tokens }, floodWeight) => {
        const engine = new Engine();
        for (let turn = 0; turn < 1500; turn++) {
          engine.fill(64, { tenant: 'flood', weight: floodWeight });
          engine.fill(count, { tenant: 'late', weight, tokens });
          const { stepped } = engine.turn();
          const late = [...engine.running].filter(({ tenant }) => tenant === 'late');
          for (const one of late) if (one.left < tokens) expect(stepped).toContain(one);
        }
        const [late = 0, flood = 0] = ['late', 'flood'].map((tenant) => engine.given.get(tenant));
        expect(flood / floodWeight).toBeGreaterThan(late / weight - PATIENCE_TOKENS - ROWS * PROMPT);
      }),
      { numRuns: 15 },
    );
  });

  it('who has been away comes back with nothing saved', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 3000 }), (away) => {
        const engine = new Engine();
        engine.submit({ tenant: 'late' });
        for (let turn = 0; turn < away + 300; turn++) {
          engine.fill(64, { tenant: 'flood' });
          engine.turn();
        }
        const before = new Map(engine.given);
        for (let turn = 0; turn < 600; turn++) {
          engine.fill(64, { tenant: 'flood' });
          engine.fill(64, { tenant: 'late' });
          engine.turn();
        }
        const [late = 0, flood = 0] = ['late', 'flood'].map(
          (tenant) => (engine.given.get(tenant) ?? 0) - (before.get(tenant) ?? 0),
        );
        expect(Math.abs(late - flood)).toBeLessThanOrEqual(ROWS * (PROMPT + 20));
      }),
      { numRuns: 10 },
    );
  });
});
