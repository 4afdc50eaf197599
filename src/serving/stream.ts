/** One request's events on their way from the engine to whoever asked: a queue with an async iterator on its far end. */
import type { AppError } from '../errors.js';
import type { GenerationEvent } from './protocol.js';

export class EventStream implements AsyncIterableIterator<GenerationEvent> {
  readonly #events: GenerationEvent[] = [];
  readonly #onAbandon: () => void;
  #waiter: { resolve: (result: IteratorResult<GenerationEvent>) => void; reject: (error: Error) => void } | undefined;
  #error: AppError | undefined;
  #ended = false;

  /** `onAbandon` is called once, where the reader leaves before the end. */
  constructor(onAbandon: () => void) {
    this.#onAbandon = onAbandon;
  }

  push(event: GenerationEvent): void {
    if (this.#ended) return;
    if (event.type === 'done') this.#ended = true;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter) waiter.resolve({ value: event, done: false });
    else this.#events.push(event);
  }

  /** Ends the stream with an error, behind the events that are still queued. */
  fail(error: AppError): void {
    if (this.#ended) return;
    this.#ended = true;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter) waiter.reject(error);
    else this.#error = error;
  }

  next(): Promise<IteratorResult<GenerationEvent>> {
    const event = this.#events.shift();
    if (event) return Promise.resolve({ value: event, done: false });
    if (this.#error) {
      const error = this.#error;
      this.#error = undefined;
      return Promise.reject(error);
    }
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
  }

  return(): Promise<IteratorResult<GenerationEvent>> {
    const abandoned = !this.#ended;
    this.#ended = true;
    this.#events.length = 0;
    this.#waiter?.resolve({ value: undefined, done: true });
    this.#waiter = undefined;
    if (abandoned) this.#onAbandon();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
