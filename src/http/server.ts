/** The listening socket and its end: how long strangers may take, and how the server stops without dropping what it has begun. */
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AppError } from '../errors.js';

/** A client that takes longer than this to send its headers is cut off, and so is one that takes longer for its whole request, unless much comes. */
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;
/** Large files may take their time, as long as they come at least so fast. */
const LEAST_BYTES_PER_MS = 64;
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
    server.on('request', (req, res) => {
      hurry(req);
      this.#open++;
      res.once('close', () => {
        if (--this.#open === 0) this.#onIdle?.();
      });
    });
  }

  /** Throws `invalid_config` where the address cannot be taken. */
  static listen(listener: RequestListener, { host, port }: Address): Promise<HttpServer> {
    const server = createServer(
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

/** Cuts a client off that takes too long for its body. What Node has for this knows one time for all, however large a body is. */
function hurry(req: IncomingMessage): void {
  if (req.complete) return;
  const startedMs = performance.now();
  const { socket } = req;
  const startBytes = socket.bytesRead;
  const look = (): void => {
    // Its reply may take longer, and read nothing of it.
    if (req.complete) return;
    const allowedMs = REQUEST_TIMEOUT_MS + (socket.bytesRead - startBytes) / LEAST_BYTES_PER_MS;
    const leftMs = allowedMs - (performance.now() - startedMs);
    if (leftMs <= 0) socket.destroy();
    else timer = setTimeout(look, leftMs).unref();
  };
  let timer = setTimeout(look, REQUEST_TIMEOUT_MS).unref();
  const done = (): void => clearTimeout(timer);
  req.once('end', done);
  req.once('close', done);
}
