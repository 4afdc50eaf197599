/** The visitor's API key: asked for where the server wants one, kept for this tab alone, and sent in a header, never as a part of an address. */
import { authorize } from './api.js';
import { part } from './dom.js';

const STORED = 'graft-key';

export class KeyField {
  readonly #form = part('key-form', HTMLFormElement);
  readonly #input = part('key', HTMLInputElement);
  readonly #refused = part('key-refused', HTMLParagraphElement);
  readonly #change = part('key-change', HTMLButtonElement);
  readonly #main = part('main', HTMLElement);
  #key = stored();

  /** `onChange`: another key holds from now on, or none. */
  constructor(onChange: () => void) {
    authorize(this.#key);
    this.#show(false);
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#use(this.#input.value);
      this.#input.value = '';
      onChange();
    });
    this.#change.addEventListener('click', () => {
      this.#use('');
      this.ask();
      onChange();
    });
  }

  /** Whether the visitor has a key that the server has not refused. */
  get isGiven(): boolean {
    return this.#key !== '';
  }

  /** Whether nothing is worth asking the server before there is a key. */
  get isAwaited(): boolean {
    return !this.#form.hidden;
  }

  /** The server wants a key, or another one. */
  ask(): void {
    this.#refused.hidden = this.#key === '';
    this.#use('');
    this.#show(true);
    this.#input.focus();
  }

  #use(key: string): void {
    this.#key = key;
    authorize(key);
    store(key);
    this.#show(false);
  }

  #show(isAsked: boolean): void {
    this.#form.hidden = !isAsked;
    this.#main.hidden = isAsked;
    this.#change.hidden = !this.isGiven;
  }
}

/** A browser that keeps nothing still has the key until the page is left. */
function stored(): string {
  try {
    return sessionStorage.getItem(STORED) ?? '';
  } catch {
    return '';
  }
}

function store(key: string): void {
  try {
    if (key === '') sessionStorage.removeItem(STORED);
    else sessionStorage.setItem(STORED, key);
  } catch {
    // See above.
  }
}
