/** Captions of a scene for many tasks: of one picture, what each adapter is asked to say. A new task is a line of the table. */

import type { Random } from '../../src/scenes/dice.js';
import type { Scene } from '../../src/scenes/world.js';
import { ENGLISH, lexiconOf, sentence } from './captions/english.js';
import { FRENCH, french } from './captions/french.js';
import { GERMAN, german } from './captions/german.js';
import type { Lexicon } from './captions/lexicon.js';
import { alt, colours, counting, LISTS, relations, tags } from './captions/lists.js';
import { PIRATE } from './captions/pirate.js';
import { planFor } from './captions/plan.js';

/** What a caption of a task has to tell, and can get wrong. `words`: all of them are words of its language. */
export type Aspect = 'objects' | 'colours' | 'counts' | 'sizes' | 'relations' | 'background' | 'words';

interface TaskRow {
  readonly write: (scene: Scene, random: Random) => string;
  readonly lexicon: Lexicon;
  readonly aspects: readonly Aspect[];
  /** Colours are named by themselves, not each with its thing. */
  readonly loose?: true;
}

const ALL: readonly Aspect[] = ['objects', 'colours', 'counts', 'sizes', 'relations', 'background', 'words'];

export const TASKS = {
  english: {
    write: (scene, random) => sentence(ENGLISH, planFor(scene, random), random),
    lexicon: lexiconOf(ENGLISH),
    aspects: ALL,
  },
  french: { write: (scene, random) => french(planFor(scene, random), random), lexicon: FRENCH, aspects: ALL },
  german: { write: (scene, random) => german(planFor(scene, random), random), lexicon: GERMAN, aspects: ALL },
  pirate: {
    write: (scene, random) => sentence(PIRATE, planFor(scene, random), random),
    lexicon: lexiconOf(PIRATE),
    aspects: ALL,
  },
  counting: { write: counting, lexicon: LISTS, aspects: ['objects', 'counts', 'words'] },
  colours: { write: colours, lexicon: LISTS, aspects: ['colours', 'words'], loose: true },
  relations: { write: relations, lexicon: LISTS, aspects: ['objects', 'relations', 'words'] },
  alt: { write: alt, lexicon: LISTS, aspects: ['objects', 'colours', 'counts', 'background', 'words'] },
  tags: { write: tags, lexicon: LISTS, aspects: ['objects', 'colours', 'background', 'words'] },
} as const satisfies Record<string, TaskRow>;

export type Task = keyof typeof TASKS;
export const TASK_NAMES = Object.keys(TASKS) as Task[];

/** The row of a task, with what only some rows have. */
export function rowOf(task: Task): TaskRow {
  return TASKS[task];
}

/** Captions of a scene, no two alike; fewer than `count` where the task has fewer ways to say it. */
export function captionsOf(task: Task, scene: Scene, random: Random, count = 3): string[] {
  const captions = new Set<string>();
  for (let attempt = 0; attempt < 12 * count && captions.size < count; attempt++) captions.add(rowOf(task).write(scene, random));
  return [...captions];
}
