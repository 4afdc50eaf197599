/** Progress of long work: a bar where somebody is looking, and now and then a line where the output goes into a file. */
import { Presets, SingleBar } from 'cli-progress';

/** Between two lines of a log. */
const LINE_EVERY_MS = 10_000;

export class Progress {
  readonly #label: string;
  readonly #bar: SingleBar | null;
  #lastMs = 0;
  #total: number;

  /** `first` is what is done already. */
  constructor(label: string, total: number, first = 0) {
    this.#label = label;
    this.#total = total;
    const { stderr } = process;
    this.#bar = stderr.isTTY
      ? new SingleBar(
          {
            format: `${label} {bar} {value}/{total} {detail}`,
            stream: stderr,
            barsize: 16, // With what stands behind it, no wider than 80 columns.
            // Nothing of the terminal is changed, so nothing has to be put right when the process ends without warning.
            hideCursor: false,
            linewrap: true,
            gracefulExit: false,
          },
          Presets.shades_classic,
        )
      : null;
    this.#bar?.start(total, first, { detail: '' });
    this.#lastMs = Date.now();
  }

  /** `detail` is what stands behind the bar. */
  update(done: number, detail: string, total = this.#total): void {
    this.#total = total;
    if (this.#bar) {
      this.#bar.setTotal(total);
      this.#bar.update(done, { detail });
    } else if (Date.now() - this.#lastMs >= LINE_EVERY_MS || done === total) {
      this.#lastMs = Date.now();
      console.error(`${this.#label} ${done}/${total} ${detail}`);
    }
  }

  /** A line above the bar. */
  say(line: string): void {
    if (!this.#bar) {
      console.error(line);
      return;
    }
    process.stderr.write(`\r\u001b[K${line}\n`);
    this.#bar.render();
  }

  stop(): void {
    if (!this.#bar) return;
    // The bar ends by going back to where it began, which is above all that was said meanwhile: here is where it began.
    process.stderr.write('\u001b7');
    this.#bar.stop();
  }
}

/** 75 seconds as `1:15`, two hours as `2:00:00`. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const two = (value: number): string => String(value).padStart(2, '0');
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
