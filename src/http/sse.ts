/**
 * Server-sent events as OpenAI's clients read them: `data: {json}` blocks, `data: [DONE]` at the end.
 * The status line goes out with the first event, so that whatever fails before can still be an ordinary error reply.
 */
import { once } from 'node:events';
import type { Response } from 'express';

export class EventWriter {
  readonly #res: Response;
  readonly #signal: AbortSignal;

  /** `signal` is aborted where the client goes away, or the request's time is up. */
  constructor(res: Response, signal: AbortSignal) {
    this.#res = res;
    this.#signal = signal;
  }

  /** Whether the reply has begun. */
  get opened(): boolean {
    return this.#res.headersSent;
  }

  /** Resolves when the client can take more, or is gone: a slow reader slows its own stream and fills no memory here. */
  async send(event: object): Promise<void> {
    this.#open();
    await this.#write(`data: ${JSON.stringify(event)}\n\n`);
  }

  async end(): Promise<void> {
    this.#open();
    await this.#write('data: [DONE]\n\n');
    this.#res.end();
  }

  #open(): void {
    if (this.opened) return;
    // no-transform and x-accel-buffering: compressing and buffering proxies would hold events back.
    this.#res.set({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    });
    this.#res.flushHeaders();
  }

  async #write(text: string): Promise<void> {
    if (this.#res.destroyed || this.#res.write(text)) return;
    // A client that has stopped reading when its time is up will not read the end either.
    await once(this.#res, 'drain', { signal: this.#signal }).catch(() => this.#res.destroy());
  }
}
