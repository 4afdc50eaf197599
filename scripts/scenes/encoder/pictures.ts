/** Pictures to learn from, in memory: drawn once, looked at many times, each also in a mirror. */
import sharp from 'sharp';
import { drawScene } from '../../../src/scenes/scene.js';
import { stream } from '../../../src/training/random.js';
import { takePicture } from '../picture.js';
import { type Answers, answersFor, mirrored, QUESTION_NAMES, type Question } from './cells.js';

interface Example {
  /** [edge, edge, 3] */
  readonly pixels: Uint8Array;
  readonly answers: Answers;
  /** To the picture in a mirror. */
  readonly mirrored: Answers;
}

export interface PictureBatch {
  readonly images: number;
  /** [images, edge, edge, 3] */
  readonly pixels: Uint8Array;
  /** [images · cells] */
  readonly answers: Readonly<Record<Question, BigInt64Array>>;
}

export class Pictures {
  readonly #examples: readonly Example[];
  readonly #edge: number;
  readonly #grid: number;

  private constructor(examples: readonly Example[], edge: number, grid: number) {
    this.#examples = examples;
    this.#edge = edge;
    this.#grid = grid;
  }

  static async draw(
    { seed, count, edge, grid }: { seed: number; count: number; edge: number; grid: number },
    done: (pictures: number) => void,
  ): Promise<Pictures> {
    sharp.concurrency(1);
    const examples: Example[] = [];
    // One after another, which is one core: the decoder learns with the other one meanwhile.
    for (let index = 0; index < count; index++) {
      const scene = drawScene(stream(seed, 'scene', index));
      const { jpeg, view } = await takePicture(scene, stream(seed, 'picture', index), edge);
      const pixels = await sharp(jpeg).raw().toBuffer();
      const mirror = mirrored(scene, view);
      examples.push({
        pixels,
        answers: answersFor(scene, view, grid),
        mirrored: answersFor(mirror.scene, mirror.view, grid),
      });
      done(index + 1);
    }
    return new Pictures(examples, edge, grid);
  }

  get count(): number {
    return this.#examples.length;
  }

  /** Of each index its picture, in a mirror where `isMirrored` says so. */
  batch(indexes: ArrayLike<number>, isMirrored: (index: number) => boolean): PictureBatch {
    const images = indexes.length;
    const [edge, cells] = [this.#edge, this.#grid ** 2];
    const pixels = new Uint8Array(images * edge * edge * 3);
    const answers = Object.fromEntries(QUESTION_NAMES.map((name) => [name, new BigInt64Array(images * cells)])) as Record<
      Question,
      BigInt64Array
    >;
    for (let at = 0; at < images; at++) {
      const example = this.#examples[indexes[at] as number] as Example;
      const isFlipped = isMirrored(indexes[at] as number);
      const right = isFlipped ? example.mirrored : example.answers;
      for (const name of QUESTION_NAMES) widen(right[name], answers[name].subarray(at * cells, (at + 1) * cells));
      const raster = pixels.subarray(at * edge * edge * 3);
      if (isFlipped) mirror(example.pixels, raster, edge);
      else raster.set(example.pixels);
    }
    return { images, pixels, answers };
  }
}

/** Small numbers into places for large ones, which are zero: a BigInt for each would take longer than all else here. */
function widen(from: Uint8Array, to: BigInt64Array): void {
  const halves = new Uint32Array(to.buffer, to.byteOffset, 2 * to.length);
  for (let at = 0; at < from.length; at++) halves[2 * at + LOW] = from[at] as number;
}

/** Which half of 64 bits comes first is the machine's. */
const LOW = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1 ? 0 : 1;

function mirror(from: Uint8Array, to: Uint8Array, edge: number): void {
  for (let row = 0; row < 3 * edge * edge; row += 3 * edge) {
    for (let at = row, other = row + 3 * (edge - 1); other >= row; at += 3, other -= 3) {
      to[at] = from[other] as number;
      to[at + 1] = from[other + 1] as number;
      to[at + 2] = from[other + 2] as number;
    }
  }
}
