/**
 * What an adapter may attach to: the linear projections of a language model, by their checkpoint names.
 * Families declare these without reading any weight, so that adapters are validated (and parameters counted) from config.json alone.
 */

/** One projection `y = W x + b` of the language model. */
export interface LinearModule {
  /** Full name without `.weight`, as in the checkpoint: `model.layers.3.self_attn.q_proj`. */
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Whether the checkpoint holds `${name}.bias`. */
  readonly bias: boolean;
  readonly site: 'attention' | 'ffn';
  /** How the checkpoint lays the weight out: [out, in] for nn.Linear, [in, out] for GPT-2's Conv1D. */
  readonly layout: 'out_in' | 'in_out';
  /**
   * The side that IA3 scales here; absent where it scales nothing. PEFT's choice for the family: the FFN's inner activation, values, and keys
   * (or queries, for the Qwens; a fused projection whole).
   */
  readonly scalable?: 'input' | 'output';
  /**
   * Full name of the one projection that other checkpoints hold in place of this one and its neighbours, which read the same input:
   * `model.layers.3.mlp.gate_up_proj`. An adapter of it shares one A between them, so that it has fewer parameters.
   */
  readonly fusedAs?: string;
}

/** The last component of a module's name, which is the same in every layer: `q_proj`. */
export function kindOf({ name }: Pick<LinearModule, 'name'>): string {
  return name.slice(name.lastIndexOf('.') + 1);
}

/** The part of a backbone that adapters see. Plain data: it crosses to the loader thread. */
export interface AdapterTarget {
  readonly modules: readonly LinearModule[];
  /** Token embedding size d. */
  readonly hiddenSize: number;
  /** Size of one vision feature vector; null for a backbone without a vision encoder. */
  readonly imageDim: number | null;
  /** The contexts a token of this backbone can have; an adapter's contexts are a subset of these, or the single group `all`. */
  readonly contexts: readonly string[];
  /** Checkpoint folders, for fingerprints (sha-256, computed only when an adapter states one). */
  readonly languageFolder: string;
  readonly visionFolder: string | null;
  /** Names the encoder's features where they are not its family's own; part of its fingerprint. */
  readonly visionFeatures?: string;
}
