/**
 * The run's log: JSON, a line a step and a line an evaluation. It is what the report draws, and what people feed to their own tools. A run that
 * resumes cuts it back to its checkpoint, so that no step stands there twice.
 */
import { type FileHandle, mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isAbsent } from '../adapter/file.js';
import { syncFolder } from '../tensor/folder.js';

export interface StepLine {
  readonly step: number;
  /** Nats a token. */
  readonly loss: number;
  readonly learning_rate: number;
  /** Length of the gradient before clipping. */
  readonly gradient_norm: number;
  readonly tokens: number;
  readonly tokens_per_second: number;
}

export interface EvaluationLine {
  readonly step: number;
  readonly validation_loss: number;
  readonly validation_perplexity: number;
}

export type LogLine = StepLine | EvaluationLine;

export class RunLog {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Opens the log behind the last line of `step`; lines of later steps, and a half-written last one, are dropped. */
  static async open(path: string, step: number): Promise<RunLog> {
    await mkdir(dirname(path), { recursive: true });
    const kept = (await readLog(path)).filter((line) => line.step <= step);
    const temporary = `${path}.tmp`;
    const file = await open(temporary, 'w');
    await file.writeFile(kept.map((line) => `${JSON.stringify(line)}\n`).join(''));
    await file.sync();
    await rename(temporary, path);
    await syncFolder(dirname(path));
    return new RunLog(file);
  }

  async write(line: LogLine): Promise<void> {
    await this.#file.writeFile(`${JSON.stringify(line)}\n`);
  }

  /** Before a checkpoint is: the log must not know less than it. */
  async sync(): Promise<void> {
    await this.#file.sync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/** The lines of a log; none where there is no file. A last line that was cut short is left out, and so is what is no line of ours. */
export async function readLog(path: string): Promise<LogLine[]> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (isAbsent(error)) return '';
    throw error;
  });
  return text
    .split('\n')
    .slice(0, -1)
    .flatMap((line) => {
      try {
        const value = JSON.parse(line) as LogLine | null;
        return Number.isInteger(value?.step) ? [value as LogLine] : [];
      } catch {
        return [];
      }
    });
}
