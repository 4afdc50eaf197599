/** What adapters say of pictures that nobody trained on, judged: through the engine that serves, so it is what requests will get. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Captioner } from '../../src/cli/captioner.js';
import type { Scene } from '../../src/scenes/world.js';
import { type Aspect, rowOf, type Task } from './captions.js';
import { sceneAt, writeScenes } from './folder.js';
import { judge } from './judge.js';

/** Captions at once: as many as a busy server has. */
const BATCH = 32;
/** The longest caption of any task has some sixty tokens. */
const MAX_TOKENS = 96;

export class Examination {
  readonly scenes: readonly Scene[];
  readonly #folder: string;
  readonly #threads: number;
  readonly #images: readonly string[];

  private constructor(folder: string, images: readonly string[], scenes: readonly Scene[], threads: number) {
    this.#folder = folder;
    this.#images = images;
    this.scenes = scenes;
    this.#threads = threads;
  }

  /** Draws the pictures into a temporary folder, which `close` removes. */
  static async draw(
    options: { readonly count: number; readonly seed: number; readonly size: number; readonly threads: number },
    done: (pictures: number) => void,
  ): Promise<Examination> {
    const { count, seed, threads } = options;
    const folder = await mkdtemp(join(tmpdir(), 'graft-scenes-'));
    const out = join(folder, 'scenes');
    try {
      await writeScenes({ ...options, out, tasks: [] }, done);
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
    const rows = (await readFile(join(out, 'scenes.jsonl'), 'utf8')).trimEnd().split('\n');
    const images = rows.map((row) => join(out, (JSON.parse(row) as { image: string }).image));
    const scenes = Array.from({ length: count }, (_, index) => sceneAt(seed, index));
    return new Examination(folder, images, scenes, threads);
  }

  /** Captions of all pictures, greedily; of the bare backbone, which sees none of them, where `adapter` is null. */
  async captions(backbone: string, adapter: string | null, done?: (captions: number) => void): Promise<string[]> {
    const captioner = await Captioner.open({ backbone, adapter, threads: this.#threads, batch: BATCH, maxTokens: MAX_TOKENS });
    try {
      return await captioner.caption(adapter === null ? this.scenes.map(() => new Float32Array(0)) : this.#images, done);
    } finally {
      await captioner.close();
    }
  }

  /** How well captions do as those of a task. */
  mark(task: Task, captions: readonly string[]): Marks {
    const judgements = captions.map((caption, index) => judge(task, caption, this.scenes[index] as Scene));
    const share = (isGood: (judgement: (typeof judgements)[number]) => boolean): number =>
      judgements.filter(isGood).length / judgements.length;
    const { aspects } = rowOf(task);
    return {
      ...Object.fromEntries(aspects.map((aspect) => [aspect, share((judgement) => judgement[aspect] === true)])),
      all: share((judgement) => aspects.every((aspect) => judgement[aspect] === true)),
    };
  }

  async close(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** The share of captions that get an aspect right in everything they say and leave nothing out; `all` for those without any fault. */
export type Marks = Readonly<Partial<Record<Aspect | 'all', number>>>;

const COLUMNS = ['objects', 'colours', 'counts', 'sizes', 'relations', 'background', 'words', 'all'] as const;

/** A table in Markdown: percentages, and a dash for what a task does not ask. */
export function table(rows: readonly { readonly name: string; readonly marks: Marks }[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(['', ...COLUMNS]),
    line(['---', ...COLUMNS.map(() => '---:')]),
    ...rows.map(({ name, marks }) =>
      line([name, ...COLUMNS.map((column) => (marks[column] === undefined ? '' : (100 * marks[column]).toFixed(1)))]),
    ),
  ].join('\n');
}
