/** /v1/files: training files in OpenAI's dialect. One is written to the disk as it comes and is taken whole or not at all. */
import type { Readable } from 'node:stream';
import type { Request, RequestHandler, Response } from 'express';
import multer from 'multer';
import { z } from 'zod';
import { AppError } from '../errors.js';
import type { TrainingFile } from '../finetuning/file.js';
import type { TrainingFiles, Upload } from '../finetuning/files.js';
import type { Finetuning } from '../finetuning/finetuning.js';
import type { Tenant } from '../tenants/tenant.js';
import { exchangeOf } from './exchange.js';
import { listBody, page } from './page.js';
import type { Route } from './route.js';
import { check, type Fields, show, type Values } from './schema.js';
import type { Services } from './services.js';
import {
  CONTENT_TYPE,
  contentAbout,
  deleteAbout,
  FILES_QUERY,
  fileAbout,
  listFilesAbout,
  PURPOSE,
  uploadAbout,
} from './tuning.js';

/** Of a form, besides the file: its purpose, its boundaries. */
const MAX_FORM_BYTES = 64 * 1024;
/** A page of files, unless told. */
const PAGE = 10_000;

const FORM: Fields = {
  file: { schema: z.custom((value) => value !== undefined), expected: 'a file of JSON lines', form: 'file' },
  purpose: { schema: z.literal(PURPOSE), expected: `"${PURPOSE}", which is what files are for here,`, form: 'text' },
};

export function fileRoutes(services: Services): Route[] {
  const access = 'tenant';
  return [
    { method: 'get', path: '/v1/files', access, about: listFilesAbout, handlers: [listRoute(services)] },
    { method: 'post', path: '/v1/files', access, about: uploadAbout, handlers: [uploadRoute(services)] },
    { method: 'get', path: '/v1/files/:id', access, about: fileAbout, handlers: [retrieveRoute(services)] },
    { method: 'delete', path: '/v1/files/:id', access, about: deleteAbout, handlers: [deleteRoute(services)] },
    { method: 'get', path: '/v1/files/:id/content', access, about: contentAbout, handlers: [contentRoute(services)] },
  ];
}

/** What a server without fine-tuning answers instead. Throws `not_found`. */
export function required({ finetuning }: Services): Finetuning {
  if (finetuning) return finetuning;
  throw new AppError('not_found', 'Expected a server that fine-tunes (--finetuning FOLDER) but this one does not');
}

/** A file that a tenant may see. Throws `not_found`, the same for another's and for one that never was. */
export function fileOf(files: TrainingFiles, tenant: Tenant, id: string, param: string | undefined): TrainingFile {
  const file = files.get(id);
  if (file && isOf(tenant, file)) return file;
  const place = param === undefined ? '' : `${param}: `;
  throw new AppError('not_found', `${place}Expected the id of a file (GET /v1/files lists them) but received ${show(id)}`, {
    param,
  });
}

export function isOf({ isAdmin, name }: Tenant, record: { readonly tenant: string }): boolean {
  return isAdmin || record.tenant === name;
}

function uploadRoute(services: Services): RequestHandler {
  return async (req: Request, res: Response): Promise<void> => {
    const { files } = required(services);
    const { signal } = exchangeOf(res);
    const { maxTrainingBytes } = services.config;
    if (!req.is('multipart/form-data'))
      throw new AppError(
        'unsupported_media_type',
        `Expected content-type multipart/form-data but received ${show(req.get('content-type'))}`,
      );
    // Before a byte of it is read.
    if (Number(req.get('content-length') ?? 0) > maxTrainingBytes + MAX_FORM_BYTES) throw tooLarge(maxTrainingBytes);
    const uploads: Upload[] = [];
    try {
      await receive(req, res, files, uploads);
      const [upload] = uploads;
      check(FORM, { ...(req.body as object), ...(upload ? { file: upload } : {}) }, true);
      if (!upload) throw new TypeError('Expected a form that was checked to have a file');
      res.json(fileBody(await files.keep(upload, req.file?.originalname ?? 'file')));
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      for (const upload of uploads) await files.discard(upload);
    }
  };
}

