/** A file of a page, in memory, as a browser wants it: its type, what the page may load, and an ETag that saves the second transfer. */
import { createHash } from 'node:crypto';
import type { Request, RequestHandler, Response } from 'express';

export interface AssetOptions {
  /** Its content-type. */
  readonly type: string;
  /** Its content-security-policy; without one the usual one of this server stays. */
  readonly policy?: string;
}

export function assetRoute(bytes: Buffer, { type, policy }: AssetOptions): RequestHandler {
  const etag = `"${createHash('sha256').update(bytes).digest('base64url')}"`;
  const headers = { 'content-type': type, 'cache-control': 'no-cache', etag };
  return (req: Request, res: Response): void => {
    res.set(policy === undefined ? headers : { ...headers, 'content-security-policy': policy });
    if (req.fresh) res.status(304).end();
    else res.send(bytes);
  };
}
