/** The files of an adapter out of a request: a tar, or a form whose fields are called as the files are. Both go to the disk as they come. */
import type { Readable } from 'node:stream';
import { callbackify } from 'node:util';
import type { Request, Response } from 'express';
import multer, { MulterError } from 'multer';
import { AppError } from '../errors.js';
import type { Intake } from '../store/intake.js';
import { takeTar } from '../store/tar.js';
import { exchangeOf } from './exchange.js';

const TAR = 'application/x-tar';
const FORM = 'multipart/form-data';
/** What surrounds the files on the line: headers, boundaries, padding. */
const AROUND_BYTES = 4 * 1024 ** 2;
const MAX_FILES = 128;
const MAX_PATH_CHARACTERS = 512;
/** For a client that still sends what was refused, so that it comes to read why. */
const LINGER_MS = 5_000;

/** Throws `unsupported_media_type` or `payload_too_large` for what need not be read to be refused. */
export function checkUpload(req: Request, maxBytes: number): void {
  if (!req.is(TAR) && !req.is(FORM)) {
    const received = req.get('content-type')?.slice(0, 100) ?? 'none';
    throw new AppError('unsupported_media_type', `Expected content-type ${TAR} or ${FORM} but received ${received}`);
  }
  const coding = req.get('content-encoding') ?? 'identity';
  if (coding !== 'identity')
    throw new AppError(
      'unsupported_media_type',
      `Expected an upload that is not compressed but received ${coding.slice(0, 100)}`,
    );
  const bytes = Number(req.get('content-length') ?? 0);
  if (bytes > maxBytes + AROUND_BYTES)
    throw new AppError('payload_too_large', `Expected an adapter of at most ${maxBytes} bytes but received ${bytes}`);
}

/** Takes in all files. Throws AppError: `cancelled` where the client goes away; what the intake refuses; `adapter_invalid`, `invalid_request`. */
export async function receive(req: Request, res: Response, intake: Intake): Promise<void> {
  const { signal } = exchangeOf(res);
  try {
    if (req.is(FORM)) await receiveForm(req, res, intake);
    else await takeTar(req.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>, intake);
    signal.throwIfAborted();
  } catch (error) {
    if (signal.aborted || (req.destroyed && !req.complete))
      throw new AppError('cancelled', 'The client went away before its request was complete', { cause: error });
    throw error;
  }
}

/** After a refusal: what the client still sends is thrown away for a while, and then the line is cut. */
export function linger(req: Request): void {
  if (req.complete || req.destroyed) return;
  const timer = setTimeout(() => req.destroy(), LINGER_MS).unref();
  req.once('close', () => clearTimeout(timer));
  req.resume();
}

/** multer waits for the end of what it refuses; the first refusal is answered at once. */
function receiveForm(req: Request, res: Response, intake: Intake): Promise<void> {
  return new Promise((resolve, reject) => {
    const take = async (name: string, stream: Readable): Promise<void> => {
      try {
        // Left early, it stays open: multer would take its end for a broken form.
        await intake.addFile(name, stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>);
      } catch (error) {
        reject(asError(error));
        throw error;
      } finally {
        // Only what is read to its end comes to one.
        stream.resume();
      }
    };
    const storage: multer.StorageEngine = {
      _handleFile: (_req, { fieldname, stream }, done) => callbackify(take)(fieldname, stream, (error) => done(error, {})),
      _removeFile: (_req, _file, done) => done(null),
    };
    const limits = { files: MAX_FILES, fields: 0, parts: MAX_FILES, fieldNameSize: MAX_PATH_CHARACTERS };
    multer({ storage, limits }).any()(req, res, (error?: unknown) => {
      if (error) reject(ofForm(asError(error)));
      else resolve();
    });
  });
}

function ofForm(error: Error): Error {
  if (error instanceof AppError || 'syscall' in error) return error;
  if (!(error instanceof MulterError))
    return new AppError('invalid_request', `Expected a well-formed form but received one that is not: ${error.message}`);
  const { code, field } = error;
  if (code === 'LIMIT_FIELD_COUNT' || code === 'LIMIT_FIELD_KEY')
    return new AppError(
      'invalid_request',
      `Expected files only, in fields that have their paths as names, but received ${field ?? 'a text'}`,
    );
  return new AppError(
    'invalid_request',
    `Expected a form of at most ${MAX_FILES} files but received one that is not: ${error.message}`,
  );
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