/** Reads the form; its file goes to the disk, and what is of it is told through `uploads`, whatever comes after. */
async function receive(req: Request, res: Response, files: TrainingFiles, uploads: Upload[]): Promise<void> {
  const { tenant, signal } = exchangeOf(res);
  let receiving: Promise<AppError | undefined> = Promise.resolve(undefined);
  const take = async (stream: Readable, done: (error?: unknown, info?: object) => void): Promise<AppError | undefined> => {
    try {
      const upload = await files.receive(tenant.name, stream);
      uploads.push(upload);
      // Nobody is there any more to do it.
      if (signal.aborted) await files.discard(upload);
    } catch (thrown) {
      const error = AppError.from(thrown);
      done(error);
      return error;
    }
    done(null, {});
    return undefined;
  };
  const storage: multer.StorageEngine = {
    _handleFile(_req, file, done) {
      receiving = take(file.stream, done);
    },
    // What came of it is discarded with the request.
    _removeFile: (_req, _file, done) => done(null),
  };
  const limits = { files: 1, fields: 8, parts: 9, fieldSize: 1024, fieldNameSize: 100 };
  const failure = await new Promise<unknown>((resolve) => {
    multer({ storage, limits }).single('file')(req, res, resolve);
  });
  // Multer hears first that the stream was cut off, and only then why.
  const reason = await receiving;
  if (failure !== undefined) throw reason ?? inWords(failure);
}

function listRoute(services: Services): RequestHandler {
  return (req: Request, res: Response): void => {
    const { files } = required(services);
    const { tenant } = exchangeOf(res);
    const query = check(FILES_QUERY, req.query, true) as Values<typeof FILES_QUERY>;
    const { purpose, order } = query;
    const own = files.all().filter((file) => isOf(tenant, file) && (purpose == null || purpose === PURPOSE));
    const { items, hasMore } = page(order === 'asc' ? own : own.reverse(), query, PAGE);
    res.json(listBody(items.map(fileBody), hasMore));
  };
}

function retrieveRoute(services: Services): RequestHandler {
  return (req: Request, res: Response): void => {
    res.json(fileBody(fileOf(required(services).files, exchangeOf(res).tenant, idOf(req), undefined)));
  };
}

function contentRoute(services: Services): RequestHandler {
  return async (req: Request, res: Response): Promise<void> => {
    const { files } = required(services);
    const { id } = fileOf(files, exchangeOf(res).tenant, idOf(req), undefined);
    res.type(CONTENT_TYPE);
    // Its path is ours, and holds nothing of the request; a client that goes away is no fault of anybody's.
    await new Promise<void>((resolve, reject) => {
      res.sendFile(files.pathOf(id), { dotfiles: 'allow', cacheControl: false, lastModified: false }, (error?: Error) => {
        if (error && !res.destroyed) reject(error);
        else resolve();
      });
    });
  };
}

function deleteRoute(services: Services): RequestHandler {
  return async (req: Request, res: Response): Promise<void> => {
    const finetuning = required(services);
    const file = fileOf(finetuning.files, exchangeOf(res).tenant, idOf(req), undefined);
    await finetuning.removeFile(file);
    res.json({ id: file.id, object: 'file', deleted: true });
  };
}

/** The id in a path. */
export function idOf(req: Request): string {
  return [req.params['id'] ?? []].flat().join('/');
}

function fileBody({ id, bytes, createdAt, filename, sha256, rows }: TrainingFile) {
  const created_at = Math.floor(createdAt / 1000);
  return { id, object: 'file', bytes, created_at, filename, purpose: PURPOSE, status: 'processed', sha256, rows };
}

function inWords(error: unknown): Error {
  if (!(error instanceof multer.MulterError)) return error instanceof Error ? error : AppError.from(error);
  if (error.code === 'LIMIT_UNEXPECTED_FILE' || error.code === 'LIMIT_FILE_COUNT')
    return new AppError('unknown_field', `Expected one file, in the field file, but received another in ${show(error.field)}`, {
      param: error.field,
    });
  return error;
}

function tooLarge(maxBytes: number): AppError {
  return new AppError('payload_too_large', `file: Expected a file of at most ${maxBytes} bytes but received more`, {
    param: 'file',
  });
}
