/** What the default backbone and its adapters are made with: every number that is not in the code that uses it. */
import type { Task } from './captions.js';

/** Seeds are apart, so that no picture is in two sets. */
export const SEEDS = { text: 5, pictures: 6, heldOutPictures: 7, captions: 8, examination: 9, rates: 10 } as const;

export const TEXT = { scenes: 20_000 } as const;

/** Flags of `graft train` for the decoder. */
export const DECODER = {
  method: 'full',
  init: 'random',
  dtype: 'float16',
  lr: '0.004',
  weightDecay: '0.01',
  batch: '32',
  epochs: '4',
  holdout: '500',
  evalEvery: '1000',
  checkpointEvery: '1000',
  samples: '0',
} as const;

export const ENCODER = { pictures: 60_000, heldOut: 500, batch: 16, epochs: 10, rate: 0.0015 } as const;

/** Captioned pictures that every adapter learns from. */
export const CAPTIONED = { pictures: 8_000, heldOut: 200 } as const;

/** Pictures of captions and of the examination are larger than what the encoder sees, as those of users are. */
export const PICTURE = { size: 256 } as const;
/** Pictures that no part of anything was trained on. */
export const EXAMINED = 500;

/** Trainings at once, a thread each. */
export const ADAPTERS_AT_ONCE = 2;
/** Flags that adapters share. */
const COMMON = { batch: '16', epochs: '3', evalEvery: '1000', checkpointEvery: '1000', samples: '12', dtype: 'float16' } as const;
const LORA = { ...COMMON, method: 'lora', rank: '8', lr: '0.007' } as const;
/** Another language takes longer than another way of speaking the same. */
const LONG = { ...LORA, epochs: '4' } as const;
const SHORT = { ...LORA, epochs: '2', lr: '0.005' } as const;

export interface AdapterRecipe {
  readonly task: Task;
  /** Whose adapter it begins with: what that one learned of reading pictures need not be learned again. */
  readonly from?: Task;
  readonly about: string;
  readonly flags: Readonly<Record<string, string>>;
}

export const ADAPTERS: readonly AdapterRecipe[] = [
  { task: 'english', about: 'A full sentence in English', flags: LORA },
  { task: 'french', from: 'english', about: 'The same in French', flags: LONG },
  { task: 'german', from: 'english', about: 'The same in German', flags: LONG },
  { task: 'pirate', from: 'english', about: 'A house style: English as it is spoken at sea', flags: SHORT },
  { task: 'alt', from: 'english', about: 'A short alt text', flags: SHORT },
  { task: 'counting', from: 'english', about: 'What there is, and how many of each', flags: SHORT },
  { task: 'relations', from: 'english', about: 'What stands where', flags: SHORT },
  { task: 'colours', from: 'english', about: 'The colours', flags: { ...COMMON, method: 'ia3', lr: '0.015' } },
  { task: 'tags', from: 'english', about: 'Comma-separated tags', flags: { ...COMMON, method: 'bitfit', lr: '0.03' } },
];
