/**
 * AdamW (Loshchilov & Hutter 2019) over one array of parameters, the learning rate's course, and clipping by the global norm.
 * Moments are float32 like the parameters, so that they go into a checkpoint and come back as they were; each update is computed in float64.
 */

export interface AdamOptions {
  readonly betas: readonly [number, number];
  readonly epsilon: number;
  /** Decoupled, per step times the learning rate. */
  readonly weightDecay: number;
}

export interface Schedule {
  readonly peak: number;
  /** Steps of linear warm-up. */
  readonly warmup: number;
  readonly steps: number;
  /** After the warm-up: constant, or along a cosine down to `floor` of the peak at the last step. */
  readonly shape: 'cosine' | 'constant';
  readonly floor: number;
}

/** Learning rate of a step, the first being 1. */
export function learningRate({ peak, warmup, steps, shape, floor }: Schedule, step: number): number {
  if (step <= warmup) return (peak * step) / warmup;
  if (shape === 'constant') return peak;
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup));
  return peak * (floor + ((1 - floor) * (1 + Math.cos(Math.PI * progress))) / 2);
}

/** Neighbours that decay, or do not. */
interface Stretch {
  readonly start: number;
  readonly end: number;
  readonly decays: boolean;
}

export class AdamW {
  readonly #options: AdamOptions;
  readonly first: Float32Array;
  readonly second: Float32Array;
  readonly #stretches: readonly Stretch[];

  /** `decays`: 1 where a parameter decays; null: nothing does. */
  constructor(size: number, options: AdamOptions, decays: Uint8Array | null = null) {
    this.#options = options;
    this.first = new Float32Array(size);
    this.second = new Float32Array(size);
    this.#stretches = stretchesOf(size, options.weightDecay > 0 ? decays : null);
  }

  /** Moves `values` against `gradients` · `scale`; `step` is the number of updates with this one. */
  update(values: Float32Array, gradients: Float32Array, scale: number, step: number, rate: number): void {
    const { first, second } = this;
    const {
      betas: [beta1, beta2],
      epsilon,
      weightDecay,
    } = this.#options;
    const bias1 = rate / (1 - beta1 ** step);
    const bias2 = 1 / (1 - beta2 ** step);
    const [rest1, rest2] = [1 - beta1, 1 - beta2];
    for (const { start, end, decays } of this.#stretches) {
      // Outside the loop: a question for every number made it a third slower.
      const decay = decays ? rate * weightDecay : 0;
      for (let i = start; i < end; i++) {
        const gradient = (gradients[i] as number) * scale;
        const m = beta1 * (first[i] as number) + rest1 * gradient;
        const v = beta2 * (second[i] as number) + rest2 * gradient * gradient;
        first[i] = m;
        second[i] = v;
        const value = values[i] as number;
        values[i] = value - decay * value - (bias1 * m) / (Math.sqrt(v * bias2) + epsilon);
      }
    }
  }
}

function stretchesOf(size: number, decays: Uint8Array | null): Stretch[] {
  const stretches: Stretch[] = [];
  for (let start = 0, end = 0; start < size; start = end) {
    const mark = decays?.[start] ?? 0;
    for (end = start + 1; end < size && (decays?.[end] ?? 0) === mark; ) end++;
    stretches.push({ start, end, decays: mark === 1 });
  }
  return stretches;
}

/** Length of the gradient as one vector. */
export function norm(gradients: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < gradients.length; i++) sum += (gradients[i] as number) * (gradients[i] as number);
  return Math.sqrt(sum);
}
