/**
 * Who may come in. A request that would only wait is told so at once, before its body is read: a short queue keeps answers fast,
 * and the images of refused requests never take memory. A queue that one tenant has filled still has room for others: each up to its share of it.
 */
import type { NextFunction, Request, Response } from 'express';
import { AppError } from '../errors.js';
import { Crowd, hasRoom } from '../fairness/crowd.js';
import type { EngineClient } from '../serving/protocol.js';
import { exchangeOf, partyOf } from './exchange.js';

export class Admission {
  readonly #engine: Pick<EngineClient, 'waiting' | 'info'>;
  readonly #queueLimit: number;
  /** Requests whose body or image is still being read. */
  readonly #arriving = new Crowd();
  #draining = false;

  constructor(engine: Pick<EngineClient, 'waiting' | 'info'>, queueLimit: number) {
    this.#engine = engine;
    this.#queueLimit = queueLimit;
  }

  /** Requests that wait, here or in the engine. */
  get queueLength(): number {
    return this.#arriving.size + this.#engine.waiting.size;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** From now on everything is refused with `shutting_down`. */
  drain(): void {
    this.#draining = true;
  }

  /** Express middleware before the body parser; whoever hands the request to the engine calls the exchange's `arrived()`. */
  readonly middleware = (_req: Request, res: Response, next: NextFunction): void => {
    if (this.#draining)
      throw new AppError('shutting_down', 'The server is shutting down: please send this request elsewhere, or again');
    if (this.#engine.info === null)
      throw new AppError('engine_unavailable', 'The engine is still loading its backbone: please retry');
    const exchange = exchangeOf(res);
    const party = partyOf(exchange.tenant);
    if (!hasRoom(party, this.#queueLimit, [this.#arriving, this.#engine.waiting])) {
      throw new AppError(
        'queue_full',
        `Expected fewer than ${this.#queueLimit} waiting requests but there are ${this.queueLength}: please retry later`,
      );
    }
    this.#arriving.add(party);
    let counted = true;
    const arrived = (): void => {
      if (counted) this.#arriving.remove(party);
      counted = false;
    };
    exchange.arrived = arrived;
    res.once('close', arrived);
    next();
  };
}
