/** What the page asks the server, and how the answers look. Paths are relative, so that the page works behind a proxy's prefix. */
import { readEvents } from './events.js';
import { parseMetrics, type Series } from './metrics.js';

export const CAPTIONS = 'v1/captions';

export interface Adapter {
  readonly name: string;
  /** null where it is still to be fetched. */
  readonly method: string | null;
  readonly contexts: readonly string[];
  readonly task: string | null;
  readonly rank: number | null;
  readonly bytes: number;
  readonly resident: boolean;
  readonly fault: string | null;
}

interface Delta {
  readonly object: 'caption.delta';
  readonly adapter: string;
  readonly text: string;
}

export interface Caption {
  readonly object: 'caption';
  readonly adapter: { readonly name: string };
  readonly captions: readonly { readonly text: string; readonly finish_reason: string }[];
  readonly usage: { readonly completion_tokens: number };
  readonly timings: { readonly adapter_ms: number; readonly decode_ms: number };
}

interface Failure {
  readonly object: 'error';
  readonly adapter: { readonly name: string };
  readonly error: { readonly message: string };
}

export type CaptionEvent = Delta | Caption | Failure;

export interface Ask {
  readonly image: File;
  readonly adapters: readonly string[];
  readonly settings: Readonly<Record<string, number | boolean>>;
}

/** The server wants a key, or another one. */
export class KeyWanted extends Error {}

let key = '';
let mayMeasure = true;

/** What is sent from now on; empty for nothing. */
export function authorize(given: string): void {
  key = given;
  mayMeasure = true;
}

/** The backbone's name; null while the server is not ready. */
export async function readyBackbone(): Promise<string | null> {
  const response = await fetch('health/ready');
  return response.ok ? ((await response.json()) as { backbone: string }).backbone : null;
}

export async function listAdapters(): Promise<readonly Adapter[]> {
  const response = await checked(await send('v1/adapters'));
  return ((await response.json()) as { data: readonly Adapter[] }).data;
}

/** null where they are not for this visitor, who is not asked about it again. */
export async function readMetrics(): Promise<Series | null> {
  if (!mayMeasure) return null;
  const response = await send('metrics');
  mayMeasure = response.status !== 401 && response.status !== 404;
  return mayMeasure ? parseMetrics(await (await checked(response)).text()) : null;
}

/**
 * One request for all adapters: their captions come mixed in one stream. A request each would decode the image as often, and a browser
 * opens six connections to a server, so that the seventh adapter would wait for no reason of the server's.
 */
export async function* streamCaptions({ image, adapters, settings }: Ask, signal: AbortSignal): AsyncGenerator<CaptionEvent> {
  const body = new FormData();
  body.append('image', image);
  body.append('adapters', adapters.join(','));
  for (const [name, value] of Object.entries(settings)) body.append(name, String(value));
  const response = await checked(await send(CAPTIONS, { method: 'POST', body, signal }));
  if (!response.body) throw new Error('The server sent an empty answer.');
  for await (const data of readEvents(response.body)) yield JSON.parse(data) as CaptionEvent;
}

function send(path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(path, key === '' ? init : { ...init, headers: { authorization: `Bearer ${key}` } });
}

/** Throws the server's own message where the answer is an error. */
async function checked(response: Response): Promise<Response> {
  if (response.ok) return response;
  const body = (await response.json().catch(() => null)) as Partial<Failure> | null;
  const message = body?.error?.message ?? `The server answered ${response.status} ${response.statusText}`;
  throw response.status === 401 ? new KeyWanted(message) : new Error(message);
}
