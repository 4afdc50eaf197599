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
      for (const name of QUESTION_NAMES) answers[name].set(BigInt64Array.from(right[name], BigInt), at * cells);
      const raster = pixels.subarray(at * edge * edge * 3);
      if (isFlipped) mirror(example.pixels, raster, edge);
      else raster.set(example.pixels);
    }
    return { images, pixels, answers };
  }
}

function mirror(from: Uint8Array, to: Uint8Array, edge: number): void {
  for (let y = 0; y < edge; y++)
    for (let x = 0; x < edge; x++)
      for (let channel = 0; channel < 3; channel++)
        to[(y * edge + x) * 3 + channel] = from[(y * edge + edge - 1 - x) * 3 + channel] as number;
}
