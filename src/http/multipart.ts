/** Bodies: multipart forms with one image file, or JSON; both bounded, both end as one plain object for schema.ts. */
import express, { type NextFunction, type Request, type RequestHandler, type Response } from 'express';
import multer from 'multer';
import { AppError } from '../errors.js';
import { type ImagePath, parseImageJson } from './base64.js';

const MAX_FIELDS = 64;
const MAX_FIELD_BYTES = 256 * 1024;
/** JSON besides the image. */
const MAX_JSON_BYTES = 1024 * 1024;

export interface Body {
  readonly value: unknown;
  /** Values are a form's texts. */
  readonly form: boolean;
}

/** Largest body of a request whose image has at most so many bytes: base64 is a third longer than what it holds. */
export function bodyBytes(imageBytes: number): number {
  return Math.ceil(imageBytes / 3) * 4 + MAX_JSON_BYTES;
}

/** Express middleware for JSON without an image. Throws `payload_too_large`, `unsupported_media_type` or `invalid_request`. */
export function jsonBody(maxBytes = MAX_JSON_BYTES): RequestHandler[] {
  return [onlyJson, express.json({ limit: maxBytes, strict: true, type: 'application/json' })];
}

/** Express middleware for a form or JSON with an image; `bodyOf` then gives what came. */
export function imageBody(maxImageBytes: number): RequestHandler[] {
  const form = multer({
    storage: inMemory(maxImageBytes),
    limits: {
      fileSize: maxImageBytes,
      files: 1,
      fields: MAX_FIELDS,
      parts: MAX_FIELDS + 1,
      fieldSize: MAX_FIELD_BYTES,
      fieldNameSize: 100,
    },
  }).single('image');
  const json = imageJson(maxImageBytes, ['image']);
  const receive: RequestHandler = (req, res, next) => {
    if (req.is('multipart/form-data')) {
      form(req, res, (error?: unknown) => next(error && tooLarge(error, maxImageBytes)));
    } else if (req.is('application/json')) json.receive(req, res, next);
    else throw unsupported(req, 'multipart/form-data or application/json');
  };
  return [receive, json.parse];
}

/** Express middleware for JSON with an image at `path`. */
export function imageJsonBody(maxImageBytes: number, path: ImagePath): RequestHandler[] {
  const { receive, parse } = imageJson(maxImageBytes, path);
  return [onlyJson, receive, parse];
}

function imageJson(maxImageBytes: number, path: ImagePath): { readonly receive: RequestHandler; readonly parse: RequestHandler } {
  const receive = express.raw({ limit: bodyBytes(maxImageBytes), type: 'application/json' });
  const limits = { maxImageBytes, maxOtherBytes: MAX_JSON_BYTES };
  const parse: RequestHandler = async (req: Request<unknown, unknown, unknown>, _res, next) => {
    if (req.is('application/json')) req.body = Buffer.isBuffer(req.body) ? await parseImageJson(req.body, path, limits) : {};
    next();
  };
  return { receive, parse };
}

/** The body that `imageBody` or `jsonBody` read; a form's file is its field `image`. */
export function bodyOf(req: Request): Body {
  const { file } = req;
  const form = req.is('multipart/form-data') !== false && req.is('multipart/form-data') !== null;
  const value: unknown = req.body ?? {};
  return { value: file ? { ...(value as object), image: file.buffer } : value, form };
}

/** Keeps a file in memory, in one piece from its first byte: to put a large one together at its end would hold up the event loop. */
function inMemory(maxBytes: number): multer.StorageEngine {
  return {
    _handleFile(req, file, done) {
      const announcedBytes = Number(req.headers['content-length'] ?? maxBytes);
      const buffer = Buffer.allocUnsafeSlow(Math.min(announcedBytes, maxBytes));
      let size = 0;
      file.stream.on('data', (chunk: Buffer) => {
        size += chunk.copy(buffer, size);
      });
      file.stream.on('end', () => done(null, { buffer: buffer.subarray(0, size), size }));
    },
    _removeFile(_req, _file, done) {
      done(null);
    },
  };
}

function onlyJson(req: Request, _res: Response, next: NextFunction): void {
  if (!req.is('application/json')) throw unsupported(req, 'application/json');
  next();
}

function unsupported(req: Request, expected: string): AppError {
  return new AppError(
    'unsupported_media_type',
    `Expected content-type ${expected} but received ${req.get('content-type')?.slice(0, 100) ?? 'none'}`,
  );
}

function tooLarge(error: unknown, maxImageBytes: number): unknown {
  if (!(error instanceof multer.MulterError) || error.code !== 'LIMIT_FILE_SIZE') return error;
  return new AppError('payload_too_large', `image: Expected a file of at most ${maxImageBytes} bytes but received more`, {
    param: 'image',
  });
}
