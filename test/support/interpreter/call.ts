/** One node as its kernel sees it: inputs as arrays, and attributes with the operator's own defaults. */
import type { Attribute, Node } from '../../../src/onnx/graph.js';
import type { Array64 } from './array.js';

/** Computes the outputs of a node; it may give more than the node asks for. */
export type Kernel = (call: Call) => readonly Array64[];

export class Call {
  readonly node: Node;
  readonly #name: string;
  readonly #inputs: readonly (Array64 | null)[];
  readonly #read = new Set<string>();

  constructor(name: string, node: Node, inputs: readonly (Array64 | null)[]) {
    this.node = node;
    this.#name = name;
    this.#inputs = inputs;
  }

  get inputs(): Array64[] {
    return this.#inputs.map((_, index) => this.input(index));
  }

  input(index: number): Array64 {
    return this.optional(index) ?? this.refuse(`input ${index}`, 'none');
  }

  optional(index: number): Array64 | null {
    return this.#inputs[index] ?? null;
  }

  /** An input that holds a list of integers. */
  list(index: number): number[] {
    const { shape, data } = this.input(index);
    return shape.length === 1 ? [...data] : this.refuse(`input ${index} to be a vector`, `one of ${shape.length} axes`);
  }

  int(name: string, fallback: number): number {
    const attribute = this.#attribute(name) ?? fallback;
    return typeof attribute === 'number' ? attribute : this.refuse(`an int ${name}`, JSON.stringify(attribute));
  }

  /** As the file holds it: in float32. */
  float(name: string, fallback: number): number {
    const attribute = this.#attribute(name) ?? { float: fallback };
    return typeof attribute === 'object' && 'float' in attribute
      ? Math.fround(attribute.float)
      : this.refuse(`a float ${name}`, JSON.stringify(attribute));
  }

  ints(name: string): readonly number[] | null {
    const attribute = this.#attribute(name) ?? null;
    return attribute === null || Array.isArray(attribute)
      ? (attribute as readonly number[] | null)
      : this.refuse(`ints ${name}`, JSON.stringify(attribute));
  }

  text(name: string, fallback: string): string {
    const attribute = this.#attribute(name) ?? fallback;
    return typeof attribute === 'string' ? attribute : this.refuse(`a string ${name}`, JSON.stringify(attribute));
  }

  /** What this interpreter has only one answer to. */
  only(name: string, value: number): void {
    if (this.int(name, value) !== value) this.refuse(`${name} = ${value}`, String(this.int(name, value)));
  }

  refuse(expected: string, received: string): never {
    throw new TypeError(`${this.#name}: expected ${expected} but received ${received}`);
  }

  /** An attribute that nobody has read would silently mean nothing. */
  checkRead(): void {
    const unread = Object.keys(this.node.attributes).filter((name) => !this.#read.has(name));
    if (unread.length > 0) this.refuse('attributes that the interpreter knows', unread.join(', '));
  }

  #attribute(name: string): Attribute | undefined {
    this.#read.add(name);
    return this.node.attributes[name];
  }
}
