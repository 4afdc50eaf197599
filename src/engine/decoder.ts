/**
 * The language model at work: runs the program over rows of the key/value cache and gives logits.
 * It knows rows, tokens and adapters, not requests: what a row belongs to, and what is drawn from its logits, is batch.ts.
 */
import type { LoadedAdapter } from '../adapter/adapter.js';
import type { BackboneDescription } from '../backbone/backbone.js';
import { float32, int32, int64, Session, type Tensor } from '../runtime/session.js';
import { Bank } from './bank.js';
import { KvCache } from './kv.js';
import { type BankShape, names, openProgram, type Variant } from './program.js';
import type { Precision } from './weights.js';

/**
 * Up to so many, a second copy of the weights for a program without a bank is worth its memory (base rows run a third faster on a tiny model).
 * It is 256 MB in float32; who asks for fewer bits wants memory.
 */
const MAX_LEAN_PARAMETERS = 64 * 1024 * 1024;

export interface DecoderOptions {
  readonly threads: number;
  /** Rows that can run at once. */
  readonly rows: number;
  /** Tokens a row can hold. */
  readonly maxLength: number;
  /** In what the weights are multiplied; float32 by default. */
  readonly weights?: Precision;
  /** Folder that keeps weights of other precisions, which cannot be without it. */
  readonly weightsCache?: string;
}

/** A row that starts: BOS, the image's embeddings, then the rest of the prompt. */
export interface PrefillRow {
  readonly adapter: LoadedAdapter | null;
  readonly promptIds: readonly number[];
  readonly imageEmbeddings: Float32Array | null; // [imageTokens, hiddenSize]
}

/** A row that goes on by one token. */
export interface DecodeRow {
  readonly adapter: LoadedAdapter | null;
  readonly tokenId: number;
  /** Tokens already in the row's cache. */
  readonly length: number;
}

interface Run {
  readonly firstRow: number;
  readonly adapters: readonly (LoadedAdapter | null)[];
  readonly tokens: number;
  readonly ids: BigInt64Array; // [rows, tokens]
  /** Length of each row before the run and after it. */
  readonly starts: readonly number[];
  readonly lengths: readonly number[];
  /** Rows of the cache that hold something before the run. */
  readonly keep: number;
  readonly imageEmbeddings: Float32Array; // [n, hiddenSize]
  readonly imagePositions: BigInt64Array; // [n, 2]
  /** [row, token] of every logit row that is wanted. */
  readonly logitPositions: BigInt64Array; // [m, 2]
  readonly contexts: readonly string[];
  readonly gateKey: string;
  readonly contextOf: (row: number, token: number) => string;
}

const DECODE_CONTEXTS = ['text'];

export class Decoder {
  readonly #backbone: BackboneDescription;
  readonly #options: DecoderOptions;
  readonly #sessions = new Map<Variant, Promise<Session>>();
  readonly kv: KvCache;
  readonly #prefillBank: Bank;
  readonly #decodeBank: Bank;

  private constructor(backbone: BackboneDescription, options: DecoderOptions, bank: BankShape) {
    const { layerCount: layers, kvHeads, headDim } = backbone.language;
    this.#backbone = backbone;
    this.#options = options;
    this.#prefillBank = new Bank(bank);
    this.#decodeBank = new Bank(bank);
    this.kv = new KvCache({ layers, kvHeads, headDim, maxLength: options.maxLength, rows: options.rows });
  }

  /** Builds the program that LoRA and BitFit need; the others follow when a batch first needs them. */
  static async open(backbone: BackboneDescription, options: DecoderOptions): Promise<Decoder> {
    const { session, bank } = await openSession(backbone, 'rank', options);
    const decoder = new Decoder(backbone, options, bank);
    decoder.#sessions.set('rank', Promise.resolve(session));
    return decoder;
  }

  /** Opens the program that rows of this adapter need, so that a failure is theirs alone and not that of the batch which they join. */
  async prepare(adapter: LoadedAdapter | null): Promise<void> {
    if (adapter?.groups.some(({ scales }) => scales.size > 0)) await this.#session('scale');
  }

  /** Fills rows firstRow ... with their prompts; logits of each row's last token. */
  async prefill(firstRow: number, rows: readonly PrefillRow[]): Promise<Float32Array[]> {
    const lengths = rows.map((row) => this.#lengthOf(row));
    const logits = await this.#prefill(
      firstRow,
      rows,
      lengths.map((length, row) => [row, length - 1]),
    );
    return this.#split(logits, rows.length);
  }

