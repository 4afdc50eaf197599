/**
 * Text for the decoder, which never sees a picture: what can be said of scenes, in every way that there is. Most documents say several things
 * of one scene, so that whoever predicts the second must have read the first: that is all that a frozen decoder will be asked to do later,
 * with a picture in the place of the first.
 */
import { pick, type Random, weighted } from '../../src/scenes/dice.js';
import { drawScene } from '../../src/scenes/scene.js';
import type { Scene } from '../../src/scenes/world.js';
import { stream } from '../../src/training/random.js';
import { rowOf, TASK_NAMES } from './captions.js';

/** Documents of one scene: finding room for things takes longer than speaking of them. */
const PER_SCENE = 4;

/** The documents of a scene; the same for the same seed for ever. */
export function documentsOf(seed: number, index: number): string[] {
  const random: Random = stream(seed, 'documents', index);
  const scene = drawScene(random);
  return Array.from({ length: PER_SCENE }, () => documentOf(scene, random));
}

function documentOf(scene: Scene, random: Random): string {
  const parts = weighted(random, [1, 2, 3], [0.1, 0.4, 0.5]);
  return Array.from({ length: parts }, () => rowOf(pick(random, TASK_NAMES)).write(scene, random)).join('\n');
}
