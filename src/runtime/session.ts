/**
 * The only door to onnxruntime. A session is built from model bytes in memory; its large weights stay in the checkpoint's own files, which
 * onnxruntime maps. A run takes and gives plain `Tensor`s of the runtime, whose data are ordinary typed arrays: where an output is
 * given a tensor of the caller's, the result is written into it (the key/value cache is appended in place that way).
 *
 * A run blocks its thread until it is done. Sessions therefore live in the engine process, or in a tool that has nothing else to do.
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';

export { Tensor };

export interface SessionOptions {
  /** Folder that external weights are relative to; null where the model carries everything. */
  readonly folder: string | null;
  readonly threads: number;
  /**
   * For long runs of many rows and changing shapes. Weights stay as they lie in the file, mapped, where each would be copied into the layout
   * of the fastest product: runs of few rows then take up to twice as long, runs of hundreds hardly longer. And memory is not planned by
   * shape: every plan stays allocated, which nearly doubled a training step's peak. No by default.
   */
  readonly training?: boolean;
  /** Threads wait for work without sleep, which saves a few hundredths, where no other session wants the cores. No by default. */
  readonly spinning?: boolean;
  /** Beginning of the name of the file that tells how long each operator took, written when the session closes. None by default. */
  readonly profile?: string;
}

/** By output name: a tensor to write into, or null for a fresh one. */
export type Fetches = Readonly<Record<string, Tensor | null>>;

export class Session {
  readonly #session: InferenceSession;
  readonly #profiled: boolean;

  private constructor(session: InferenceSession, profiled: boolean) {
    this.#session = session;
    this.#profiled = profiled;
  }

  static async open(model: Uint8Array, options: SessionOptions): Promise<Session> {
    const { training = false, spinning = false } = options;
    const session = await InferenceSession.create(model, {
      intraOpNumThreads: options.threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      enableMemPattern: !training,
      logSeverityLevel: 3,
      ...(options.profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: options.profile }),
      extra: {
        session: {
          ...(options.folder === null ? {} : { model_external_initializers_file_folder_path: options.folder }),
          // Every session has threads of its own. Left spinning after a run, those of one session take the cores from the next one's.
          intra_op: { allow_spinning: spinning ? '1' : '0' },
          ...(training ? { disable_prepacking: '1' } : {}),
        },
      },
    });
    return new Session(session, options.profile !== undefined);
  }

  run(feeds: Readonly<Record<string, Tensor>>, fetches: Fetches): Promise<Readonly<Record<string, Tensor>>> {
    return this.#session.run(feeds, fetches);
  }

  async close(): Promise<void> {
    if (this.#profiled) this.#session.endProfiling();
    await this.#session.release();
  }
}

export function float32(data: Float32Array, shape: readonly number[]): Tensor {
  return new Tensor('float32', data, shape);
}

/** Bits of float16. */
export function float16(data: Uint16Array, shape: readonly number[]): Tensor {
  return new Tensor('float16', data, shape);
}

export function int32(data: Int32Array, shape: readonly number[]): Tensor {
  return new Tensor('int32', data, shape);
}

export function int64(data: BigInt64Array, shape: readonly number[]): Tensor {
  return new Tensor('int64', data, shape);
}

/** One byte an element, 0 or 1. */
export function bool(data: Uint8Array, shape: readonly number[]): Tensor {
  return new Tensor('bool', data, shape);
}

export function uint8(data: Uint8Array, shape: readonly number[]): Tensor {
  return new Tensor('uint8', data, shape);
}
