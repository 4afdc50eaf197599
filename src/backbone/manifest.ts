/**
 * Which two checkpoints make a backbone: `backbone.json`, or a bare language checkpoint folder for text only.
 * Read by the front end (for its tokenizer and image processor) and by the engine, so it is small and touches no weights.
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { AppError } from '../errors.js';
import { parseWith, readJson, requireJson } from './config.js';
import { choiceFaults, choiceOf, type FeatureChoice, featureFields } from './vision/features.js';

const FILE = 'backbone.json';

export interface BackboneManifest {
  /** What `GET /v1/models` and replies call it. */
  readonly name: string;
  /** Absolute. */
  readonly languageFolder: string;
  /** Absolute; null for a backbone that takes text only. */
  readonly visionFolder: string | null;
  /** Which of the encoder's features; absent where its family decides. */
  readonly visionFeatures?: FeatureChoice;
}

const text = (what: string) =>
  z.string({ error: (issue) => `Expected ${what} but received ${JSON.stringify(issue.input) ?? 'nothing'}` });

const Manifest = z.strictObject({
  format: z.literal('graft-backbone/1', {
    error: (issue) => `Expected "graft-backbone/1" but received ${JSON.stringify(issue.input) ?? 'nothing'}`,
  }),
  name: text('a name').regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, {
    error: (issue) => `Expected letters, digits, ".", "_" or "-" (at most 128) but received ${JSON.stringify(issue.input)}`,
  }),
  language: text('the path of a language checkpoint folder').min(1),
  vision: text('the path of a vision checkpoint folder').min(1).nullish(),
  ...featureFields,
});

/** What a file says of a backbone, and what of it is not where it should be. */
export interface LocatedBackbone {
  readonly manifest: BackboneManifest;
  /** The file, which opens the message of its faults. */
  readonly file: string;
  readonly faults: readonly string[];
}

/**
 * Reads a backbone from its folder, its `backbone.json`, or a Hugging Face language folder (then text only, named after the folder).
 * Throws `invalid_file` naming every fault.
 */
export async function readBackbone(location: string): Promise<BackboneManifest> {
  const { manifest, file, faults } = await locateBackbone(location);
  if (faults.length > 0) throw AppError.ofFaults('invalid_file', file, faults);
  return manifest;
}

/** The same for who goes on with what is there. Throws `invalid_file` only where nothing is said of any checkpoint. */
export async function locateBackbone(location: string): Promise<LocatedBackbone> {
  const absolute = path.resolve(location);
  const info = await stat(absolute).catch(() => undefined);
  if (!info) throw new AppError('invalid_file', `Expected a backbone folder or ${FILE} at ${absolute} but there is nothing`);
  if (!info.isDirectory()) return readManifest(path.dirname(absolute), path.basename(absolute));
  if (await exists(path.join(absolute, FILE))) return readManifest(absolute, FILE);

  const config = await readJson(absolute, 'config.json');
  if (config !== undefined) {
    const manifest = { name: path.basename(absolute), languageFolder: absolute, visionFolder: null };
    return { manifest, file: path.join(absolute, 'config.json'), faults: [] };
  }
  throw new AppError(
    'invalid_file',
    `${absolute}: Expected a ${FILE}, or a language checkpoint's config.json, but there is neither`,
  );
}

async function readManifest(folder: string, name: string): Promise<LocatedBackbone> {
  const file = path.join(folder, name);
  const manifest = parseWith(Manifest, await requireJson(folder, name), file);
  const languageFolder = path.resolve(folder, manifest.language);
  const visionFolder = manifest.vision == null ? null : path.resolve(folder, manifest.vision);

  const choice = choiceOf(file, manifest);
  const faults = choice && visionFolder === null ? choiceFaults(choice, 'there is no vision encoder') : [];
  for (const [key, checkpoint] of Object.entries({ language: languageFolder, vision: visionFolder })) {
    if (checkpoint !== null && !(await exists(path.join(checkpoint, 'config.json')))) {
      faults.push(`${key}: Expected a checkpoint folder with config.json at ${checkpoint} but there is none`);
    }
  }
  const parts = { name: manifest.name, languageFolder, visionFolder, ...(choice && { visionFeatures: choice }) };
  return { manifest: parts, file, faults };
}

async function exists(file: string): Promise<boolean> {
  const info = await stat(file).catch(() => undefined);
  return info?.isFile() ?? false;
}
