/** A web proxy in this process: whatever host it is asked for, it leads to one server. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';

export interface Tunnel {
  /** Host and port that were asked for. */
  readonly to: string;
  readonly authorization: string | undefined;
}

export class TestProxy {
  readonly tunnels: Tunnel[] = [];
  readonly #server: Server;

  private constructor(server: Server, url: string) {
    this.#server = server;
    server.on('connect', ({ url: to = '', headers }, socket, head) => {
      this.tunnels.push({ to, authorization: headers['proxy-authorization'] });
      const { port, hostname } = new URL(url);
      const there = connect(Number(port), hostname, () => {
        socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
        there.write(head);
        there.pipe(socket).pipe(there);
      });
      there.on('error', () => socket.destroy());
      socket.on('error', () => there.destroy());
    });
  }

  /** Leads to the server of this address. */
  static async start(url: string): Promise<TestProxy> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new TestProxy(server, url);
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Tunnels end with the server that they lead to. */
  stop(): void {
    this.#server.close();
  }
}
