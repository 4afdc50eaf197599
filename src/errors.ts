/**
 * One error class and one table. Whatever comes from outside (a request, a file, a flag, a child process) and is wrong
 * is an `AppError`; its code decides the HTTP status and OpenAI's error `type`. Programmer mistakes stay TypeError or RangeError.
 * The table is the whole list of ways in which Graft refuses: a new code is a new line here, never an ad-hoc status elsewhere.
 */

interface ErrorRow {
  readonly status: number;
  /** OpenAI's `error.type`. */
  readonly type: 'invalid_request_error' | 'not_found_error' | 'rate_limit_error' | 'server_error' | 'authentication_error';
  /** A client may send the same request again and expect it to work. */
  readonly retryable?: true;
}

const TABLE = {
  /** A missing, wrong or expired key: which of them is not said. */
  invalid_api_key: { status: 401, type: 'authentication_error' },
  invalid_request: { status: 400, type: 'invalid_request_error' },
  unknown_field: { status: 400, type: 'invalid_request_error' },
  adapter_required: { status: 400, type: 'invalid_request_error' },
  context_length_exceeded: { status: 400, type: 'invalid_request_error' },
  invalid_image: { status: 400, type: 'invalid_request_error' },
  unsupported_image: { status: 415, type: 'invalid_request_error' },
  /** A URL that this server does not fetch, told from its text alone. */
  image_url_refused: { status: 400, type: 'invalid_request_error' },
  /** A URL that gave no image: the client's to mend, as at OpenAI. */
  image_unavailable: { status: 400, type: 'invalid_request_error' },
  image_too_large: { status: 413, type: 'invalid_request_error' },
  payload_too_large: { status: 413, type: 'invalid_request_error' },
  unsupported_media_type: { status: 415, type: 'invalid_request_error' },
  not_found: { status: 404, type: 'not_found_error' },
  method_not_allowed: { status: 405, type: 'invalid_request_error' },
  adapter_not_found: { status: 404, type: 'not_found_error' },
  adapter_invalid: { status: 422, type: 'invalid_request_error' },
  /** The folder's bytes are no longer those of the digest that the registry named. */
  adapter_changed: { status: 503, type: 'server_error', retryable: true },
  adapter_too_large: { status: 422, type: 'invalid_request_error' },
  /** What is asked for cannot be done as things are: another version took its place, or somebody uses it. */
  conflict: { status: 409, type: 'invalid_request_error' },
  /** A limit of the tenant's own. */
  rate_limit_exceeded: { status: 429, type: 'rate_limit_error', retryable: true },
  /** The limits of tenants cannot be looked up, and this server is told to refuse then. */
  quota_unavailable: { status: 503, type: 'server_error', retryable: true },
  queue_full: { status: 429, type: 'rate_limit_error', retryable: true },
  deadline_exceeded: { status: 504, type: 'server_error', retryable: true },
  cancelled: { status: 499, type: 'invalid_request_error' },
  engine_unavailable: { status: 503, type: 'server_error', retryable: true },
  images_unavailable: { status: 503, type: 'server_error', retryable: true },
  shutting_down: { status: 503, type: 'server_error', retryable: true },
  /** A file on disk (weights, config, adapter) that is not what it should be. */
  invalid_file: { status: 500, type: 'server_error' },
  /** A training or evaluation dataset with rows that cannot be used. */
  invalid_data: { status: 500, type: 'server_error' },
  /** Training that cannot go on: the loss is no number any more. */
  training_diverged: { status: 500, type: 'server_error' },
  /** The hub of models, or a bucket, cannot be reached, or sends something else than it should. */
  download_failed: { status: 502, type: 'server_error', retryable: true },
  /** Where an adapter comes from is too busy, cannot be reached, or does not hold still. */
  source_unavailable: { status: 503, type: 'server_error', retryable: true },
  /** ... or takes longer than a fetch may. */
  source_timeout: { status: 504, type: 'server_error', retryable: true },
  disk_full: { status: 507, type: 'server_error' },
  unsupported_model: { status: 500, type: 'server_error' },
  invalid_config: { status: 500, type: 'server_error' },
  internal: { status: 500, type: 'server_error' },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof TABLE;

export interface AppErrorOptions {
  /** The request field at fault, OpenAI's `error.param`. */
  param?: string | undefined;
  /** Every single fault, where there are several: validation collects before it throws. */
  faults?: readonly string[];
  /** Seconds after which a retry makes sense (`Retry-After`). */
  retryAfterS?: number;
  cause?: unknown;
}

/** An error as plain data: what crosses a process boundary. */
export interface ErrorData {
  code: ErrorCode;
  message: string;
  param?: string | undefined;
  faults?: readonly string[] | undefined;
  retryAfterS?: number | undefined;
}

export class AppError extends Error {
  override readonly name = 'AppError';
  readonly code: ErrorCode;
  readonly param: string | undefined;
  readonly faults: readonly string[] | undefined;
  readonly retryAfterS: number | undefined;

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.param = options.param;
    this.faults = options.faults;
    this.retryAfterS = options.retryAfterS;
  }

  get status(): number {
    return TABLE[this.code].status;
  }

  get type(): ErrorRow['type'] {
    return TABLE[this.code].type;
  }

  get retryable(): boolean {
    return (TABLE[this.code] as ErrorRow).retryable === true;
  }

  /** Each fault as a sentence by itself, with the subject that `ofFaults` puts before all of them. */
  get sentences(): readonly string[] {
    if (this.faults === undefined) return [this.message];
    const together = `: ${this.faults.join('; ')}`;
    const subject = this.message.endsWith(together) ? `${this.message.slice(0, -together.length)}: ` : '';
    return this.faults.map((fault) => `${subject}${fault}`);
  }

  /** One error for all faults of one thing: `subject: first; second; ...`. */
  static ofFaults(code: ErrorCode, subject: string, faults: readonly string[], options: AppErrorOptions = {}): AppError {
    return new AppError(code, `${subject}: ${faults.join('; ')}`, { ...options, faults });
  }

  toData(): ErrorData {
    return { code: this.code, message: this.message, param: this.param, faults: this.faults, retryAfterS: this.retryAfterS };
  }

  static fromData(data: ErrorData): AppError {
    const { code, message, ...options } = data;
    return new AppError(code, message, options as AppErrorOptions);
  }

  /** Anything thrown, as an AppError; what was not one becomes `internal` and keeps its cause. */
  static from(thrown: unknown): AppError {
    if (thrown instanceof AppError) return thrown;
    return new AppError('internal', thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
  }
}
