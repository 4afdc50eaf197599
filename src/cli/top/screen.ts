/**
 * The terminal while `graft top` has it: a screen of its own that is drawn over and over, keys as they are pressed, and everything as it was when it
 * ends, however it ends. Where the output is no terminal, or a dumb one, frames are printed one below the other.
 */
import type { ReadStream, WriteStream } from 'node:tty';
import type { Canvas } from './frame.js';

const OPEN = '\u001b[?1049h\u001b[?25l';
const CLOSE = '\u001b[?25h\u001b[?1049l';
const HOME = '\u001b[H';
const END_OF_LINE = '\u001b[K';
const END_OF_SCREEN = '\u001b[J';
const CTRL_C = '\u0003';

/** A frame that is printed. */
const PRINTED = { columns: 100, rows: 40 };

export class Screen {
  readonly #input: ReadStream;
  readonly #output: WriteStream;
  readonly #env: Readonly<Record<string, string | undefined>>;
  readonly #isTerminal: boolean;
  #isOpen = false;

  constructor(input: ReadStream, output: WriteStream, env: Readonly<Record<string, string | undefined>>) {
    this.#input = input;
    this.#output = output;
    this.#env = env;
    this.#isTerminal = output.isTTY && env['TERM'] !== 'dumb';
  }

  get canvas(): Canvas {
    const { LC_ALL, LC_CTYPE, LANG, NO_COLOR, TERM } = this.#env;
    return {
      columns: this.#output.columns || PRINTED.columns,
      // The last line stays free: writing to its end would scroll.
      rows: this.#isDrawn ? Math.max(1, (this.#output.rows || PRINTED.rows) - 1) : PRINTED.rows,
      colours: this.#isTerminal && !NO_COLOR,
      unicode: TERM !== 'dumb' && /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || ''),
    };
  }

  /** Takes the terminal. `onQuit` is called for q and Ctrl-C and where nobody reads any more, `onResize` when there is another size. */
  open(onQuit: () => void, onResize: () => void): void {
    this.#isOpen = true;
    this.#output.on('error', onQuit);
    if (this.#input.isTTY) {
      this.#input.setRawMode(true);
      this.#input.setEncoding('utf8');
      this.#input.on('data', (keys) => {
        if (/q/i.test(String(keys)) || String(keys).includes(CTRL_C)) onQuit();
      });
    }
    if (!this.#isDrawn) return;
    this.#output.on('resize', onResize);
    this.#output.write(OPEN);
    // Also where something throws.
    process.once('exit', () => this.close());
  }

  draw(lines: readonly string[]): void {
    if (this.#isDrawn) this.#output.write(`${HOME}${lines.map((line) => `${line}${END_OF_LINE}\n`).join('')}${END_OF_SCREEN}`);
    else this.#output.write(`${lines.join('\n')}\n`);
  }

  close(): void {
    if (!this.#isOpen) return;
    if (this.#isDrawn) this.#output.write(CLOSE);
    this.#isOpen = false;
    if (this.#input.isTTY) this.#input.setRawMode(false);
    this.#input.pause();
  }

  get #isDrawn(): boolean {
    return this.#isOpen && this.#isTerminal;
  }
}
