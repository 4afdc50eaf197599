/**
 * An adapter in memory: everything that the bank needs, already validated, in float32, in the layout that the graph reads.
 * A loader thread makes it (format.ts), the cache holds it, a lease protects it. Plain data and typed arrays only: it crosses threads by transfer.
 */

export type Method = 'lora' | 'bitfit' | 'ia3' | 'none';

/** One immutable version of an adapter that lies in a folder. */
export interface FolderRef {
  readonly name: string;
  /** `sha256:` and 64 hex digits over the content (digest.ts). */
  readonly digest: string;
  /** Absolute folder that held this content when the registry read it. */
  readonly folder: string;
}

/** Names what a row runs with: one immutable version of an adapter, or of a blend. What a request carries to the engine. */
export interface AdapterRef extends FolderRef {
  /** What is mixed, in order (blend.ts). Such a reference has a digest of its own, and no folder: its `folder` is empty. */
  readonly blend?: readonly WeightedRef[];
}

export interface WeightedRef {
  readonly ref: FolderRef;
  readonly weight: number;
}

/**
 * The rank columns of one module in one context: `y += ((x · a + a0) ⊙ gate) · b`.
 * LoRA: a is A transposed, [in, rank]; b is B transposed and already multiplied by alpha/r, [rank, out].
 * BitFit: a is null (zeros) with the group's a0 = 1, rank 1, b is the bias, [1, out].
 */
export interface RankColumns {
  readonly rank: number;
  readonly a: Float32Array | null; // [in, rank]
  readonly b: Float32Array; // [rank, out]
}

/** IA3 on one module: the factor minus one, so that a gate of zero leaves the module alone. */
export interface Scale {
  /** 'output' scales W x + b (k_proj, v_proj); 'input' scales x (feed-forward modules). */
  readonly side: 'input' | 'output';
  readonly delta: Float32Array; // [out] or [in]
}

/** One context's parameters. */
export interface AdapterGroup {
  /** A context of the backbone, or `all` for the context-agnostic variant. */
  readonly context: string;
  /** Largest rank of any module: the columns this group takes in the bank (0 for IA3). */
  readonly rank: number;
  /** The constant added to x · a before the gate: 1 for BitFit, else 0. */
  readonly a0: 0 | 1;
  /** By full module name. */
  readonly columns: ReadonlyMap<string, RankColumns>;
  readonly scales: ReadonlyMap<string, Scale>;
}

/** Vision features to token embeddings: `e = weight · f + bias`. */
export interface Projector {
  readonly weight: Float32Array; // [hiddenSize, imageDim]
  readonly bias: Float32Array; // [hiddenSize]
}

export interface LoadedAdapter {
  readonly name: string;
  readonly digest: string;
  /** `mixed` for a blend of several. */
  readonly method: Method | 'mixed';
  /** Of one context there may be several: all of those that a token sees are added up. */
  readonly groups: readonly AdapterGroup[];
  readonly projector: Projector | null;
  /** Modules with parameters, summed over contexts, of those that the adapter's configuration targets. */
  readonly matched: number;
  readonly targeted: number;
  /** Bytes of all arrays: what the cache charges. */
  readonly bytes: number;
}
