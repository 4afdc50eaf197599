/**
 * `npm run bench:layout`: what a decode step costs by how many adapters its rows use, as ratios to a step of base rows in the same run.
 * This is the figure behind the bank's choice between one shared group and a group a row (src/engine/bank.ts).
 *
 *     npm run bench:layout -- [real|30m|135m] [threads] [rank] [steps]
 */
import type { LoadedAdapter } from '../src/adapter/adapter.js';
import { blendRef } from '../src/adapter/blend.js';
import { mixAdapters } from '../src/adapter/mix.js';
import { Decoder } from '../src/engine/decoder.js';
import { randomAdapter } from '../test/support/adapter.js';
import { type ModelName, prepareModel } from './model.js';

const [model = 'real', threads = '2', rank = '8', steps = '200'] = process.argv.slice(2);
const ROWS = [1, 8, 32];

const { backbone, target } = await prepareModel(model as ModelName);
const decoder = await Decoder.open(backbone, { threads: Number(threads), rows: Math.max(...ROWS), maxLength: 256 });
const lora = Array.from({ length: Math.max(...ROWS) }, (_, index) =>
  randomAdapter(target, { name: `lora-${index}`, method: 'lora', rank: Number(rank), contexts: ['text'], seed: index }),
);
const ia3 = Array.from({ length: Math.max(...ROWS) }, (_, index) =>
  randomAdapter(target, { name: `ia3-${index}`, method: 'ia3', rank: 0, contexts: ['text'], seed: index }),
);

/** So many LoRAs in one row, from the n-th on. */
function blend(count: number, first = 0): LoadedAdapter {
  const parts = Array.from({ length: count }, (_, index) => lora[(first + index) % lora.length] as LoadedAdapter);
  const weighted = parts.map((adapter) => ({ adapter, weight: 1 / count }));
  const refs = weighted.map(({ adapter, weight }) => ({ ref: { ...adapter, folder: '' }, weight }));
  return mixAdapters(blendRef('blend', refs), weighted);
}
const blends = new Map([2, 4, 8].map((count) => [count, blend(count)]));
const pairs = lora.map((_, first) => blend(2, first));

/** Milliseconds of one step. */
async function step(count: number, adapterOf: (row: number) => LoadedAdapter | null): Promise<number> {
  const rows = Array.from({ length: count }, (_, row) => ({ adapter: adapterOf(row), tokenId: 5, length: 60 }));
  const startMs = performance.now();
  await decoder.decode(rows);
  return performance.now() - startMs;
}

const mixes: readonly (readonly [string, (row: number) => LoadedAdapter | null])[] = [
  ['base', () => null],
  ['1 adapter', () => lora[0] ?? null],
  ['2', (row) => lora[row % 2] ?? null],
  ['4', (row) => lora[row % 4] ?? null],
  ['8', (row) => lora[row % 8] ?? null],
  ['one a row', (row) => lora[row] ?? null],
  ['IA3, one a row', (row) => ia3[row] ?? null],
  ['a blend of 2', () => blends.get(2) ?? null],
  ['of 4', () => blends.get(4) ?? null],
  ['of 8', () => blends.get(8) ?? null],
  ['a blend of 2 a row', (row) => pairs[row] ?? null],
];

console.log(`${model}, rank up to ${rank}, ${threads} threads: median ms a step, and its ratio to base`);
for (const count of ROWS) {
  const times = new Map<string, number[]>(mixes.map(([name]) => [name, []]));
  // Blocks in turn, so that a change of the machine's speed meets all of them; the first step of a block lays out the bank and is not counted.
  const BLOCK = 10;
  for (let done = 0; done < Number(steps); done += BLOCK) {
    for (const [name, adapterOf] of mixes) {
      await step(count, adapterOf);
      for (let index = 0; index < BLOCK; index++) times.get(name)?.push(await step(count, adapterOf));
    }
  }
  const median = (name: string): number => times.get(name)?.sort((a, b) => a - b)[Math.floor(Number(steps) / 2)] ?? Number.NaN;
  const base = median('base');
  const cells = mixes.map(([name]) => `${name} ${median(name).toFixed(2)} (${(median(name) / base).toFixed(2)})`);
  console.log(`${String(count).padStart(2)} rows: ${cells.join(' · ')}`);
}
await decoder.close();
