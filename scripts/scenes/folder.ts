/** A folder of scenes on disk: pictures, a file of captions a task, and the truth. It appears whole or not at all. */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { isAbsent } from '../../src/adapter/file.js';
import { AppError } from '../../src/errors.js';
import { drawScene } from '../../src/scenes/scene.js';
import type { Scene } from '../../src/scenes/world.js';
import { mapConcurrent } from '../../src/tensor/concurrent.js';
import { publishFolder } from '../../src/tensor/folder.js';
import { stream } from '../../src/training/random.js';
import { captionsOf, type Task } from './captions.js';
import { takePicture } from './picture.js';

export interface FolderOptions {
  readonly out: string;
  readonly count: number;
  readonly seed: number;
  readonly tasks: readonly Task[];
  /** Pixels an edge. */
  readonly size: number;
}

/** Pictures under way at once: enough to keep the threads that draw and compress busy. */
const CONCURRENT = 8;

/** The scene of a number. The first ones of a larger folder are those of a smaller one. */
export function sceneAt(seed: number, index: number): Scene {
  return drawScene(stream(seed, 'scene', index));
}

/** Writes the folder; `done` hears of every picture. Throws AppError `invalid_config` where there is something in the place already. */
export async function writeScenes(
  { out, count, seed, tasks, size }: FolderOptions,
  done: (pictures: number) => void,
): Promise<void> {
  if (!(await isFree(out)))
    throw new AppError('invalid_config', `Expected ${out} to be a new or an empty folder but received one with files`);
  // Every picture is small: one thread each is faster than many for one.
  sharp.concurrency(1);
  const scenes = Array.from({ length: count }, (_, index) => sceneAt(seed, index));
  const images = scenes.map((_, index) => `images/${String(index).padStart(String(count - 1).length, '0')}.jpg`);
  await publishFolder(out, async (folder) => {
    await mkdir(join(folder, 'images'));
    let finished = 0;
    await mapConcurrent([...scenes.entries()], CONCURRENT, async ([index, scene]) => {
      await writeFile(
        join(folder, images[index] as string),
        (await takePicture(scene, stream(seed, 'picture', index), size)).jpeg,
      );
      done(++finished);
    });
    const lines = (row: (scene: Scene, index: number) => object): string =>
      scenes.map((scene, index) => `${JSON.stringify({ image: images[index], ...row(scene, index) })}\n`).join('');
    for (const task of tasks)
      await writeFile(
        join(folder, `${task}.jsonl`),
        lines((scene, index) => ({ captions: captionsOf(task, scene, stream(seed, task, index)) })),
      );
    await writeFile(
      join(folder, 'scenes.jsonl'),
      lines((scene) => ({ scene })),
    );
  });
}

async function isFree(folder: string): Promise<boolean> {
  try {
    return (await readdir(folder)).length === 0;
  } catch (error) {
    if (isAbsent(error)) return true;
    throw error;
  }
}
