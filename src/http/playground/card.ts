/** One adapter's caption as it comes, and what it took. */
import type { Caption } from './api.js';
import { element } from './dom.js';
import { count, duration, rate } from './format.js';

const FIGURES = ['First token', 'Tokens/s', 'Tokens', 'Adapter load', 'Server batch'] as const;
type Figure = (typeof FIGURES)[number];

/** Characters of a caption that is a paragraph. */
const LONG = 140;

export class Card {
  readonly element: HTMLElement;
  readonly #text = element('p', 'text');
  readonly #note = element('p', 'note');
  readonly #figures = element('dl', 'figures');
  readonly #values = new Map<Figure, HTMLElement>();
  readonly #wasResident: boolean;
  readonly #startMs = performance.now();
  #state: 'waiting' | 'streaming' | 'done' | 'failed' = 'waiting';

  constructor(name: string, wasResident: boolean) {
    this.#wasResident = wasResident;
    this.element = element('article', 'card waiting', element('h3', '', name), this.#text, this.#note, this.#figures);
    this.element.dataset['adapter'] = name;
    for (const figure of FIGURES) this.#set(figure, '–');
    this.#set('Adapter load', wasResident ? 'in memory' : 'loading');
  }

  get open(): boolean {
    return this.#state === 'waiting' || this.#state === 'streaming';
  }

  get begun(): boolean {
    return this.#state !== 'waiting';
  }

  push(text: string): void {
    if (this.#state === 'waiting') {
      this.#enter('streaming');
      this.#set('First token', duration(performance.now() - this.#startMs));
    }
    this.#write(`${this.#text.textContent ?? ''}${text}`);
  }

  finish({ captions, usage, timings }: Caption): void {
    this.#enter('done');
    const [caption] = captions;
    this.#write(caption?.text ?? '');
    if (caption?.text.trim() === '') this.#note.textContent = 'The adapter ended at once, without a word.';
    else if (caption?.finish_reason === 'length') this.#note.textContent = 'Ended at the token limit.';
    const tokens = usage.completion_tokens;
    this.#set('Tokens', count(tokens));
    // The first token's time is the prefill's.
    if (tokens > 1 && timings.decode_ms > 0) this.#set('Tokens/s', rate((tokens - 1) / (timings.decode_ms / 1000)));
    if (!this.#wasResident) this.#set('Adapter load', timings.adapter_ms > 0 ? duration(timings.adapter_ms) : 'done');
  }

  fail(message: string): void {
    this.#enter('failed');
    this.#figures.hidden = true;
    this.#note.textContent = message;
  }

  /** The server's mean while this request ran, other requests' rows among them. */
  batch(rows: number | null): void {
    if (rows !== null) this.#set('Server batch', `${rows.toFixed(1)} rows`);
  }

  #write(text: string): void {
    this.#text.textContent = text;
    this.#text.classList.toggle('long', text.length > LONG);
  }

  #enter(state: 'streaming' | 'done' | 'failed'): void {
    this.#state = state;
    this.element.className = `card ${state}`;
  }

  #set(figure: Figure, value: string): void {
    const known = this.#values.get(figure);
    if (known) {
      known.textContent = value;
      return;
    }
    const made = element('dd', '', value);
    this.#values.set(figure, made);
    this.#figures.append(element('div', '', element('dt', '', figure), made));
  }
}
