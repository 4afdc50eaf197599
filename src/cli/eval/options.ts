/** Every setting of the two evaluations: its flag, its help, what it may be and what it is unless told. Light, for the help reads it. */
import { availableParallelism } from 'node:os';
import { choice, integer, location, optional, parseFlags, toggle, weightSettings } from '../../settings.js';

const json = { ...toggle('Print one JSON object'), default: false };

export const EVAL_SETTINGS = {
  backbone: location(
    'Backbone that the adapter is for: a folder with backbone.json, that file, or a language checkpoint folder (text only)',
  ),
  adapter: { ...optional(location('Folder of the adapter; without one, the bare backbone on text')), default: null },
  data: location('Captioned images or text, as graft train takes them: a .jsonl file, a folder of such, COCO .json, or .txt'),
  images: { ...optional(location('Folder of the images, where they do not lie beside the data')), default: null },
  normalize: {
    ...choice(['none', 'caption'], 'none, or caption (lower case, one full stop at the end): for perplexity, as in training'),
    default: 'none' as const,
  },
  captions: {
    ...choice(['first', 'all'], 'first or all: captions of each image that count for perplexity'),
    default: 'first' as const,
  },
  numBeams: { ...integer(1, 64, 'Beams of the search for a caption; 1 is greedy'), default: 1 },
  maxTokens: { ...integer(1, 1_048_576, 'Tokens of the longest caption that is written'), default: 48 },
  limit: { ...optional(integer(1, 1e9, 'Take only the first images, or lines of text')), default: null },
  batch: { ...integer(1, 1024, 'Captions at once'), default: 16 },
  threads: { ...integer(1, 1024, 'Threads that compute'), default: availableParallelism() },
  ...weightSettings,
  results: { ...optional(location('Write the captions to this file, as COCO results')), default: null },
  references: { ...optional(location('Write the references to this file, as COCO annotations of the same ids')), default: null },
  json,
} as const;

export type EvalOptions = ReturnType<typeof parseEvalOptions>;

/** Throws AppError `invalid_config` naming every option that is wrong. */
export function parseEvalOptions(flags: Readonly<Record<string, unknown>>, folder: string) {
  return parseFlags(EVAL_SETTINGS, flags, folder);
}

export const CAPTIONS_SETTINGS = {
  references: location('COCO annotations: {"images": [{"id"}], "annotations": [{"image_id", "caption"}]}'),
  results: location('COCO results: [{"image_id", "caption"}], one an image'),
  json,
} as const;

/** Throws AppError `invalid_config` naming every option that is wrong. */
export function parseCaptionsOptions(flags: Readonly<Record<string, unknown>>, folder: string) {
  return parseFlags(CAPTIONS_SETTINGS, flags, folder);
}
