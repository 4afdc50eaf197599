/**
 * The pages at `/docs`: the description of the API, to read and to try. They are Swagger UI's, out of its package and from this server alone; read
 * once, and served from memory. It speaks to this server as any client does, with a key that stays in the browser's memory.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pageAbout } from './abouts.js';
import { assetRoute } from './asset.js';
import type { Route } from './route.js';

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  // Its icons are in its style sheet.
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const PAGE = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>Graft: HTTP API</title>
    <link rel="icon" href="/docs/icon.png" />
    <link rel="stylesheet" href="/docs/swagger-ui.css" />
    <link rel="stylesheet" href="/docs/index.css" />
    <script src="/docs/swagger-ui-bundle.js" defer></script>
    <script src="/docs/start.js" type="module"></script>
  </head>
  <body>
    <main id="docs"></main>
  </body>
</html>
`;

/** Forms begin empty, and what stays empty is not sent: what the page would make up for every field is no request. No validator: it would be asked on another server. */
const START = `const dark = matchMedia('(prefers-color-scheme: dark)');
const colour = () => document.documentElement.classList.toggle('dark-mode', dark.matches);
dark.addEventListener('change', colour);
colour();

const spec = await (await fetch('/openapi.json')).json();
for (const { requestBody } of Object.values(spec.paths).flatMap((path) => Object.values(path)))
  for (const field of Object.values(requestBody?.content['multipart/form-data']?.schema.properties ?? {}))
    if (field.format !== 'binary') field.default ??= field.type === 'array' ? [] : '';

SwaggerUIBundle({
  spec,
  domNode: document.getElementById('docs'),
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  validatorUrl: null,
  requestInterceptor: (request) => {
    if (request.body instanceof FormData)
      for (const [name, value] of [...request.body]) if (value === '') request.body.delete(name);
    return request;
  },
});
`;

const JAVASCRIPT = 'text/javascript; charset=utf-8';
const CSS = 'text/css; charset=utf-8';

export function docsRoutes(): Route[] {
  const files: readonly (readonly [string, Buffer, string])[] = [
    ['/docs', Buffer.from(PAGE), 'text/html; charset=utf-8'],
    ['/docs/start.js', Buffer.from(START), JAVASCRIPT],
    ['/docs/swagger-ui-bundle.js', packaged('swagger-ui-bundle.js'), JAVASCRIPT],
    ['/docs/swagger-ui.css', packaged('swagger-ui.css'), CSS],
    ['/docs/index.css', packaged('index.css'), CSS],
    ['/docs/icon.png', packaged('favicon-32x32.png'), 'image/png'],
  ];
  return files.map(([path, bytes, type]) => ({
    method: 'get',
    path,
    access: 'open',
    about: pageAbout(path, type),
    handlers: [assetRoute(bytes, { type, policy: POLICY })],
  }));
}

function packaged(name: string): Buffer {
  return readFileSync(createRequire(import.meta.url).resolve(`swagger-ui-dist/${name}`));
}
