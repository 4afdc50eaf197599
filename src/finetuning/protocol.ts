/** What the trainer's process is told, and what it tells. */
import type { ErrorData } from '../errors.js';
import type { GraftOptions } from './job.js';

/** A run, ready to be trained. All paths are absolute. */
export interface TrainingTask {
  readonly backbone: string;
  /** The job's own folder: all that it writes is in it. */
  readonly folder: string;
  readonly training: string;
  readonly validation: string | null;
  readonly maxImageBytes: number;
  readonly maxImagePixels: number;
  readonly prompt: string;
  /** Folder of the adapter that it begins with. */
  readonly from: string | null;
  /** Folder of the adapter that comes out. */
  readonly out: string;
  readonly graft: GraftOptions;
  readonly steps: number;
  readonly batch: number;
  readonly rateMultiplier: number;
  readonly seed: number;
  readonly threads: number;
}

export interface TrainCommand {
  readonly type: 'train';
  readonly task: TrainingTask;
}

/** Ends the step that is under way, writes a checkpoint, and says `stopped`. */
export interface StopCommand {
  readonly type: 'stop';
}

/** A step's loss, or an evaluation's. */
export type PastLine =
  | { readonly step: number; readonly loss: number; readonly learningRate: number }
  | { readonly step: number; readonly validationLoss: number };

export type TrainerEvent =
  | { readonly type: 'ready' }
  | {
      readonly type: 'prepared';
      readonly captions: number;
      readonly heldOut: number;
      readonly parameters: number;
      readonly bad: readonly string[];
    }
  /** `past`: the last that was done before, of which the server that ended may not have heard all. */
  | { readonly type: 'resumed'; readonly step: number; readonly past: readonly PastLine[] }
  | {
      readonly type: 'step';
      readonly step: number;
      readonly loss: number;
      readonly learningRate: number;
      readonly secondsLeft: number;
    }
  | { readonly type: 'evaluation'; readonly step: number; readonly loss: number; readonly isBest: boolean }
  /** The adapter is complete in its folder. */
  | { readonly type: 'finished'; readonly tokens: number }
  | { readonly type: 'failed'; readonly error: ErrorData }
  | { readonly type: 'stopped' };
