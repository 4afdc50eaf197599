/**
 * What was found of one folder: facts, notes and faults, as plain data that text and JSON are made of. A stage of loading that refuses adds
 * its faults, and the next that does not need its result still runs: so one look names what serving would find at several starts.
 */
import { AppError } from '../../errors.js';
import { adviceFor } from './advice.js';

export type PartKind = 'backbone' | 'language' | 'vision' | 'adapter';

/** One thing that is so: its value for machines, and how people read it. */
export interface Fact {
  readonly name: string;
  readonly value: string | number | boolean | null | readonly string[];
  readonly text: string;
}

export interface Fault {
  /** File, tensor, what was expected and what came. */
  readonly sentence: string;
  readonly advice?: string;
}

export interface Part {
  readonly kind: PartKind;
  readonly folder: string;
  readonly facts: readonly Fact[];
  /** What works, and may surprise. */
  readonly notes: readonly string[];
  readonly faults: readonly Fault[];
}

export class Examination {
  readonly #kind: PartKind;
  readonly #folder: string;
  readonly #facts: Fact[] = [];
  readonly #notes: string[] = [];
  /** Stages may meet the same fault. */
  readonly #sentences = new Set<string>();

  constructor(kind: PartKind, folder: string) {
    this.#kind = kind;
    this.#folder = folder;
  }

  get part(): Part {
    const faults = [...this.#sentences].map((sentence): Fault => {
      const advice = adviceFor(sentence);
      return { sentence, ...(advice !== undefined && { advice }) };
    });
    return { kind: this.#kind, folder: this.#folder, facts: this.#facts, notes: this.#notes, faults };
  }

  fact(name: string, value: Fact['value'], text = String(value)): void {
    this.#facts.push({ name, value, text });
  }

  note(text: string): void {
    this.#notes.push(text);
  }

  fault(sentence: string): void {
    this.#sentences.add(sentence);
  }

  /** Runs a stage; what it refuses becomes faults. */
  async attempt<T>(stage: () => Promise<T> | T): Promise<T | undefined> {
    try {
      return await stage();
    } catch (error) {
      // What is no refusal of ours is the system's: a folder that may not be read, a disk that fails.
      const known = error instanceof AppError && error.code !== 'internal';
      const sentences = known
        ? error.sentences
        : [`${this.#folder}: Expected files that can be read but received ${String(error)}`];
      for (const sentence of sentences) this.fault(sentence);
      return undefined;
    }
  }
}
