/** Every setting of a training run, in one table: its flag, its help, what it may be and what it is unless told. */
import { availableParallelism } from 'node:os';
import {
  anyText,
  choice,
  integer,
  kebab,
  list,
  location,
  namedNumbers,
  number,
  optional,
  parseFlags,
  text,
  toggle,
} from '../settings.js';
import { WRITTEN_DTYPES } from '../tensor/convert.js';

export const TRAIN_SETTINGS = {
  backbone: location('Backbone to train on: a folder with backbone.json, that file, or a language checkpoint folder (text only)'),
  data: location(
    'Captioned images: a .jsonl file, a folder with metadata.jsonl or captions.jsonl, COCO captions .json, or a .txt of plain text',
  ),
  out: location('Folder of the adapter that comes out, such as adapters/alt-text (method full: of the backbone)'),
  images: { ...optional(location('Folder of the images, where they do not lie beside the data')), default: null },
  validation: { ...optional(location('Held-out data of its own; without it a part of the data is held out')), default: null },
  holdout: { ...number(0, 1e9, 'Images to hold out: a share below 1, or a count; 0 for none'), default: 0.02 },
  normalize: {
    ...choice(['none', 'caption'], 'none, or caption: lower case, no space before punctuation, one full stop at the end'),
    default: 'none' as const,
  },
  strict: { ...toggle('Refuse data with rows that cannot be used, instead of leaving those out'), default: false },

  method: {
    ...choice(
      ['lora', 'bitfit', 'ia3', 'none', 'full'],
      'lora, bitfit, ia3, none (projector only) or full (all language weights)',
    ),
    default: 'lora' as const,
  },
  contexts: {
    ...optional(list('image,text, either, or agnostic: one group for every token; default: all of the backbone')),
    default: null,
  },
  sites: { ...list('attention, ffn or both'), default: ['attention', 'ffn'] },
  targetModules: { ...optional(list('Modules within the sites; default: all that the method can change')), default: null },
  rank: { ...namedNumbers('LoRA rank: 8, or image=4,text=16 (default 8)'), default: { common: undefined, own: new Map() } },
  alpha: { ...namedNumbers('LoRA alpha, likewise (default: the rank)'), default: { common: undefined, own: new Map() } },
  init: {
    ...choice(['checkpoint', 'random'], 'Where method full begins: checkpoint, or random (config.json and tokenizer only)'),
    default: 'checkpoint' as const,
  },
  from: {
    ...optional(location('Adapter folder to begin with: all of it, or its projector where the method is another')),
    default: null,
  },
  task: { ...optional(text('What the adapter is for, for those who list it')), default: null },
  dtype: {
    ...choice(WRITTEN_DTYPES, 'float32, float16 or bfloat16: what the result is written as; training computes in float32'),
    default: 'float32' as const,
  },
  prompt: { ...anyText('Task prompt after the image, before the caption'), default: '' },

  steps: { ...optional(integer(1, 1e9, 'Updates; default: as --epochs says')), default: null },
  epochs: { ...number(0.001, 1e6, 'Passes over the data, where --steps is not given'), default: 3 },
  batch: { ...integer(1, 65_536, 'Captions a step and part'), default: 32 },
  accumulate: { ...integer(1, 65_536, 'Parts of a step: their gradients add up before the update'), default: 1 },
  lr: { ...number(0, 10, 'Highest learning rate'), default: 2e-3 },
  schedule: {
    ...choice(['cosine', 'constant'], 'cosine or constant: course of the learning rate after the warm-up'),
    default: 'cosine' as const,
  },
  warmup: {
    ...optional(integer(0, 1e9, 'Steps of linear warm-up; default: a tenth of all, at most 100')),
    default: null,
  },
  floor: { ...number(0, 1, 'Where the cosine ends, as a share of the highest rate'), default: 0.05 },
  clip: { ...optional(number(1e-9, 1e9, 'Largest length of the gradient, longer ones are scaled down; or none')), default: 1 },
  weightDecay: { ...number(0, 10, 'Decoupled weight decay of matrices'), default: 0 },
  dropout: { ...number(0, 0.95, 'Dropout of image features before their projection'), default: 0 },
  residualDropout: { ...number(0, 0.95, 'Dropout of every branch before it joins the residual stream'), default: 0 },
  seed: { ...integer(0, Number.MAX_SAFE_INTEGER, 'Of everything that is drawn: equal seeds, equal adapters'), default: 0 },
  flip: { ...toggle('Also train on mirror images'), default: false },
  crop: { ...toggle('Also train on parts of the images'), default: false },
  views: { ...integer(2, 64, 'With --flip or --crop: views of each image, the plain one included'), default: 4 },

  evalEvery: { ...integer(1, 1e9, 'Steps between two evaluations'), default: 200 },
  evalCaptions: {
    ...choice(['first', 'all'], 'first or all: captions of each held-out image that count'),
    default: 'first' as const,
  },
  patience: { ...optional(integer(1, 1e6, 'Stop after so many evaluations without a better one')), default: null },
  checkpointEvery: { ...integer(1, 1e9, 'Steps between two checkpoints'), default: 200 },
  resume: { ...toggle('Go on from the last checkpoint of the run folder'), default: false },
  replace: { ...toggle('Put the result in the place of the adapter (or trained backbone) that is at --out'), default: false },
  restart: { ...toggle('Begin again where the run folder holds an earlier run, whose checkpoint is lost'), default: false },
  run: { ...optional(location('Folder for checkpoints, log and report; default runs/NAME')), default: null },
  cache: { ...location('Folder in which encoded images are kept'), default: '.graft-cache' },
  maxImagePixels: { ...integer(1, 1e9, 'Most pixels of an image, all its frames together'), default: 200_000_000 },
  maxTokens: {
    ...optional(integer(8, 1_048_576, 'Longest row, image included; default: what the checkpoint was made for, at most 512')),
    default: null,
  },
  recompute: { ...toggle('Compute activations again instead of keeping them: less memory, more time'), default: false },
  threads: { ...integer(1, 1024, 'Threads that compute'), default: availableParallelism() },
  samples: { ...integer(0, 1000, 'Held-out images to caption for the report'), default: 12 },
} as const;

