/** Small adapters for tests of the store, which never meets a backbone: a plain PEFT folder each, another one for another seed. */

import type { AdapterRef } from '../../src/adapter/adapter.js';
import { digestOf } from '../../src/adapter/format.js';
import { type Publication, Publisher, type PublisherOptions } from '../../src/store/publisher.js';
import type { AdapterStore, Published } from '../../src/store/store.js';
import { encodeSafetensors } from '../../src/tensor/safetensors.js';

const text = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

export function peftFiles(seed: number): Map<string, Uint8Array> {
  const matrix = (shape: readonly number[]) => ({
    dtype: 'float32' as const,
    shape,
    data: new Uint8Array(Float32Array.from({ length: 4 }, (_, at) => seed + at).buffer),
  });
  const tensors = encodeSafetensors([
    ['base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight', matrix([1, 4])],
    ['base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight', matrix([4, 1])],
  ]);
  return new Map([
    ['adapter_config.json', text({ peft_type: 'LORA', r: 1, lora_alpha: 1, target_modules: ['q_proj'] })],
    ['adapter_model.safetensors', tensors],
  ]);
}

export function digestOfSeed(seed: number): string {
  return digestOf(peftFiles(seed));
}

/** In two pieces, as it may come over a line. */
export async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  const half = Math.ceil(bytes.byteLength / 2);
  yield bytes.subarray(0, half);
  if (half < bytes.byteLength) yield bytes.subarray(half);
}

export class TestPublisher {
  readonly publisher: Publisher;
  readonly outcomes: string[] = [];
  /** What the engine was asked about. */
  readonly checked: AdapterRef[] = [];

  constructor(store: AdapterStore, options: Partial<PublisherOptions> = {}) {
    this.publisher = new Publisher({
      store,
      maxBytes: 1e6,
      check: async (ref) => {
        this.checked.push(ref);
      },
      onOutcome: (outcome) => this.outcomes.push(outcome),
      ...options,
    });
  }

  publish(name: string, seed: number, publication: Partial<Publication> = {}): Promise<Published> {
    return this.publisher.publish({ name, by: 'acme', isCurrent: true, ...publication }, async (intake) => {
      for (const [path, bytes] of peftFiles(seed)) await intake.addFile(path, pieces(bytes));
    });
  }
}
