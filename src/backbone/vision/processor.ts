/**
 * Reads `preprocessor_config.json`: what transformers' image processor would do to a photo, as a recipe for the image process (geometry) and
 * numbers for the graph (arithmetic). The reference is its PIL backend. What is not implemented is refused by name, never skipped:
 * a wrong resize gives no error later, only worse captions.
 */
import { z } from 'zod';
import { AppError } from '../../errors.js';
import { describeIssue, requireJson } from '../config.js';
import type { Normalisation, PixelRecipe, Resample, Resize } from './recipe.js';

const FILE = 'preprocessor_config.json';

/** What a processor class does where the file is silent. */
interface Defaults {
  readonly size: Size | null;
  /** Whether a plain number as size is both edges, or the shorter one. */
  readonly square: boolean;
  readonly resample: number;
  readonly centreCrop: boolean;
  readonly mean: readonly number[] | null;
  readonly std: readonly number[] | null;
}

const HALF = [0.5, 0.5, 0.5];
const CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD = [0.26862954, 0.26130258, 0.27577711];
const CROP = 224;

const VIT: Defaults = { size: { height: 224, width: 224 }, square: true, resample: 2, centreCrop: false, mean: HALF, std: HALF };
const CLIP: Defaults = {
  size: { shortest_edge: 224 },
  square: false,
  resample: 3,
  centreCrop: true,
  mean: CLIP_MEAN,
  std: CLIP_STD,
};
const MOBILENET: Defaults = { size: { shortest_edge: 256 }, square: false, resample: 2, centreCrop: true, mean: HALF, std: HALF };

/** By class name without its ending; all crop to 224 × 224 where they crop, rescale by 1/255 and normalise. */
const PROCESSORS: ReadonlyMap<string, Defaults> = new Map([
  ['ViT', VIT],
  ['Beit', { ...VIT, resample: 3 }],
  ['DeiT', { ...VIT, size: { height: 256, width: 256 }, resample: 3, centreCrop: true }],
  ['Siglip', { ...VIT, square: false, resample: 3 }],
  ['Blip', { ...VIT, size: { height: 384, width: 384 }, resample: 3, mean: CLIP_MEAN, std: CLIP_STD }],
  ['CLIP', CLIP],
  ['ChineseCLIP', CLIP],
  ['Bit', CLIP],
  ['MobileNetV1', MOBILENET],
  ['MobileNetV2', MOBILENET],
]);

/** For a file that names no class: nothing is assumed that differs between classes. */
const UNNAMED: Defaults = { size: null, square: true, resample: 2, centreCrop: false, mean: null, std: null };

/** PIL's numbers. */
const RESAMPLES: ReadonlyMap<number, Resample> = new Map([
  [0, 'nearest'],
  [1, 'lanczos'],
  [2, 'bilinear'],
  [3, 'bicubic'],
]);

/** Steps that are read, or change nothing here: pixels are always RGB, and labels belong to segmentation. */
const KNOWN_STEPS = new Set(['do_resize', 'do_center_crop', 'do_rescale', 'do_normalize', 'do_convert_rgb', 'do_reduce_labels']);
/** Settings that change what a known step does. */
const REFUSED = [
  'crop_pct',
  'rescale_offset',
  'include_top',
  'size_divisor',
  'keep_aspect_ratio',
  'ensure_multiple_of',
  'pad_size',
];

/** Pixels of an edge; more is a mistake, and would be memory for every image. */
const MAX_EDGE = 4096;
const edge = z.int().min(1).max(MAX_EDGE);
const exact = z.strictObject({ height: edge, width: edge });
type Size = z.output<typeof exact> | { readonly shortest_edge: number };

const expected = (what: string) => ({
  error: ({ input }: { readonly input?: unknown }) => `Expected ${what} but received ${JSON.stringify(input) ?? 'nothing'}`,
});

/** One sentence about the whole value, whichever part of it is wrong. */
const whole = <Out, In>(schema: z.ZodType<Out, In>, what: string) =>
  z.custom<In>((value) => schema.safeParse(value).success, expected(what)).pipe(schema);

const step = z.boolean(expected('true or false')).nullish();
const pair = z.tuple([edge, edge]).transform(([height, width]) => ({ height, width }));
const EDGES = `[height, width] or a number, each from 1 to ${MAX_EDGE},`;
const size = whole(
  z.union([edge, pair, exact, z.strictObject({ shortest_edge: edge })]),
  `{height, width}, {shortest_edge}, ${EDGES}`,
);
const cropSize = whole(z.union([edge, pair, exact]), `{height, width}, ${EDGES}`);
const triple = whole(
  z.union([z.tuple([z.number(), z.number(), z.number()]), z.number().transform((value) => [value, value, value])]),
  'three numbers or one',
);

const SCHEMA = z.looseObject(
  {
    image_processor_type: z.string().nullish(),
    feature_extractor_type: z.string().nullish(),
    do_resize: step,
    size: size.nullish(),
    resample: z
      .literal([...RESAMPLES.keys()], expected('resample 0 (nearest), 1 (lanczos), 2 (bilinear) or 3 (bicubic)'))
      .nullish(),
    do_center_crop: step,
    crop_size: cropSize.nullish(),
    do_rescale: step,
    rescale_factor: z.number().positive(expected('a positive number')).nullish(),
    do_normalize: step,
    image_mean: triple.nullish(),
    image_std: triple.refine((std) => std.every((value) => value > 0), expected('positive numbers')).nullish(),
    do_convert_rgb: step,
  },
  expected('an object'),
);
type File = z.output<typeof SCHEMA>;

