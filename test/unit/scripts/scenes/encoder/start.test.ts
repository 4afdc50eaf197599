/** How the encoder begins: of what is in a patch it sees much, evenly, and no two places look alike. */
import { describe, expect, it } from 'vitest';
import { Pictures } from '../../../../../scripts/scenes/encoder/pictures.js';
import { startOf, wavesOf } from '../../../../../scripts/scenes/encoder/start.js';

const PATCHES = 'embeddings.patch_embeddings.projection.weight';
const POSITIONS = 'embeddings.position_embeddings';
const [CHANNELS, SIZE, GRID] = [128, 16, 8];

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((sum, value, at) => sum + value * (b[at] ?? Number.NaN), 0);

describe('patches', () => {
  const waves = wavesOf(PATCHES, [CHANNELS, 3, SIZE, SIZE]);
  const waveOf = (channel: number): Float32Array => waves.subarray(channel * 3 * SIZE * SIZE, (channel + 1) * 3 * SIZE * SIZE);

  it('are seen by waves of which none holds a part of another', () => {
    for (let one = 0; one < CHANNELS; one += 5)
      for (let other = 0; other < one; other += 3) {
        const lengths = Math.sqrt(dot(waveOf(one), waveOf(one)) * dot(waveOf(other), waveOf(other)));
        expect(Math.abs(dot(waveOf(one), waveOf(other)) / lengths)).toBeLessThan(1e-5);
      }
  });

  it('of drawn pictures are about as different in every wave', async () => {
    const pictures = await Pictures.draw({ seed: 4, count: 40, edge: GRID * SIZE, grid: GRID }, () => undefined);
    const { images, pixels } = pictures.batch(
      Array.from({ length: 40 }, (_, index) => index),
      () => false,
    );
    const edge = GRID * SIZE;
    const squares = new Float64Array(CHANNELS);
    let count = 0;
    for (let image = 0; image < images; image++)
      for (let cell = image % 7; cell < GRID ** 2; cell += 7) {
        count++;
        const patch = Array.from({ length: 3 * SIZE * SIZE }, (_, at) => {
          const [colour, y, x] = [Math.floor(at / SIZE ** 2), Math.floor(at / SIZE) % SIZE, at % SIZE];
          const [row, column] = [Math.floor(cell / GRID) * SIZE + y, (cell % GRID) * SIZE + x];
          return ((pixels[((image * edge + row) * edge + column) * 3 + colour] ?? Number.NaN) / 255 - 0.5) / 0.25;
        });
        for (let channel = 0; channel < CHANNELS; channel++)
          squares[channel] = (squares[channel] ?? 0) + dot(waveOf(channel), patch) ** 2;
      }
    for (const square of squares) {
      expect(Math.sqrt(square / count)).toBeGreaterThan(0.2);
      expect(Math.sqrt(square / count)).toBeLessThan(5);
    }
  });

  it('begin at random where a patch has fewer waves than there are channels', () => {
    expect(startOf(PATCHES, [96, 3, 4, 4])).toEqual({ kind: 'normal', deviation: Math.sqrt(1 / 48) });
    expect(startOf(PATCHES, [48, 3, 4, 4])).toEqual({ kind: 'weight', name: PATCHES });
  });
});

describe('positions', () => {
  const tokens = 1 + GRID ** 2;
  const positions = wavesOf(POSITIONS, [1, tokens, CHANNELS]);
  const positionOf = (row: number, column: number): Float32Array => {
    const token = 1 + row * GRID + column;
    return positions.subarray(token * CHANNELS, (token + 1) * CHANNELS);
  };

  it('are alike the nearer they are, along rows and along columns', () => {
    const here = positionOf(3, 3);
    const near = [positionOf(3, 4), positionOf(2, 3)].map((place) => dot(here, place));
    const far = [positionOf(3, 6), positionOf(6, 3), positionOf(6, 6)].map((place) => dot(here, place));
    expect(dot(here, here)).toBeCloseTo(CHANNELS / 2, 4);
    expect(Math.max(...near)).toBeLessThan(dot(here, here));
    expect(Math.min(...near)).toBeGreaterThan(Math.max(...far));
  });

  it('say nothing of the class token', () => {
    expect(positions.subarray(0, CHANNELS).every((value) => value === 0)).toBe(true);
  });
});
