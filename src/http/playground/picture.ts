/** The image: chosen, dropped or pasted. One that the browser cannot show is sent all the same: the server may know its format, or says why not. */
import { part } from './dom.js';
import { size } from './format.js';

export class Picture {
  readonly #input = part('file', HTMLInputElement);
  readonly #drop = part('drop', HTMLLabelElement);
  readonly #preview = part('preview', HTMLImageElement);
  readonly #invite = part('invite', HTMLSpanElement);
  readonly #note = part('picture-name', HTMLParagraphElement);
  readonly #onChange: () => void;
  #file: File | null = null;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
    this.#input.addEventListener('change', () => this.#take(this.#input.files));
    this.#preview.addEventListener('error', () => this.#show(false));
    this.#preview.addEventListener('load', () => this.#show(true));
    document.addEventListener('paste', (event) => this.#take(event.clipboardData?.files));
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
      this.#take(event.dataTransfer?.files);
    });
  }

  get file(): File | null {
    return this.#file;
  }

  focus(): void {
    this.#input.focus();
  }

  #take(files: FileList | null | undefined): void {
    const file = files?.[0];
    if (!file) return;
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