  /** Logits [n, vocabSize] of every position of each row from `first` on, row after row: for scoring and tests. */
  score(rows: readonly PrefillRow[], first = 0): Promise<Float32Array> {
    return this.#prefill(
      0,
      rows,
      rows.flatMap((prompt, row) =>
        Array.from({ length: this.#lengthOf(prompt) - first }, (_, index) => [row, first + index] as const),
      ),
    );
  }

  /** One step of the first rows; logits of each. `resting`: the rows behind them, which keep what they have. */
  async decode(rows: readonly DecodeRow[], resting: readonly DecodeRow[] = []): Promise<Float32Array[]> {
    const all = [...rows, ...resting];
    // These are all the rows there are: one that was very long and has left slows them down no longer.
    this.kv.shrink(Math.max(...all.map(({ length }) => length + 1)), all.length);
    const logits = await this.#run(this.#decodeBank, {
      firstRow: 0,
      adapters: rows.map(({ adapter }) => adapter),
      tokens: 1,
      ids: BigInt64Array.from(rows, ({ tokenId }) => BigInt(tokenId)),
      starts: rows.map(({ length }) => length),
      lengths: rows.map(({ length }) => length + 1),
      keep: all.length,
      imageEmbeddings: new Float32Array(0),
      imagePositions: new BigInt64Array(0),
      logitPositions: BigInt64Array.from(rows.flatMap((_, row) => [BigInt(row), 0n])),
      contexts: DECODE_CONTEXTS,
      gateKey: 'decode',
      contextOf: () => 'text',
    });
    return this.#split(logits, rows.length);
  }

  async close(): Promise<void> {
    for (const session of this.#sessions.values()) await (await session).close();
    this.#sessions.clear();
  }

  #prefill(firstRow: number, rows: readonly PrefillRow[], wanted: readonly (readonly [number, number])[]): Promise<Float32Array> {
    const { hiddenSize } = this.#backbone.language;
    const lengths = rows.map((row) => this.#lengthOf(row));
    const tokens = Math.max(...lengths);
    const imageTokens = rows.map(({ imageEmbeddings }) => (imageEmbeddings?.length ?? 0) / hiddenSize);
    const ids = new BigInt64Array(rows.length * tokens);
    const positions: bigint[] = [];
    const embeddings = new Float32Array(imageTokens.reduce((total, count) => total + count, 0) * hiddenSize);
    let filled = 0;
    rows.forEach(({ promptIds, imageEmbeddings }, row) => {
      const images = imageTokens[row] as number;
      promptIds.forEach((id, index) => {
        ids[row * tokens + index + (index > 0 ? images : 0)] = BigInt(id);
      });
      for (let token = 1; token <= images; token++) positions.push(BigInt(row), BigInt(token));
      embeddings.set(imageEmbeddings ?? [], filled);
      filled += imageEmbeddings?.length ?? 0;
    });
    return this.#run(this.#prefillBank, {
      firstRow,
      adapters: rows.map(({ adapter }) => adapter),
      tokens,
      ids,
      starts: rows.map(() => 0),
      lengths,
      keep: firstRow,
      imageEmbeddings: embeddings,
      imagePositions: BigInt64Array.from(positions),
      logitPositions: BigInt64Array.from(wanted.flat(), BigInt),
      contexts: this.#backbone.target.contexts,
      gateKey: imageTokens.join(),
      contextOf: (row, token) => (token >= 1 && token <= (imageTokens[row] as number) ? 'image' : 'text'),
    });
  }

  async #run(bank: Bank, run: Run): Promise<Float32Array> {
    const { hiddenSize, parameterCount } = this.#backbone.language;
    const rows = run.adapters.length;
    const needed = bank.arrange(run.adapters, run.contexts);
    const variant = parameterCount > MAX_LEAN_PARAMETERS && needed !== 'scale' ? 'rank' : needed;
    const session = await this.#session(variant);
    const longest = Math.max(...run.lengths);
    // Rows before the first one of this run are running; the others have nothing yet.
    this.kv.reserve(longest, run.keep);
    const feeds: Record<string, Tensor> = {
      [names.ids]: int64(run.ids, [rows, run.tokens]),
      [names.imageEmbeddings]: float32(run.imageEmbeddings, [run.imageEmbeddings.length / hiddenSize, hiddenSize]),
      [names.imagePositions]: int64(run.imagePositions, [run.imagePositions.length / 2, 2]),
      [names.logitPositions]: int64(run.logitPositions, [run.logitPositions.length / 2, 2]),
      [names.lengths]: int32(
        Int32Array.from(run.lengths, (length) => length - 1),
        [rows],
      ),
      [names.total]: int32(Int32Array.of(longest), [1]),
      [names.positions]: int64(positions(run), [rows, run.tokens]),
      ...this.kv.view(run.firstRow, rows),
      ...bank.feeds(variant, run.tokens, run.gateKey, run.contextOf),
    };
    const results = await session.run(feeds, { [names.logits]: null, [names.fresh]: null });
    this.kv.append(run.firstRow, (results[names.fresh] as Tensor).data as Float32Array, run.tokens, run.starts, run.lengths);
    return (results[names.logits] as Tensor).data as Float32Array;
  }

  #session(variant: Variant): Promise<Session> {
    const known = this.#sessions.get(variant);
    if (known) return known;
    const opening = openSession(this.#backbone, variant, this.#options).then(({ session }) => session);
    this.#sessions.set(variant, opening);
    // A failure (of memory, say) is that of the run that asked; the next one tries again.
    opening.catch(() => this.#sessions.delete(variant));
    return opening;
  }

  #lengthOf({ promptIds, imageEmbeddings }: PrefillRow): number {
    return promptIds.length + (imageEmbeddings?.length ?? 0) / this.#backbone.language.hiddenSize;
  }

  #split(logits: Float32Array, rows: number): Float32Array[] {
    const { vocabSize } = this.#backbone.language;
    return Array.from({ length: rows }, (_, row) => logits.subarray(row * vocabSize, (row + 1) * vocabSize));
  }
}

/** Position of every token of a run, [rows, tokens]; padding repeats the last one. */
function positions({ starts, lengths, tokens }: Run): BigInt64Array {
  const result = new BigInt64Array(starts.length * tokens);
  starts.forEach((start, row) => {
    for (let token = 0; token < tokens; token++)
      result[row * tokens + token] = BigInt(Math.min(start + token, (lengths[row] as number) - 1));
  });
  return result;
}

async function openSession(backbone: BackboneDescription, variant: Variant, options: DecoderOptions) {
  const { model, bank, weights } = await openProgram(backbone, variant, options);
  return { session: await Session.open(model, { folder: weights.root, threads: options.threads }), bank };
}
