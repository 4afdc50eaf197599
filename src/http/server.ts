/** The listening socket and its end: how long strangers may take, and how the server stops without dropping what it has begun. */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AppError } from '../errors.js';

/** A client that takes longer than this to send its headers, or its whole request, is cut off. */
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;
const KEEP_ALIVE_MS = 5_000;

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

  private constructor(server: Server, url: string) {
    this.#server = server;
    this.url = url;
    server.on('request', (_req, res) => {
      this.#open++;
      res.once('close', () => {
        if (--this.#open === 0) this.#onIdle?.();
      });
    });
  }

  /** Throws `invalid_config` where the address cannot be taken. */
  static listen(listener: RequestListener, { host, port }: Address): Promise<HttpServer> {
    const server = createServer(
      { headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS, keepAliveTimeout: KEEP_ALIVE_MS },
      listener,
    );
    return new Promise((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const reason = error.code === 'EADDRINUSE' ? 'it is already in use' : error.message;
        reject(new AppError('invalid_config', `Expected to listen on ${host}:${port} but ${reason}`, { cause: error }));
      });
      server.listen(port, host, () => {
        const { port: actual } = server.address() as AddressInfo;
        resolve(new HttpServer(server, `http://${host.includes(':') ? `[${host}]` : host}:${actual}`));
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
