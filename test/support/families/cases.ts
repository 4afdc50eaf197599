/**
 * What transformers and PEFT computed, as fixtures hold it, found by what lies in test/fixtures/backbone: a family whose script writes the same
 * files is measured without a line here.
 *
 *   FOLDER/expected/NAME.safetensors    ids and logits of the language checkpoint FOLDER/NAME; or FOLDER/expected.safetensors, NAME.ids and NAME.logits
 *   FOLDER/adapters/NAME-METHOD         an adapter that PEFT saved, and FOLDER/adapted/NAME-METHOD.safetensors: rows, logits, loss and gradients
 *   FOLDER/cases.json                   runs of vision checkpoints, whose features FOLDER/expected.safetensors has, and gradients of one of them
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { toFloat32 } from '../../../src/tensor/convert.js';
import { decodeSafetensors } from '../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../src/tensor/tensor.js';
import type { VisionCase } from '../vision.js';

const FIXTURES = fileURLToPath(new URL('../../fixtures/', import.meta.url));
const BACKBONES = join(FIXTURES, 'backbone');

interface Case {
  readonly name: string;
  /** The checkpoint's. */
  readonly folder: string;
  /** As config.json has it. */
  readonly type: string;
}

export interface LanguageCase extends Case {
  readonly ids: readonly (readonly number[])[];
  readonly logits: Float32Array; // [rows, tokens, vocabulary]
  /** Of rotary positions; null where the fixture has none. */
  readonly frequencies: Float32Array | null;
}

