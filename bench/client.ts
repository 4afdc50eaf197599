/**
 * HTTP as an SDK or a proxy in front of Graft speaks it: connections that are kept open and used again. A client's connections are its own, so that
 * a bench can drop all of them and then count what the server still holds.
 */
import { Agent, type IncomingMessage, request } from 'node:http';
import { type Body, type Fields, formOf } from '../test/support/server.js';

/** A request body, encoded once and sent often. */
export interface Payload {
  readonly path: string;
  readonly contentType: string;
  readonly bytes: Buffer;
}

/** How a caption request ended, in words for a table. */
export type Outcome = string;

/** The ends that a client can work with. Anything else is a defect. */
export const COMPLETED: Outcome = 'completed';
export const EVENT_RETRY: Outcome = '200, ended by an error event that says retry';
export const STATUS_RETRY: Outcome = '503 with Retry-After';
export const CLIENT_LEFT: Outcome = 'client left';

export async function captionPayload(fields: Fields): Promise<Payload> {
  const form = new Response(formOf(fields));
  return {
    path: '/v1/captions',
    contentType: form.headers.get('content-type') ?? '',
    bytes: Buffer.from(await form.arrayBuffer()),
  };
}

export function jsonPayload(path: string, body: object): Payload {
  return { path, contentType: 'application/json', bytes: Buffer.from(JSON.stringify(body)) };
}

export class Client {
  readonly #url: string;
  readonly #key: string | undefined;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 256 });

  constructor(url: string, key?: string) {
    this.#url = url;
    this.#key = key;
  }

  /** Drops every connection. */
  close(): void {
    this.#agent.destroy();
  }

  /** Sends, reads to the end and says how it went; never throws. `onFirstByte` is called once where the reply is a stream that has begun. */
  async outcome(
    payload: Payload,
    { signal, onFirstByte }: { signal?: AbortSignal; onFirstByte?: () => void } = {},
  ): Promise<Outcome> {
    try {
      const response = await this.#send('POST', payload.path, payload, signal);
      let text = '';
      response.setEncoding('utf8');
      for await (const chunk of response) {
        if (text === '') onFirstByte?.();
        text += chunk as string;
      }
      return outcomeOf(response, text);
    } catch (error) {
      if (signal?.aborted) return CLIENT_LEFT;
      return `connection failed: ${(error as NodeJS.ErrnoException).code ?? String(error)}`;
    }
  }

  /** Throws where the connection fails or the reply is no JSON. */
  async get(path: string): Promise<{ readonly status: number; readonly body: Body & Readonly<Record<string, unknown>> }> {
    const { status, text } = await this.#text(path);
    return { status, body: JSON.parse(text) as Body & Record<string, unknown> };
  }

  /** Every series of /metrics by its name and labels. */
  async metrics(): Promise<ReadonlyMap<string, number>> {
    const { text } = await this.#text('/metrics');
    const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
  }

  async #text(path: string): Promise<{ status: number; text: string }> {
    const response = await this.#send('GET', path);
    let text = '';
    response.setEncoding('utf8');
    for await (const chunk of response) text += chunk as string;
    return { status: response.statusCode ?? 0, text };
  }

  #send(method: string, path: string, payload?: Payload, signal?: AbortSignal): Promise<IncomingMessage> {
    const headers = {
      ...(payload ? { 'content-type': payload.contentType, 'content-length': payload.bytes.length } : {}),
      ...(this.#key === undefined ? {} : { authorization: `Bearer ${this.#key}` }),
    };
    return new Promise((resolve, reject) => {
      const sent = request(
        `${this.#url}${path}`,
        { method, headers, agent: this.#agent, ...(signal ? { signal } : {}) },
        resolve,
      );
      sent.on('error', reject);
      sent.end(payload?.bytes);
    });
  }
}

function outcomeOf({ statusCode = 0, headers }: IncomingMessage, text: string): Outcome {
  const isStream = headers['content-type']?.startsWith('text/event-stream');
  if (statusCode === 200 && isStream) return streamOutcome(text);
  if (statusCode === 200) return COMPLETED;
  if (statusCode === 503 && headers['retry-after'] !== undefined) return STATUS_RETRY;
  return `${statusCode} ${(JSON.parse(text) as Body).error?.code}`;
}

function streamOutcome(text: string): Outcome {
  const blocks = text.split('\n\n').filter((block) => block !== '');
  if (blocks.pop() !== 'data: [DONE]') return 'stream cut off';
  const last = JSON.parse((blocks.at(-1) ?? 'data: {}').slice('data: '.length)) as Body;
  if (last.object === 'error') return last.error?.message.includes('retry') ? EVENT_RETRY : `error event ${last.error?.code}`;
  return last.object === 'caption' || last.object === 'text_completion' ? COMPLETED : `stream ended with ${last.object}`;
}

/** `3 × completed, 2 × client left`. */
export function tally(outcomes: readonly Outcome[]): string {
  const counts = new Map<Outcome, number>();
  for (const outcome of outcomes) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  return [...counts].map(([outcome, count]) => `${count} × ${outcome}`).join(', ');
}
