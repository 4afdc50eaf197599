/** `graft eval captions`: scores of captions that any model wrote, from COCO's two files, with no model at hand. */
import { AppError } from '../../errors.js';
import { evaluateCoco } from '../../evaluation/coco.js';
import { Faults } from '../../tensor/faults.js';
import { parseJson } from '../../tensor/json.js';
import { readText } from '../../training/data/lines.js';
import { parseCaptionsOptions } from './options.js';
import { countOf, notesOn, plainScores, scoreRows, tableOf } from './scores.js';

/** Three times COCO's own largest file of captions, and well below the longest string. */
const MAX_BYTES = 256 * 1024 ** 2;

/** What to print. Throws AppError `invalid_data` naming what is wrong with either file. */
export async function evaluateFiles(flags: Readonly<Record<string, unknown>>, folder: string): Promise<string> {
  const { references, results, json } = parseCaptionsOptions(flags, folder);
  const faults = new Faults();
  const annotations = await readJson(references, faults);
  const captions = await readJson(results, faults);
  faults.check('invalid_data', 'Captions cannot be evaluated');
  const scores = evaluateCoco(annotations, captions);
  if (json) return JSON.stringify(plainScores(scores));
  return tableOf(countOf(scores.images, 'image'), scoreRows(scores), notesOn(scores));
}

/** Undefined, with a fault, where there is no such file of JSON. */
async function readJson(file: string, faults: Faults): Promise<unknown> {
  try {
    const own = new Faults();
    const value = parseJson(await readText(file, MAX_BYTES), own);
    own.check('invalid_data', file);
    return value;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    faults.add(error.message);
    return undefined;
  }
}
