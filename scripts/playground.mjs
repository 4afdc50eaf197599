/** src/http/playground → dist/http/playground: the page's TypeScript in one file, and what stands beside it. Part of `npm run build`. */
import { cpSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FROM = `${ROOT}src/http/playground`;
const TO = `${ROOT}dist/http/playground`;

buildSync({
  entryPoints: [`${FROM}/page.ts`, `${FROM}/style.css`],
  outdir: TO,
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['es2022', 'chrome111', 'firefox121', 'safari16.4'],
  logLevel: 'warning',
});
for (const name of ['page.html', 'icon.svg']) cpSync(`${FROM}/${name}`, `${TO}/${name}`);
