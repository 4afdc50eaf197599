/** Pictures to learn from, in memory: drawn once, looked at many times, each also in a mirror. */
import sharp from 'sharp';
import { drawScene } from '../../../src/scenes/scene.js';
import { stream } from '../../../src/training/random.js';
import { takePicture } from '../picture.js';
import { type Answers, answersFor, mirrored, QUESTION_NAMES, type Question } from './cells.js';

export interface PictureBatch {
  readonly images: number;
  /** [images, edge, edge, 3] */
  readonly pixels: Uint8Array;
  /** [images · cells] */
  readonly answers: Readonly<Record<Question, BigInt64Array>>;
}

/** All of them lie in two arrays: as nearly two million small ones they would be 490 MB of objects for every garbage collection to walk past. */
export class Pictures {
  readonly #edge: number;
  readonly #cells: number;
  /** [count, edge, edge, 3] */
  readonly #pixels: Uint8Array;
  /** [count, 2: as it is and in a mirror, questions, cells] */
  readonly #answers: Uint8Array;
  readonly count: number;

  private constructor(count: number, edge: number, grid: number) {
    this.count = count;
    this.#edge = edge;
    this.#cells = grid ** 2;
    this.#pixels = new Uint8Array(count * edge * edge * 3);
    this.#answers = new Uint8Array(count * 2 * QUESTION_NAMES.length * this.#cells);
  }

  static async draw(
    { seed, count, edge, grid }: { seed: number; count: number; edge: number; grid: number },
    done: (pictures: number) => void,
  ): Promise<Pictures> {
    sharp.concurrency(1);
    const pictures = new Pictures(count, edge, grid);
    // One after another, which is one core: the decoder learns with the other one meanwhile.
    for (let index = 0; index < count; index++) {
      const scene = drawScene(stream(seed, 'scene', index));
      const { jpeg, view } = await takePicture(scene, stream(seed, 'picture', index), edge);
      pictures.#raster(index).set(await sharp(jpeg).raw().toBuffer());
      const mirror = mirrored(scene, view);
      pictures.#answer(index, false, answersFor(scene, view, grid));
      pictures.#answer(index, true, answersFor(mirror.scene, mirror.view, grid));
      done(index + 1);
    }
    return pictures;
  }

  /** Of each index its picture, in a mirror where `isMirrored` says so. */
  batch(indexes: ArrayLike<number>, isMirrored: (index: number) => boolean): PictureBatch {
    const images = indexes.length;
    const [edge, cells] = [this.#edge, this.#cells];
    const pixels = new Uint8Array(images * edge * edge * 3);
    const answers = Object.fromEntries(QUESTION_NAMES.map((name) => [name, new BigInt64Array(images * cells)])) as Record<
      Question,
      BigInt64Array
    >;
    for (let at = 0; at < images; at++) {
      const index = indexes[at] as number;
      const isFlipped = isMirrored(index);
      for (const [question, name] of QUESTION_NAMES.entries())
        widen(this.#cellsOf(index, isFlipped, question), answers[name].subarray(at * cells, (at + 1) * cells));
      const raster = pixels.subarray(at * edge * edge * 3);
      if (isFlipped) mirror(this.#raster(index), raster, edge);
      else raster.set(this.#raster(index));
    }
    return { images, pixels, answers };
  }

  #raster(index: number): Uint8Array {
    const size = this.#edge ** 2 * 3;
    return this.#pixels.subarray(index * size, (index + 1) * size);
  }

  #answer(index: number, isFlipped: boolean, answers: Answers): void {
    for (const [question, name] of QUESTION_NAMES.entries()) this.#cellsOf(index, isFlipped, question).set(answers[name]);
  }

  #cellsOf(index: number, isFlipped: boolean, question: number): Uint8Array {
    const row = (2 * index + Number(isFlipped)) * QUESTION_NAMES.length + question;
    return this.#answers.subarray(row * this.#cells, (row + 1) * this.#cells);
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
