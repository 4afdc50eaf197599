/**
 * How the encoder's weights begin. Neighbouring pixels are alike, so that under random weights a patch is little more than its mean, and a
 * transformer spends its first hour on learning to see edges. It begins here with what JPEG sees of a patch: the cosine waves in which drawn
 * pictures differ most, each scaled to a variance of about one; and with positions that are waves, too. Both are trained like all the rest.
 */
import { elements } from '../../../src/tensor/tensor.js';
import type { Start } from '../../../src/training/parameters.js';

const PATCHES = /patch_embeddings\.projection\.weight$/;
const POSITIONS = /position_embeddings$/;

/** A product's result is about as large as what goes in; what is learned of tokens begins small. */
export function startOf(name: string, shape: readonly number[]): Start {
  if (name.endsWith('.bias')) return { kind: 'constant', value: 0 };
  if ((PATCHES.test(name) && hasWaves(shape)) || POSITIONS.test(name)) return { kind: 'weight', name };
  if (shape.length === 1) return { kind: 'constant', value: 1 };
  if (name.endsWith('.logit_scale')) return { kind: 'constant', value: Math.log(10) };
  if (name.includes('_token')) return { kind: 'normal', deviation: 0.02 };
  return { kind: 'normal', deviation: Math.sqrt(1 / (elements(shape) / (shape[0] ?? 1))) };
}

/** Whether a patch has as many waves as there are channels. */
function hasWaves([channels = 0, ...patch]: readonly number[]): boolean {
  return channels <= elements(patch);
}

/** The values of what begins with waves. */
export function wavesOf(name: string, shape: readonly number[]): Float32Array {
  return PATCHES.test(name) ? patchWaves(shape) : positionWaves(shape);
}

/** Grey, red against blue, green against both: how pictures differ in colour, most of all in the first. */
const OPPONENTS = [
  { mix: [1, 1, 1], mean: 30, wave: 5.5, decay: 1 },
  { mix: [1, 0, -1], mean: 7.5, wave: 2.4, decay: 1.7 },
  { mix: [1, -2, 1], mean: 3.5, wave: 1.2, decay: 1.7 },
] as const;

/** [channels, 3, patch, patch]: the waves that vary most, each divided by its deviation, as measured on 150 drawn pictures. */
function patchWaves(shape: readonly number[]): Float32Array {
  const [channels, , size] = shape as [number, number, number];
  const waves = OPPONENTS.flatMap(({ mix, mean, wave, decay }) =>
    Array.from({ length: size * size }, (_, index) => {
      const [down, across] = [Math.floor(index / size), index % size];
      const frequency = down + across;
      return { mix, down, across, deviation: frequency === 0 ? mean : wave / frequency ** decay };
    }),
  ).sort((a, b) => b.deviation - a.deviation);
  const cosine = (frequency: number, at: number): number =>
    Math.sqrt((frequency === 0 ? 1 : 2) / size) * Math.cos(((2 * at + 1) * frequency * Math.PI) / (2 * size));
  const values = new Float32Array(elements(shape));
  let at = 0;
  for (const { mix, down, across, deviation } of waves.slice(0, channels))
    for (const share of mix)
      for (let y = 0; y < size; y++)
        for (let x = 0; x < size; x++)
          values[at++] = ((share / Math.hypot(...mix)) * cosine(down, y) * cosine(across, x)) / deviation;
  return values;
}

/** [1, 1 + tokens, channels]: nothing for the class token; for a place in the grid sine and cosine of its row and of its column. */
function positionWaves(shape: readonly number[]): Float32Array {
  const [, tokens, channels] = shape as [number, number, number];
  const grid = Math.sqrt(tokens - 1);
  const quarter = channels / 4;
  const values = new Float32Array(elements(shape));
  for (let token = 1; token < tokens; token++)
    for (const [side, place] of [Math.floor((token - 1) / grid), (token - 1) % grid].entries())
      for (let wave = 0; wave < quarter; wave++) {
        // From half a turn over the grid to one every two cells.
        const turn = (Math.PI * (place + 0.5) * grid ** (wave / quarter)) / grid;
        const at = token * channels + 2 * side * quarter + 2 * wave;
        values.set([Math.sin(turn), Math.cos(turn)], at);
      }
  return values;
}
