/**
 * The image: chosen, dropped, pasted, or drawn at random. One that the browser cannot show is sent all the same: the server may know its format, or
 * says why not.
 */
import { element, part } from './dom.js';
import { size } from './format.js';
import { sketch } from './sketch.js';

export class Picture {
  readonly #input = part('file', HTMLInputElement);
  readonly #drop = part('drop', HTMLLabelElement);
  readonly #preview = part('preview', HTMLImageElement);
  readonly #invite = part('invite', HTMLSpanElement);
  readonly #note = part('picture-name', HTMLParagraphElement);
  readonly #draw = part('draw', HTMLButtonElement);
  readonly #world = part('world', HTMLParagraphElement);
  readonly #onChange: () => void;
  readonly #onProblem: (error: unknown) => void;
  #file: File | null = null;

  constructor(onChange: () => void, onProblem: (error: unknown) => void) {
    this.#onChange = onChange;
    this.#onProblem = onProblem;
    this.#draw.addEventListener('click', () => void this.#drawOne());
    this.#input.addEventListener('change', () => this.#choose(this.#input.files));
    this.#preview.addEventListener('error', () => this.#show(false));
    this.#preview.addEventListener('load', () => this.#show(true));
    document.addEventListener('paste', (event) => this.#choose(event.clipboardData?.files));
    document.addEventListener('dragover', (event) => {
      event.preventDefault();
      this.#drop.classList.add('over');
    });
    document.addEventListener('dragleave', (event) => {
      if (event.relatedTarget === null) this.#drop.classList.remove('over');
    });
    document.addEventListener('drop', (event) => {
      event.preventDefault();
      this.#drop.classList.remove('over');
      this.#choose(event.dataTransfer?.files);
    });
  }

  get file(): File | null {
    return this.#file;
  }

  focus(): void {
    this.#input.focus();
  }

  /** Where the model's world is drawn scenes, one can be had at random; the first comes by itself, so that there is something to caption. */
  offerDrawing(offered: boolean): void {
    const isNew = offered && this.#draw.hidden;
    this.#draw.hidden = !offered;
    this.#world.hidden = !offered;
    if (isNew && !this.#file) void this.#drawOne();
  }

  async #drawOne(): Promise<void> {
    const before = this.#file;
    try {
      const file = await sketch();
      // What the visitor chose meanwhile stays.
      if (this.#file !== before) return;
      this.#take(file);
      // Other images are somewhere already; the code beside the page asks for this one as a file, too.
      const save = element('a', '', 'Save it');
      save.href = this.#preview.src;
      save.download = file.name;
      this.#note.append(' · ', save);
    } catch (error) {
      this.#onProblem(error);
    }
  }

  #choose(files: FileList | null | undefined): void {
    const file = files?.[0];
    if (file) this.#take(file);
  }

  #take(file: File): void {
    if (this.#file) URL.revokeObjectURL(this.#preview.src);
    this.#file = file;
    this.#note.textContent = `${file.name}, ${size(file.size)}`;
    this.#preview.src = URL.createObjectURL(file);
    this.#onChange();
  }

  #show(visible: boolean): void {
    this.#preview.hidden = !visible;
    this.#invite.hidden = visible;
    if (!visible) this.#note.textContent = `${this.#file?.name ?? ''}: no preview, this browser cannot show it`;
  }
}
