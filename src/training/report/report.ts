/** What a training run tells its report: plain numbers and words, so that the page can be drawn from a running or a finished run alike. */

export interface ReportPoint {
  readonly step: number;
  /** Nats per token, over the step's batch. */
  readonly loss: number;
  readonly tokensPerSecond: number;
  readonly learningRate: number;
  /** Euclidean norm of all gradients, before clipping. */
  readonly gradientNorm: number;
}

export interface ReportEvaluation {
  readonly step: number;
  /** Nats per token, over the validation set. */
  readonly loss: number;
  readonly perplexity: number;
}

export interface ReportSample {
  readonly image: { readonly mime: string; readonly bytes: Uint8Array } | null;
  readonly caption: string;
  readonly references: readonly string[];
}

export interface Report {
  readonly name: string;
  readonly task: string | null;
  readonly status: 'finished' | 'stopped early' | 'interrupted' | 'diverged';
  readonly createdAt: Date;
  readonly seconds: number;
  readonly steps: number;
  readonly tokens: number;
  readonly backbone: { readonly language: string; readonly vision: string | null };
  /** Counts of numbers; `groups` splits `adapter` by context. */
  readonly parameters: {
    readonly adapter: number;
    readonly projector: number;
    readonly frozen: number;
    readonly groups: Readonly<Record<string, number>>;
  };
  readonly configuration: Readonly<Record<string, string | number | boolean | null | readonly (string | number)[]>>;
  readonly points: readonly ReportPoint[];
  readonly evaluations: readonly ReportEvaluation[];
  /** The step whose adapter was kept. */
  readonly bestStep: number | null;
  /** Caption metrics by name, such as `cider` and `bleu_4`. */
  readonly scores: Readonly<Record<string, number>> | null;
  readonly badRows: readonly { readonly origin: string; readonly reason: string }[];
  readonly samples: readonly ReportSample[];
  /** Shown when the run was interrupted: it can go on. */
  readonly resumeCommand: string | null;
}

/** That of the kept step; where that is not known, the one with the lowest perplexity. Undefined where none is finite. */
export function bestEvaluation({ evaluations, bestStep }: Report): ReportEvaluation | undefined {
  const finite = evaluations.filter(({ perplexity }) => Number.isFinite(perplexity));
  const lowest = finite.reduce((best, one) => (one.perplexity < best ? one.perplexity : best), Number.POSITIVE_INFINITY);
  return finite.findLast(({ step }) => step === bestStep) ?? finite.find(({ perplexity }) => perplexity === lowest);
}
