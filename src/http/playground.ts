/**
 * The page at `/`, where one tries adapters on an image. Its files are built (scripts/playground.mjs), read once, and served from memory:
 * no path of a request ever reaches the disk. It speaks to the public API as any client does, and to nothing else.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { RequestHandler } from 'express';
import { AppError } from '../errors.js';
import { pageAbout } from './abouts.js';
import { assetRoute } from './asset.js';
import type { Route } from './route.js';

/** The built files: the same folder from src/http and from dist/http. */
const FOLDER = new URL('../../dist/http/playground/', import.meta.url);

const FILES = {
  '/': { name: 'page.html', type: 'text/html; charset=utf-8' },
  '/playground/page.js': { name: 'page.js', type: 'text/javascript; charset=utf-8' },
  '/playground/style.css': { name: 'style.css', type: 'text/css; charset=utf-8' },
  '/playground/icon.svg': { name: 'icon.svg', type: 'image/svg+xml' },
};

/** Without `upgrade-insecure-requests`: on a plain-HTTP host other than this machine it would send the page's own files to TLS. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' blob:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** A server that runs from a tree without a build says so at each. */
export function playgroundRoutes(): Route[] {
  return Object.entries(FILES).map(([path, { name, type }]) => ({
    method: 'get',
    path,
    access: 'open',
    about: pageAbout(path, type, ['not_found']),
    handlers: [fileRoute(new URL(name, FOLDER), type)],
  }));
}

function fileRoute(file: URL, type: string): RequestHandler {
  if (!existsSync(file)) {
    return () => {
      throw new AppError('not_found', 'Expected the playground to be built (npm run build) but received a tree without it');
    };
  }
  return assetRoute(readFileSync(file), { type, policy: POLICY });
}