export interface AdaptedCase extends Case {
  readonly method: 'lora' | 'ia3';
  /** What PEFT saved. */
  readonly adapter: string;
  readonly rows: readonly (readonly number[])[];
  readonly logits: Float32Array;
  readonly loss: number;
  /** By the names in the adapter's file. */
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

export interface FeatureCase extends Case {
  readonly run: VisionCase;
  readonly features: Float32Array;
  readonly shape: readonly number[]; // [tokens, imageDim]
}

/** Gradients of the sum of a checkpoint's features, each times its place of `wave`. */
export interface FeatureGradients extends Case {
  readonly size: readonly [number, number];
  /** By the tensor's name, without what the checkpoint puts before it. */
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

export interface PixelCase {
  readonly name: string;
  /** The image's path. */
  readonly picture: string;
  /** preprocessor_config.json. */
  readonly config: object;
  readonly pixels: Float32Array; // [3, height, width]
  readonly shape: readonly number[];
}

const json = (file: string): unknown => JSON.parse(readFileSync(file, 'utf8'));
const tensorsOf = (file: string): ReadonlyMap<string, Tensor> => decodeSafetensors(readFileSync(file), file).tensors;
const numbers = (tensors: ReadonlyMap<string, Tensor>, name: string): Float32Array => {
  const tensor = tensors.get(name);
  if (!tensor) throw new RangeError(`Expected a tensor ${name} in a fixture but received ${[...tensors.keys()].join(', ')}`);
  return toFloat32(tensor);
};

const folders = (): string[] =>
  readdirSync(BACKBONES, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(BACKBONES, name))
    .sort();
const caseOf = (folder: string, name: string): Case => ({
  name,
  folder: join(folder, name),
  type: (json(join(folder, name, 'config.json')) as { model_type: string }).model_type,
});
const namesIn = (folder: string): string[] =>
  existsSync(folder)
    ? readdirSync(folder)
        .filter((file) => file.endsWith('.safetensors'))
        .map((file) => basename(file, '.safetensors'))
        .sort()
    : [];

/** Token ids as rows. */
function rowsOf(tensor: Tensor | undefined): number[][] {
  if (!tensor) throw new RangeError('Expected token ids in a fixture but received none');
  const { dtype, shape, data } = tensor;
  const [rows = 0, tokens = 0] = shape;
  const bytes = new Uint8Array(data).buffer;
  const flat = dtype === 'int64' ? Array.from(new BigInt64Array(bytes), Number) : [...new Int32Array(bytes)];
  return Array.from({ length: rows }, (_, row) => flat.slice(row * tokens, (row + 1) * tokens));
}

export function languageCases(): LanguageCase[] {
  return folders().flatMap((folder) => {
    const apart = namesIn(join(folder, 'expected')).map((name): LanguageCase => {
      const tensors = tensorsOf(join(folder, 'expected', `${name}.safetensors`));
      const frequencies = tensors.has('frequencies') ? numbers(tensors, 'frequencies') : null;
      return { ...caseOf(folder, name), ids: rowsOf(tensors.get('ids')), logits: numbers(tensors, 'logits'), frequencies };
    });
    const whole = join(folder, 'expected.safetensors');
    if (!existsSync(whole)) return apart;
    const tensors = tensorsOf(whole);
    const names = [...tensors.keys()].filter((key) => key.endsWith('.logits')).map((key) => key.replace(/\.logits$/, ''));
    const together = names.map(
      (name): LanguageCase => ({
        ...caseOf(folder, name),
        ids: rowsOf(tensors.get(`${name}.ids`)),
        logits: numbers(tensors, `${name}.logits`),
        frequencies: null,
      }),
    );
    return [...apart, ...together];
  });
}

export function adaptedCases(): AdaptedCase[] {
  return folders().flatMap((folder) =>
    namesIn(join(folder, 'adapted')).map((name): AdaptedCase => {
      const [, checkpoint = '', method = ''] = /^(.+)-(lora|ia3)$/.exec(name) ?? [];
      const tensors = tensorsOf(join(folder, 'adapted', `${name}.safetensors`));
      const trained = [...tensors.keys()].filter((key) => key.startsWith('base_model.'));
      return {
        ...caseOf(folder, checkpoint),
        name,
        method: method as AdaptedCase['method'],
        adapter: join(folder, 'adapters', name),
        rows: rowsOf(tensors.get('rows')),
        logits: numbers(tensors, 'logits'),
        loss: numbers(tensors, 'loss')[0] ?? Number.NaN,
        gradients: new Map(trained.map((key) => [key, numbers(tensors, key)])),
      };
    }),
  );
}

/** Folders of vision checkpoints: where cases.json names runs by their weights. */
function visionFolders(): { folder: string; cases: Record<string, VisionCase>; tensors: ReadonlyMap<string, Tensor> }[] {
  return folders().flatMap((folder) => {
    const file = join(folder, 'cases.json');
    if (!existsSync(file)) return [];
    const cases = json(file) as Record<string, VisionCase>;
    if (!Object.values(cases).every(({ weights }) => typeof weights === 'string')) return [];
    return [{ folder, cases, tensors: tensorsOf(join(folder, 'expected.safetensors')) }];
  });
}

/** Of one folder of fixtures, or of all. */
export function featureCases(only?: string): FeatureCase[] {
  const chosen = visionFolders().filter(({ folder }) => only === undefined || basename(folder) === only);
  return chosen.flatMap(({ folder, cases, tensors }) =>
    Object.entries(cases).map(([name, run]) => ({
      ...caseOf(folder, run.weights),
      name,
      run,
      features: numbers(tensors, name),
      shape: tensors.get(name)?.shape ?? [],
    })),
  );
}

export function featureGradients(): FeatureGradients[] {
  const before = 'gradient.';
  return visionFolders().flatMap(({ folder, cases, tensors }) => {
    const keys = [...tensors.keys()].filter((key) => key.startsWith(before));
    if (keys.length === 0) return [];
    const gradients = new Map(keys.map((key) => [key.slice(before.length), numbers(tensors, key)]));
    const [first = ''] = gradients.keys();
    // They are of the checkpoint whose tensors have these names behind the family's.
    for (const { weights, size } of Object.values(cases)) {
      const one = caseOf(folder, weights);
      const own = tensorsOf(join(one.folder, 'model.safetensors'));
      if (size && own.has(`${one.type}.${first}`)) return [{ ...one, size, gradients }];
    }
    throw new RangeError(`Expected a checkpoint of the gradients in ${folder} but received none`);
  });
}

interface Processors {
  readonly pictures: readonly string[];
  readonly processors: Readonly<Record<string, object>>;
  /** Names of processors by model_type. */
  readonly families: Readonly<Record<string, readonly string[]>>;
}

const PROCESSORS = join(BACKBONES, 'processors');

/** Processors of each vision family. */
export const processorsOf = (): Processors['families'] => (json(join(PROCESSORS, 'cases.json')) as Processors).families;

export function pixelCases(): PixelCase[] {
  const { pictures, processors } = json(join(PROCESSORS, 'cases.json')) as Processors;
  const tensors = tensorsOf(join(PROCESSORS, 'expected.safetensors'));
  return Object.entries(processors).flatMap(([processor, config]) =>
    pictures.map((picture) => {
      const name = `${processor} ${picture}`;
      const shape = tensors.get(name)?.shape ?? [];
      return { name, picture: join(FIXTURES, 'images', picture), config, pixels: numbers(tensors, name), shape };
    }),
  );
}

/** PEFT's own choice of modules by method and model_type: names, or one regular expression. */
export const targetsOfPeft = (): Targets => json(join(FIXTURES, 'peft', 'targets', 'targets.json')) as Targets;

type Targets = Readonly<Record<'lora' | 'ia3', Readonly<Record<string, readonly string[] | string>>>>;

/** Which versions of a library wrote fixtures, by its name, each once. */
export function versionsUsed(): ReadonlyMap<string, readonly string[]> {
  const files = [BACKBONES, ...folders(), join(FIXTURES, 'peft', 'targets')].map((folder) => join(folder, 'versions.json'));
  const versions = new Map<string, Set<string>>();
  for (const file of files.filter((each) => existsSync(each)))
    for (const [library, version] of Object.entries(json(file) as Record<string, string>))
      versions.set(library, (versions.get(library) ?? new Set<string>()).add(version));
  return new Map([...versions].map(([library, all]) => [library, [...all].sort()]));
}

/** Every checkpoint folder among the fixtures. */
export function checkpointFolders(): string[] {
  const files = readdirSync(BACKBONES, { recursive: true, encoding: 'utf8' }).map((file) => join(BACKBONES, file));
  const isWeights = (name: string): boolean => /^model(\.safetensors|\.safetensors\.index\.json)$/.test(name);
  const found = files.filter((file) => isWeights(basename(file))).map((file) => dirname(file));
  return [...new Set([...found, join(FIXTURES, 'peft', 'checkpoint')])].sort();
}
