/**
 * One error class and one table. Whatever comes from outside (a request, a file, a flag, a child process) and is wrong
 * is an `AppError`; its code decides the HTTP status and OpenAI's error `type`. Programmer mistakes stay TypeError or RangeError.
 * The table is the whole list of ways in which Graft refuses: a new code is a new line here, never an ad-hoc status elsewhere.
 */

export interface ErrorRow {
  readonly status: number;
  /** OpenAI's `error.type`. */
  readonly type: 'invalid_request_error' | 'not_found_error' | 'rate_limit_error' | 'server_error' | 'authentication_error';
  /** A client may send the same request again and expect it to work. */
  readonly retryable?: true;
  /** For who reads the description of the API: when it happens. */
  readonly meaning: string;
}

const TABLE = {
  invalid_api_key: {
    status: 401,
    type: 'authentication_error',
    meaning: 'The key is missing, wrong or expired; which of them is not said.',
  },
  foreign_host: {
    status: 403,
    type: 'authentication_error',
    meaning: 'A server without tenants, which is for its own machine, was asked under a name that is not one of it.',
  },
  invalid_request: {
    status: 400,
    type: 'invalid_request_error',
    meaning: 'A field is missing, of the wrong type or out of its range, or fields do not go together.',
  },
  unknown_field: { status: 400, type: 'invalid_request_error', meaning: 'The body has a field that this route does not know.' },
  adapter_required: {
    status: 400,
    type: 'invalid_request_error',
    meaning: 'A request with an image names no adapter, and a bare backbone cannot see.',
  },
  context_length_exceeded: {
    status: 400,
    type: 'invalid_request_error',
    meaning: 'The prompt, with the image, leaves no room for an answer.',
  },
  invalid_image: {
    status: 400,
    type: 'invalid_request_error',
    meaning: 'The image is none, is damaged, or takes too long to decode.',
  },
  unsupported_image: {
    status: 415,
    type: 'invalid_request_error',
    meaning: 'The image is of another kind than JPEG, PNG and WebP.',
  },
  image_url_refused: {
    status: 400,
    type: 'invalid_request_error',
    meaning: 'The image is a URL that this server does not fetch: its operator lists the hosts.',
  },
  // The client's to mend, as at OpenAI.
  image_unavailable: { status: 400, type: 'invalid_request_error', meaning: 'The URL of the image gave no image.' },
  image_too_large: { status: 413, type: 'invalid_request_error', meaning: 'The image has more pixels than this server takes.' },
  payload_too_large: {
    status: 413,
    type: 'invalid_request_error',
    meaning: 'The body, or a file in it, has more bytes than this server takes.',
  },
  unsupported_media_type: {
    status: 415,
    type: 'invalid_request_error',
    meaning: 'The body is of a type, or in an encoding, that this route does not read.',
  },
  not_found: { status: 404, type: 'not_found_error', meaning: 'There is nothing here, or nothing that this key may see.' },
  method_not_allowed: {
    status: 405,
    type: 'invalid_request_error',
    meaning: 'The path has other methods; the header allow lists them.',
  },
  adapter_not_found: {
    status: 404,
    type: 'not_found_error',
    meaning: 'There is no adapter of this name, or none that this key may see.',
  },
  adapter_invalid: {
    status: 422,
    type: 'invalid_request_error',
    meaning: 'The adapter is there, but its files are not in order or do not fit this backbone; the message says what and where.',
  },
  adapter_changed: {
    status: 503,
    type: 'server_error',
    retryable: true,
    meaning: 'The files of the adapter changed while they were read.',
  },
  adapter_too_large: { status: 422, type: 'invalid_request_error', meaning: 'The adapter is larger than this server takes.' },
  conflict: {
    status: 409,
    type: 'invalid_request_error',
    meaning: 'It cannot be done as things are: another version took its place, or somebody uses it.',
  },
  rate_limit_exceeded: {
    status: 429,
    type: 'rate_limit_error',
    retryable: true,
    meaning: 'A limit of your own is reached; the header retry-after says when to come again.',
  },
  quota_unavailable: {
    status: 503,
    type: 'server_error',
    retryable: true,
    meaning: 'The limits of tenants cannot be looked up now, and this server is told to refuse then.',
  },
  queue_full: {
    status: 429,
    type: 'rate_limit_error',
    retryable: true,
    meaning: 'As many requests wait as this server lets wait, whoever sent them.',
  },
  deadline_exceeded: {
    status: 504,
    type: 'server_error',
    retryable: true,
    meaning: 'The request did not finish within its timeout_ms, or within what this server allows.',
  },
  cancelled: { status: 499, type: 'invalid_request_error', meaning: 'The client went away; only the log tells of it.' },
  engine_unavailable: {
    status: 503,
    type: 'server_error',
    retryable: true,
    meaning: 'The engine is still loading, or ended and is being started again.',
  },
  images_unavailable: {
    status: 503,
    type: 'server_error',
    retryable: true,
    meaning: 'The process that decodes images ended and is being started again.',
  },
  shutting_down: { status: 503, type: 'server_error', retryable: true, meaning: 'This server is stopping.' },
  invalid_file: {
    status: 500,
    type: 'server_error',
    meaning: 'A file on the disk of the server (weights, configuration, adapter) is not what it should be.',
  },
  invalid_data: {
    status: 500,
    type: 'server_error',
    meaning: 'A dataset for training or evaluation has rows that cannot be used.',
  },
  training_diverged: { status: 500, type: 'server_error', meaning: 'Training cannot go on: its loss is no number any more.' },
  download_failed: {
    status: 502,
    type: 'server_error',
    retryable: true,
    meaning: 'Where the adapter comes from refuses this server, or sends something else than it should.',
  },
  source_unavailable: {
    status: 503,
    type: 'server_error',
    retryable: true,
    meaning: 'Where the adapter comes from is too busy, cannot be reached, or does not hold still.',
  },
  source_timeout: {
    status: 504,
    type: 'server_error',
    retryable: true,
    meaning: 'The adapter takes longer to fetch than a fetch may.',
  },
  disk_full: { status: 507, type: 'server_error', meaning: 'The disk of the server is full.' },
  unsupported_model: { status: 500, type: 'server_error', meaning: 'The model is of a kind that this server cannot run.' },
  invalid_config: { status: 500, type: 'server_error', meaning: 'The settings of the server are wrong.' },
  internal: {
    status: 500,
    type: 'server_error',
    meaning: 'The server failed; its log has the reason, under the x-request-id of the reply.',
  },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof TABLE;

/** The table, for who lists it. */
export const ERRORS: Readonly<Record<ErrorCode, ErrorRow>> = TABLE;

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
    return ERRORS[this.code].retryable === true;
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
