/**
 * The list of adapters to choose from. There may be thousands: it can be filtered, and shows no more than one would scroll through. A few are chosen
 * from the start, and all can be at once where they are few: comparing is the point.
 */
import type { Adapter } from './api.js';
import { element, part } from './dom.js';
import { size } from './format.js';

const MAX_SHOWN = 100;
/** A shorter list is seen at a glance. */
const MIN_FILTERED = 9;
const CHOSEN_AT_START = 3;
/** More than these side by side are no comparison. */
const MAX_AT_ONCE = 12;

export class Chooser {
  readonly #list = part('adapters', HTMLDivElement);
  readonly #note = part('adapters-note', HTMLParagraphElement);
  readonly #filter = part('filter', HTMLInputElement);
  readonly #filterField = part('filter-field', HTMLLabelElement);
  readonly #pick = part('pick', HTMLSpanElement);
  readonly #onChange: () => void;
  readonly #chosen = new Set<string>();
  #adapters: readonly Adapter[] | null = null;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
    this.#filter.addEventListener('input', () => this.#render());
    part('all', HTMLButtonElement).addEventListener('click', () => this.#choose(this.#matching().filter(isUsable)));
    part('none', HTMLButtonElement).addEventListener('click', () => this.#choose([]));
    // Enter in the filter would send the request while one is still looking.
    this.#filter.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') event.preventDefault();
    });
  }

  /** In the server's order. */
  get chosen(): readonly string[] {
    return (this.#adapters ?? []).map(({ name }) => name).filter((name) => this.#chosen.has(name));
  }

  show(adapters: readonly Adapter[]): void {
    const usable = adapters.filter(isUsable);
    if (!this.#adapters?.length) for (const { name } of usable.slice(0, CHOSEN_AT_START)) this.#chosen.add(name);
    this.#adapters = adapters;
    const names = new Set(usable.map(({ name }) => name));
    for (const name of this.#chosen) if (!names.has(name)) this.#chosen.delete(name);
    this.#render();
    this.#onChange();
  }

  /** As before the first list. */
  forget(): void {
    this.#adapters = null;
    this.#chosen.clear();
    this.#list.replaceChildren();
    this.#note.replaceChildren();
  }

  isResident(name: string): boolean {
    return this.#adapters?.find((adapter) => adapter.name === name)?.resident ?? false;
  }

  #choose(adapters: readonly Adapter[]): void {
    this.#chosen.clear();
    for (const { name } of adapters) this.#chosen.add(name);
    this.#render();
    this.#onChange();
  }

  #matching(): readonly Adapter[] {
    const words = this.#filter.value.toLowerCase();
    return (this.#adapters ?? []).filter(({ name, task }) => `${name} ${task ?? ''}`.toLowerCase().includes(words));
  }

  #render(): void {
    const adapters = this.#adapters ?? [];
    const matching = this.#matching();
    const usable = adapters.filter(isUsable).length;
    this.#pick.hidden = usable < 2 || usable > MAX_AT_ONCE;
    const focused = document.activeElement instanceof HTMLInputElement ? document.activeElement.value : null;
    const options = matching.slice(0, MAX_SHOWN).map((adapter) => this.#option(adapter));
    const had = this.#list.contains(document.activeElement);
    this.#list.replaceChildren(...options.map(({ row }) => row));
    if (had) options.find(({ box }) => box.value === focused)?.box.focus();
    this.#filterField.hidden = adapters.length < MIN_FILTERED;
    this.#note.replaceChildren(...this.#remark(adapters.length, matching.length));
  }

  #option(adapter: Adapter): { row: HTMLElement; box: HTMLInputElement } {
    const { name, method, rank, contexts, bytes, resident, fault } = adapter;
    const box = element('input', '');
    box.type = 'checkbox';
    box.name = 'adapter';
    box.value = name;
    box.checked = this.#chosen.has(name);
    box.disabled = fault !== null;
    box.addEventListener('change', () => {
      if (box.checked) this.#chosen.add(name);
      else this.#chosen.delete(name);
      this.#onChange();
    });
    const parts = [method, rank === null ? '' : `rank ${rank}`, contexts.join(' + '), size(bytes)];
    const kind = method === null ? 'to be fetched' : parts.filter(Boolean).join(', ');
    const title = element('span', 'name', element('b', '', name));
    if (resident) title.append(element('span', 'chip', 'in memory'));
    const detail = element('small', fault === null ? '' : 'fault', fault ?? kind);
    // All of a folder's faults can be long; the list shows how they begin.
    if (fault !== null) detail.title = fault;
    const lines = element('span', 'lines', title, detail);
    return { row: element('label', 'option', box, lines), box };
  }

  #remark(total: number, matching: number): (Node | string)[] {
    if (total === 0) {
      return [
        'No adapters yet. Put an adapter’s folder into the folder that the server was given as ',
        element('code', '', '--adapters'),
        ', or make one with ',
        element('code', '', 'graft train'),
        ': it appears here by itself.',
      ];
    }
    if (matching === 0) return ['No adapter has this in its name.'];
    return matching > MAX_SHOWN ? [`${MAX_SHOWN} of ${matching} are shown: filter to see others.`] : [];
  }
}

function isUsable({ fault }: Adapter): boolean {
  return fault === null;
}
