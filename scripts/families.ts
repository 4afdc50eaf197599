/**
 * `npm run families`: runs every family's fixtures through our code and writes docs/families.md, how far each is from transformers and PEFT, what
 * it takes and what it refuses.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { measureAll } from './families/errors.js';
import { languageOptions, visionOptions } from './families/options.js';
import { pageOf } from './families/page.js';

const PAGE = fileURLToPath(new URL('../docs/families.md', import.meta.url));
/** What no error of float32 reaches on numbers that are about one large. */
const LARGEST = 1e-4;

const families = { language: await languageOptions(), vision: await visionOptions() };
const errors = await measureAll((what) => {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${what}`);
});
if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
writeFileSync(PAGE, pageOf(families, errors));
const large = [...errors].filter(([, error]) => !(error < LARGEST));
console.log(
  `${errors.size} errors of ${families.language.length + families.vision.length} families, the largest ${Math.max(...errors.values()).toExponential(1)}`,
);
for (const [what, error] of large) console.error(`${what}: Expected an error below ${LARGEST} but received ${error}`);
if (large.length > 0) process.exitCode = 1;