/** Headings of `--help`, each above the setting that it begins with. */
export const TRAIN_HEADINGS: Readonly<Record<string, string>> = {
  backbone: 'Data, and what comes out:',
  method: 'What is trained:',
  steps: 'How it is trained:',
  evalEvery: 'The run:',
};

export type TrainOptions = ReturnType<typeof parseTrainOptions>;

/** Reads a training run's flags. Throws `invalid_config` naming every wrong one. */
export function parseTrainOptions(flags: Readonly<Record<string, unknown>>, folder: string) {
  return parseFlags(TRAIN_SETTINGS, flags, folder);
}

/** Settings that change nothing in what is computed: a run may resume with others. */
const INDIFFERENT = new Set([
  // Digests of what lies there say more than where it lies.
  'backbone',
  'data',
  'images',
  'validation',
  'from',
  'out',
  'resume',
  'replace',
  'restart',
  'run',
  'cache',
  // The digest of the data tells which images were taken.
  'maxImagePixels',
  'strict',
  'samples',
  'task',
  // Changes what is written, after the last step.
  'dtype',
  'checkpointEvery',
  // The same numbers to the bit, so a run that ran out of memory can go on with it.
  'recompute',
  'threads',
]);

/** What must be the same for a run to go on as if it had never stopped, by flag, as text. In a list no order means anything. */
export function identityOf(options: TrainOptions): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(options)
      .filter(([name]) => !INDIFFERENT.has(name))
      .map(([name, value]) => [
        `--${kebab(name)}`,
        JSON.stringify(Array.isArray(value) ? [...value].sort() : (plain(value) ?? 'none')),
      ]),
  );
}

/** A setting as it may stand in JSON. */
export function plain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('own' in value && value.own instanceof Map)) return value;
  const { common, own } = value as { common: number | undefined; own: ReadonlyMap<string, number> };
  const named = [...own].map(([name, number]) => `${name}=${number}`).sort();
  return [...(common === undefined ? [] : [common]), ...named].join() || null;
}
