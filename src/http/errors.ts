/** Errors as clients read them: OpenAI's body, the status of the error's code, and when to come again. */
import type { NextFunction, Request, Response } from 'express';
import { MulterError } from 'multer';
import { AppError } from '../errors.js';
import { exchangeOf } from './exchange.js';

export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly code: string;
    readonly param: string | null;
    /** Every fault, where there are several. */
    readonly faults?: readonly string[];
  };
}

const DEFAULT_RETRY_S = 1;

/** What failed on our side is told in the log, not to the client: its message may name files or code. */
export function errorBody(error: AppError): ErrorBody {
  const message =
    error.status === 500 ? 'The server failed to answer; its log has the reason, under this x-request-id' : error.message;
  const faults = error.faults && error.faults.length > 1 && error.status !== 500 ? { faults: error.faults } : {};
  return { error: { message, type: error.type, code: error.code, param: error.param ?? null, ...faults } };
}

/** Answers with an error. The code is kept for the log and the metrics. */
function sendError(res: Response, error: AppError): void {
  exchangeOf(res).error = error;
  if (res.headersSent || res.destroyed) {
    res.destroy();
    return;
  }
  if (error.status === 401) res.set('www-authenticate', 'Bearer realm="graft"');
  if (error.retryable) res.set('retry-after', String(error.retryAfterS ?? DEFAULT_RETRY_S));
  res.status(error.status).json(errorBody(error));
}

/** Express's last handler: whatever was thrown becomes one of our errors. */
export function errorHandler(thrown: unknown, _req: Request, res: Response, _next: NextFunction): void {
  sendError(res, fromParser(thrown) ?? AppError.from(thrown));
}

/** What express's and multer's body parsers throw; undefined for anything else. */
function fromParser(thrown: unknown): AppError | undefined {
  if (thrown instanceof AppError || !(thrown instanceof Error)) return undefined;
  if (thrown instanceof MulterError) return fromMulter(thrown);
  const { type, limit, length } = thrown as { type?: string; limit?: number; length?: number };
  switch (type) {
    case 'entity.too.large':
      return new AppError('payload_too_large', `Expected a body of at most ${limit} bytes but received ${length ?? 'more'}`);
    case 'entity.parse.failed':
      return new AppError('invalid_request', `Expected a JSON object but received a body that does not parse: ${thrown.message}`);
    case 'encoding.unsupported':
    case 'charset.unsupported':
      return new AppError(
        'unsupported_media_type',
        `Expected a body in UTF-8, plain or compressed with gzip, deflate or br, but received: ${thrown.message}`,
      );
    case 'request.aborted':
      return new AppError('cancelled', 'The client went away before its request was complete');
    case 'request.size.invalid':
      return new AppError('invalid_request', 'Expected as many bytes as content-length says but received a different number');
    default:
      // Malformed paths, percent signs, multipart boundaries: express marks the client's faults with a status.
      return isClientFault(thrown)
        ? new AppError('invalid_request', `Expected a well-formed request but received one that is not: ${thrown.message}`)
        : undefined;
  }
}

function isClientFault(error: Error): boolean {
  const { status } = error as { status?: unknown };
  // Busboy's errors about a malformed multipart body carry no status at all.
  return (
    (typeof status === 'number' && status >= 400 && status < 500) ||
    /multipart|Malformed|Unexpected end of form|Boundary/i.test(error.message)
  );
}

function fromMulter(error: MulterError): AppError {
  const param = error.field;
  switch (error.code) {
    case 'LIMIT_FILE_SIZE':
      return new AppError(
        'payload_too_large',
        `Expected a smaller file in ${param ?? 'the form'}: it is larger than this server takes`,
        { param },
      );
    case 'LIMIT_UNEXPECTED_FILE':
      return new AppError(
        'unknown_field',
        `Expected one file, in the field image, but received a file in ${param ?? 'another field'} as well or instead`,
        { param },
      );
    case 'LIMIT_FILE_COUNT':
      return new AppError('invalid_request', 'image: Expected one file but received several', { param: 'image' });
    case 'LIMIT_FIELD_VALUE':
    case 'LIMIT_FIELD_KEY':
    case 'LIMIT_FIELD_COUNT':
    case 'LIMIT_PART_COUNT':
      return new AppError(
        'payload_too_large',
        `Expected a smaller form but received too many or too large fields (${error.message})`,
        { param },
      );
    default:
      return new AppError('invalid_request', `Expected a well-formed form but received one that is not: ${error.message}`, {
        param,
      });
  }
}
