/** What adapters say of pictures that nobody trained on, judged: through the engine that serves, so it is what requests will get. */
import { join } from 'node:path';
import { Captioner } from '../../src/cli/captioner.js';
import type { Scene } from '../../src/scenes/world.js';
import { type Aspect, rowOf, type Task } from './captions.js';
import { judge } from './judge.js';

/** Pictures with their truth. */
export interface Examination {
  readonly backbone: string;
  readonly images: readonly string[];
  readonly scenes: readonly Scene[];
  readonly threads: number;
}

/** Captions at once: as many as a busy server has. */
const BATCH = 32;
/** The longest caption of any task has some sixty tokens. */
const MAX_TOKENS = 96;

/** Captions of all pictures, greedily; of the bare backbone, which sees none of them, where `adapter` is null. */
export async function captionAll(
  { backbone, images, threads }: Examination,
  adapter: string | null,
  onProgress?: (done: number) => void,
): Promise<string[]> {
  const captioner = await Captioner.open({ backbone, adapter, threads, batch: BATCH, maxTokens: MAX_TOKENS });
  try {
    return await captioner.caption(adapter === null ? images.map(() => new Float32Array(0)) : images, onProgress);
  } finally {
    await captioner.close();
  }
}

/** The share of captions that get an aspect right in everything they say and leave nothing out; `all` for those without any fault. */
export type Marks = Readonly<Partial<Record<Aspect | 'all', number>>>;

export function mark(task: Task, captions: readonly string[], scenes: readonly Scene[]): Marks {
  const judgements = captions.map((caption, index) => judge(task, caption, scenes[index] as Scene));
  const share = (isGood: (judgement: (typeof judgements)[number]) => boolean): number =>
    judgements.filter(isGood).length / judgements.length;
  const { aspects } = rowOf(task);
  return {
    ...Object.fromEntries(aspects.map((aspect) => [aspect, share((judgement) => judgement[aspect] === true)])),
    all: share((judgement) => aspects.every((aspect) => judgement[aspect] === true)),
  };
}

/** Where an adapter of a task lies. */
export function adapterOf(folder: string, task: Task): string {
  return join(folder, task);
}
