/**
 * An evaluation as COCO's two files, so that anyone can check its numbers with coco-caption itself. An image's id is its place in the
 * data, from 1; its name stands beside the id in both files.
 */
import { access, constants, mkdir, readFile, stat } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { AppError } from '../../errors.js';
import { replaceFile } from '../../tensor/folder.js';
import type { Captioned } from './measure.js';
import type { EvalOptions } from './options.js';

/** How every file of references begins that this wrote. */
const MARK = '{"info":{"description":"References of a graft eval"}';
/** How results begin, whoever wrote them. */
const RESULTS_MARK = '[{"image_id":';

/** Throws AppError `invalid_config` where a file could not be written, or is one that nobody wants to lose: known now, not hours later. */
export async function checkOutputs({ results, references, data }: EvalOptions): Promise<void> {
  const faults: string[] = [];
  for (const [flag, path] of Object.entries({ '--results': results, '--references': references })) {
    if (path === null) continue;
    const fault = path === data ? `the data itself, ${path}` : await faultOf(path);
    if (fault !== undefined) faults.push(`${flag}: Expected a file to write but received ${fault}`);
  }
  if (results !== null && results === references) faults.push(`--references: Expected another file than --results, ${results}`);
  // With `graft eval captions` a file of that flag is read: confused with it, COCO's own annotations would be lost here.
  if (faults.length === 0) {
    if (references !== null && !(await isReplaceable(references, MARK)))
      faults.push(`--references: Expected a file to write, new or of an earlier graft eval, but ${references} is something else`);
    // The data may be a folder, and this a file of it.
    if (results !== null && !(await isReplaceable(results, RESULTS_MARK)))
      faults.push(`--results: Expected a file to write, new or of other results, but ${results} is something else`);
  }
  if (faults.length > 0) throw AppError.ofFaults('invalid_config', 'The options are wrong', faults);
}

export function writeResults(file: string, captioned: readonly Captioned[], folder: string): Promise<void> {
  const results = captioned.map(({ id, example, caption }) => ({
    image_id: id,
    file_name: nameOf(example.image, folder),
    caption,
  }));
  return replaceFile(file, Buffer.from(`${JSON.stringify(results)}\n`));
}

export function writeReferences(file: string, captioned: readonly Captioned[], folder: string): Promise<void> {
  const images = captioned.map(({ id, example }) => ({ id, file_name: nameOf(example.image, folder) }));
  const captions = captioned.flatMap(({ id, example }) => example.captions.map((caption) => ({ image_id: id, caption })));
  const annotations = captions.map((each, index) => ({ id: index + 1, ...each }));
  // coco-caption copies licenses and type, and fails where there are none.
  const rest = JSON.stringify({ licenses: [], type: 'captions', images, annotations });
  return replaceFile(file, Buffer.from(`${MARK},${rest.slice(1)}\n`));
}

function nameOf(image: string | null, folder: string): string {
  return relative(folder, image ?? folder);
}

/** Why a file cannot be written at this path; makes the folder that it would stand in. */
async function faultOf(path: string): Promise<string | undefined> {
  try {
    if ((await stat(path).catch(() => undefined))?.isDirectory()) return `a folder, ${path}`;
    await mkdir(dirname(path), { recursive: true });
    await access(dirname(path), constants.W_OK);
    return undefined;
  } catch (error) {
    return `${path} (${error instanceof Error && 'code' in error ? String(error.code) : String(error)})`;
  }
}

async function isReplaceable(path: string, mark: string): Promise<boolean> {
  const content = await readFile(path).catch(() => undefined);
  return content === undefined || content.subarray(0, mark.length).toString() === mark;
}
