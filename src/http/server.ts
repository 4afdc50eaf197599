/** The listening socket and its end: how long strangers may take, and how the server stops without dropping what it has begun. */
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AppError } from '../errors.js';

/** A client that takes longer than this to send its headers, or its whole request, is cut off. */
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;
const KEEP_ALIVE_MS = 5_000;
/** ... and one that may take its time, as soon as nothing of it has come for this long. */
const IDLE_MS = 30_000;

/** What ends a request that has not come in time. */
const deadlines = new WeakMap<IncomingMessage, NodeJS.Timeout>();

export interface Address {
  readonly host: string;
  readonly port: number;
}

export class HttpServer {
  readonly #server: Server;
  readonly url: string;
  /** Replies that are not complete. */
  #open = 0;
  #onIdle: (() => void) | undefined;

  private constructor(server: Server, url: string, requestTimeoutMs: number) {
    this.#server = server;
    this.url = url;
    // Before the listener, which may say that a request takes its time.
    server.prependListener('request', (req, res) => {
      limitTime(req, res, requestTimeoutMs);
      this.#open++;
      res.once('close', () => {
        if (--this.#open === 0) this.#onIdle?.();
      });
    });
  }

  /** Throws `invalid_config` where the address cannot be taken. */
  static listen(
    listener: RequestListener,
    { host, port }: Address,
    requestTimeoutMs: number = REQUEST_TIMEOUT_MS,
  ): Promise<HttpServer> {
    const server = createServer(
      // Node knows one time for all requests; ours is in limitTime.
      { headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: 0, keepAliveTimeout: KEEP_ALIVE_MS },
      listener,
    );
    return new Promise((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const reason = error.code === 'EADDRINUSE' ? 'it is already in use' : error.message;
        reject(new AppError('invalid_config', `Expected to listen on ${host}:${port} but ${reason}`, { cause: error }));
      });
      server.listen(port, host, () => {
        const { port: actual } = server.address() as AddressInfo;
        const url = `http://${host.includes(':') ? `[${host}]` : host}:${actual}`;
        resolve(new HttpServer(server, url, requestTimeoutMs));
      });
    });
  }

  /** Takes no more connections; resolves when all replies are complete, or after `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    this.#server.close();
    this.#server.closeIdleConnections();
    if (this.#open === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#onIdle = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Ends what is left. */
  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** Lets a request, such as a large file, come for as long as it keeps coming. */
export function takesTime(req: IncomingMessage): void {
  clearTimeout(deadlines.get(req));
  let seen = req.socket.bytesRead;
  const watch = setInterval(() => {
    if (req.socket.bytesRead === seen) req.destroy();
    seen = req.socket.bytesRead;
  }, IDLE_MS);
  req.once('close', () => clearInterval(watch));
}

/** As Node's own `requestTimeout`: 408, and the connection is closed. */
function limitTime(req: IncomingMessage, res: ServerResponse, timeoutMs: number): void {
  const deadline = setTimeout(() => {
    // Once it is there, what is done with it is limited elsewhere.
    if (req.complete) return;
    if (res.headersSent) req.destroy();
    else res.writeHead(408, { connection: 'close' }).end(() => req.destroy());
  }, timeoutMs);
  deadlines.set(req, deadline);
  req.once('close', () => clearTimeout(deadline));
}
