/**
 * What another version of an adapter would have said. Behind a request that the current version has answered, the shadow gets the same input,
 * and one log line has both answers. It costs the requests of others nothing that they could notice: it begins after the reply, there are few at once,
 * and none begins while anything waits.
 */
import { setImmediate as afterReply } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { RegisteredAdapter } from '../adapter/registry.js';
import type { Tokenizer } from '../backbone/tokenizer.js';
import { AppError } from '../errors.js';
import type { Pixels } from '../images/protocol.js';
import type { EngineClient, GenerateInput } from '../serving/protocol.js';
import { TextStream } from '../serving/text.js';
import type { AdapterStore, StoredAdapter } from '../store/store.js';
import { isStored } from './catalogue.js';

export interface ShadowOptions {
  readonly store: Pick<AdapterStore, 'shadowOf'>;
  readonly engine: Pick<EngineClient, 'generate'>;
  readonly tokenizer: Tokenizer;
  readonly log: Logger;
  /** Whether requests wait. */
  readonly isBusy: () => boolean;
  readonly timeoutMs: number;
  readonly onOutcome?: (outcome: ShadowOutcome) => void;
}

export type ShadowOutcome = 'ok' | 'dropped' | 'failed';

/** The part of a request that was for one adapter. */
export interface ShadowTarget {
  readonly adapter: RegisteredAdapter | null;
  readonly reference: string | null;
  readonly promptOf: (adapter: RegisteredAdapter | null) => string;
  readonly continues: boolean;
}

/** What was answered, and to what. */
export interface Answered {
  readonly requestId: string;
  readonly target: ShadowTarget;
  readonly pixels: Pixels | null;
  readonly input: GenerateInput;
  readonly stop: readonly string[];
  readonly texts: readonly { readonly text: string }[];
}

const MAX_RUNNING = 2;

export class Shadows {
  readonly #options: ShadowOptions;
  #running = 0;

  constructor(options: ShadowOptions) {
    this.#options = options;
  }

  /** Only what was asked for by the bare name has a shadow. Returns at once. */
  offer(answered: Answered): void {
    const { adapter, reference } = answered.target;
    if (adapter === null || !isStored(adapter) || reference !== adapter.name) return;
    const held = this.#options.store.shadowOf(adapter);
    if (held === undefined) return;
    if (this.#running >= MAX_RUNNING) {
      this.#options.onOutcome?.('dropped');
      held.release();
      return;
    }
    this.#running++;
    void this.#run(answered, adapter, held.adapter).finally(() => {
      this.#running--;
      held.release();
    });
  }

  /** Never rejects. */
  async #run(answered: Answered, current: StoredAdapter, shadow: StoredAdapter): Promise<void> {
    const { log, isBusy, onOutcome } = this.#options;
    await afterReply();
    if (isBusy()) {
      onOutcome?.('dropped');
      return;
    }
    const line = {
      id: answered.requestId,
      adapter: current.name,
      current: said(
        current,
        answered.texts.map(({ text }) => text),
      ),
    };
    try {
      const texts = await this.#generate(answered, shadow);
      log.info({ ...line, shadow: said(shadow, texts) }, 'shadow');
      onOutcome?.('ok');
    } catch (error) {
      const { code, message } = AppError.from(error);
      log.warn({ ...line, shadow: said(shadow, []), code }, `the shadow failed: ${message}`);
      onOutcome?.('failed');
    }
  }

  async #generate({ target, pixels, input, stop }: Answered, shadow: StoredAdapter): Promise<string[]> {
    const { engine, tokenizer, timeoutMs } = this.#options;
    if (shadow.fault !== undefined) throw new AppError('adapter_invalid', shadow.fault);
    const promptIds = tokenizer.encode(target.promptOf(shadow));
    const leaving = new AbortController();
    const timer = setTimeout(() => leaving.abort(), timeoutMs);
    try {
      const inputs = [{ ...input, adapter: shadow.ref, promptIds, deadlineMs: timeoutMs }];
      for (const events of engine.generate(pixels, inputs, leaving.signal)) {
        for await (const event of events) {
          if (event.type !== 'done') continue;
          return event.result.choices.map(({ tokenIds }) => {
            const stream = new TextStream(tokenizer, { stop, prefixIds: target.continues ? promptIds : [] });
            return `${tokenIds.map((id) => stream.push(id)).join('')}${stream.finish()}`;
          });
        }
      }
      throw new AppError('deadline_exceeded', `Expected the shadow to finish within ${timeoutMs} ms but it did not`);
    } finally {
      clearTimeout(timer);
    }
  }
}

function said({ version, ref }: StoredAdapter, texts: readonly string[]): object {
  return { version, digest: ref.digest, texts };
}