export interface Processor {
  readonly recipe: PixelRecipe;
  readonly normalisation: Normalisation;
}

/**
 * Reads the folder's `preprocessor_config.json`. Throws AppError, with all faults: `invalid_file` for what is malformed,
 * `unsupported_model` for what is well formed and not implemented here.
 */
export async function readProcessor(folder: string): Promise<Processor> {
  return parseProcessor(await requireJson(folder, FILE), `${folder}/${FILE}`);
}

/** The same from the parsed file; `subject` opens the error message. */
export function parseProcessor(value: unknown, subject: string): Processor {
  const parsed = SCHEMA.safeParse(value, { error: describeIssue });
  const unsupported = typeof value === 'object' && value !== null ? unsupportedSettings(new Map(Object.entries(value))) : [];
  if (!parsed.success) {
    const malformed = parsed.error.issues.map(({ path, message }) =>
      path.length > 0 ? `${path.join('.')}: ${message}` : message,
    );
    throw AppError.ofFaults('invalid_file', subject, [...malformed, ...unsupported]);
  }
  const file = parsed.data;
  const defaults = PROCESSORS.get(className(file) ?? '') ?? UNNAMED;
  const faults: string[] = [...unsupported];
  const recipe = recipeOf(file, defaults, faults);
  const normalisation = normalisationOf(file, defaults, faults);
  if (recipe === null || faults.length > 0) throw AppError.ofFaults('unsupported_model', subject, faults);
  return { recipe, normalisation };
}

/** 'CLIP' for CLIPImageProcessor, CLIPImageProcessorFast and CLIPFeatureExtractor; undefined where the file names none. */
function className(file: Pick<File, 'image_processor_type' | 'feature_extractor_type'>): string | undefined {
  const name = file.image_processor_type ?? file.feature_extractor_type ?? undefined;
  return name?.replace(/(ImageProcessor(Fast|Pil)?|FeatureExtractor)$/, '');
}

/** Faults for everything that the file asks for and nobody here would do. */
function unsupportedSettings(file: ReadonlyMap<string, unknown>): string[] {
  const faults: string[] = [];
  for (const key of ['image_processor_type', 'feature_extractor_type']) {
    const name = file.get(key);
    if (typeof name !== 'string' || PROCESSORS.has(className({ image_processor_type: name }) ?? '')) continue;
    faults.push(
      `${key}: Expected an image processor of ${[...PROCESSORS.keys()].join(', ')} but received ${JSON.stringify(name)}`,
    );
  }
  for (const [key, value] of file) {
    const on = value !== null && value !== false;
    if (on && ((key.startsWith('do_') && !KNOWN_STEPS.has(key)) || REFUSED.includes(key))) {
      faults.push(`${key}: Expected none or false (not implemented) but received ${JSON.stringify(value)}`);
    }
  }
  return faults;
}

function recipeOf(file: File, defaults: Defaults, faults: string[]): PixelRecipe | null {
  const resize = (file.do_resize ?? true) ? resizeOf(file.size ?? defaults.size, defaults.square) : null;
  if (resize === undefined) {
    faults.push('size: Expected a size to resize to but received nothing');
    return null;
  }
  const crop = (file.do_center_crop ?? defaults.centreCrop) ? squareOf(file.crop_size ?? CROP) : null;
  const output = crop ?? (resize?.kind === 'exact' ? resize : null);
  if (output === null) {
    const fields = JSON.stringify({ do_resize: file.do_resize, size: file.size, do_center_crop: file.do_center_crop });
    faults.push(
      `size, do_center_crop: Expected one output size for all images (an exact size, or a crop) but received ${fields}`,
    );
    return null;
  }
  const resample = RESAMPLES.get(file.resample ?? defaults.resample) ?? 'bilinear';
  return { resize, resample, crop, height: output.height, width: output.width };
}

function resizeOf(size: Size | number | null, square: boolean): Resize | undefined {
  if (size === null) return undefined;
  if (typeof size === 'number')
    return square ? { kind: 'exact', height: size, width: size } : { kind: 'shortest_edge', edge: size };
  if ('shortest_edge' in size) return { kind: 'shortest_edge', edge: size.shortest_edge };
  return { kind: 'exact', height: size.height, width: size.width };
}

function squareOf(size: number | z.output<typeof exact>): z.output<typeof exact> {
  return typeof size === 'number' ? { height: size, width: size } : size;
}

function normalisationOf(file: File, defaults: Defaults, faults: string[]): Normalisation {
  const rescale = (file.do_rescale ?? true) ? (file.rescale_factor ?? 1 / 255) : 1;
  if (file.do_normalize === false) return { rescale, mean: [0, 0, 0], std: [1, 1, 1] };
  return {
    rescale,
    mean: three(file.image_mean ?? defaults.mean, 'image_mean', faults),
    std: three(file.image_std ?? defaults.std, 'image_std', faults),
  };
}

function three(values: readonly number[] | null, name: string, faults: string[]): [number, number, number] {
  if (values === null) faults.push(`${name}: Expected three numbers to normalise with but received nothing`);
  const [red = 0, green = 0, blue = 0] = values ?? [];
  return [red, green, blue];
}
