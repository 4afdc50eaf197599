/** Shadows: what they are for, that they keep out of everybody's way, and the line that they leave. */
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Tokenizer } from '../../../src/backbone/tokenizer.js';
import { AppError } from '../../../src/errors.js';
import { ALONE } from '../../../src/fairness/turns.js';
import { type ShadowOutcome, Shadows } from '../../../src/http/shadows.js';
import type { GenerateInput, GenerateResult, GenerationEvent } from '../../../src/serving/protocol.js';
import type { StoredAdapter } from '../../../src/store/store.js';

const adapter = (version: number, prompt = ''): StoredAdapter => ({
  name: 'acme/alt',
  ref: { name: 'acme/alt', digest: `sha256:${version}`, folder: '/nowhere' },
  bytes: 1,
  summary: { method: 'lora', contexts: ['text'], prompt, seesImages: false, format: 'peft' },
  registeredAt: 0,
  version,
  versions: 2,
});

/** A letter a token. */
const tokenizer = {
  eosIds: [],
  encode: (text: string) => Array.from(text, (letter) => letter.codePointAt(0) ?? 0),
  isSpecial: () => false,
  decode: (ids: readonly number[]) => String.fromCodePoint(...ids),
} as unknown as Tokenizer;

const SAMPLING = {
  maxTokens: 4,
  temperature: 0,
  topK: 0,
  topP: 1,
  repetitionPenalty: 1,
  seed: null,
  n: 1,
} as GenerateInput['sampling'];
const INPUT: GenerateInput = { ...ALONE, adapter: adapter(1).ref, promptIds: [1], sampling: SAMPLING, deadlineMs: 7 };
const answered = (reference: string, target = adapter(1) as StoredAdapter | null) => ({
  requestId: 'r1',
  pixels: null,
  input: INPUT,
  stop: ['!'],
  texts: [{ text: 'current' }],
  target: { adapter: target, reference, promptOf: () => 'p', continues: false },
});

let outcomes: ShadowOutcome[];
let lines: Record<string, unknown>[];
let asked: GenerateInput[];
let released: number;
let isBusy: boolean;
let hasShadow: boolean;
let finish: (() => void)[];
let failure: AppError | undefined;
let shadows: Shadows;
beforeEach(() => {
  [outcomes, lines, asked, finish] = [[], [], [], []];
  [released, isBusy, hasShadow, failure] = [0, false, true, undefined];
  const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>);
  async function* events(): AsyncGenerator<GenerationEvent> {
    await new Promise<void>((resolve) => finish.push(resolve));
    if (failure) throw failure;
    const choices = [{ index: 0, tokenIds: tokenizer.encode('shade! more'), finishReason: 'stop' as const }];
    yield { type: 'done', result: { choices } as unknown as GenerateResult };
  }
  shadows = new Shadows({
    store: {
      shadowOf: () => (hasShadow ? { adapter: adapter(2, 'its own'), release: () => void released++ } : undefined),
    },
    engine: {
      generate: (_pixels, inputs) => {
        asked.push(...inputs);
        return inputs.map(() => events());
      },
    },
    tokenizer,
    log: pino({ base: null, timestamp: false }, { write }),
    isBusy: () => isBusy,
    timeoutMs: 1000,
    onOutcome: (outcome) => outcomes.push(outcome),
  });
});

async function settle(): Promise<void> {
  for (let turns = 0; turns < 5; turns++) await turn();
  for (const go of finish.splice(0)) go();
  for (let turns = 0; turns < 5; turns++) await turn();
}

describe('a shadow', () => {
  it('gets the same input after the reply, and one line has both answers', async () => {
    shadows.offer(answered('acme/alt'));
    expect(asked).toEqual([]);
    await settle();
    expect(asked).toEqual([{ ...INPUT, adapter: adapter(2).ref, promptIds: tokenizer.encode('p'), deadlineMs: 1000 }]);
    expect(lines).toEqual([
      {
        level: 30,
        id: 'r1',
        adapter: 'acme/alt',
        current: { version: 1, digest: 'sha256:1', texts: ['current'] },
        shadow: { version: 2, digest: 'sha256:2', texts: ['shade'] },
        msg: 'shadow',
      },
    ]);
    expect([outcomes, released]).toEqual([['ok'], 1]);
  });

  it.each([
    ['a version by number', () => shadows.offer(answered('acme/alt@1'))],
    ['the bare backbone', () => shadows.offer(answered('acme/alt', null))],
    [
      'an adapter of a folder',
      () => {
        const { version: _version, ...registered } = adapter(1);
        shadows.offer(answered('acme/alt', registered as StoredAdapter));
      },
    ],
    [
      'a name without one',
      () => {
        hasShadow = false;
        shadows.offer(answered('acme/alt'));
      },
    ],
  ])('does not run behind %s', async (_, offer) => {
    offer();
    await settle();
    expect([asked, outcomes, lines, released]).toEqual([[], [], [], 0]);
  });

  it('is dropped while anything waits, and where two run', async () => {
    isBusy = true;
    shadows.offer(answered('acme/alt'));
    await settle();
    expect([asked, outcomes, released]).toEqual([[], ['dropped'], 1]);
    isBusy = false;
    for (let index = 0; index < 3; index++) shadows.offer(answered('acme/alt'));
    expect(outcomes).toEqual(['dropped', 'dropped']);
    await settle();
    expect(outcomes).toEqual(['dropped', 'dropped', 'ok', 'ok']);
    shadows.offer(answered('acme/alt'));
    await settle();
    expect([outcomes.at(-1), released]).toEqual(['ok', 5]);
  });

  it('that fails says so in its line', async () => {
    failure = new AppError('engine_unavailable', 'The engine stopped');
    shadows.offer(answered('acme/alt'));
    await settle();
    expect(lines).toMatchObject([{ level: 40, code: 'engine_unavailable', msg: 'the shadow failed: The engine stopped' }]);
    expect([outcomes, released]).toEqual([['failed'], 1]);
  });
});
