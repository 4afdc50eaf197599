/** What is in a folder, and whether it will work: a checkpoint, a backbone of two, or an adapter. */
import { readdir, stat } from 'node:fs/promises';
import type { LoadedAdapter } from '../../adapter/adapter.js';
import { CONFIG_FILE, MANIFEST_FILE, TENSORS_FILE } from '../../adapter/manifest.js';
import { type BackboneDescription, describeBackbone } from '../../backbone/backbone.js';
import { readJson, typeOf } from '../../backbone/config.js';
import { locateBackbone, readBackbone } from '../../backbone/manifest.js';
import { VISION_TYPES } from '../../backbone/vision/families.js';
import { AppError } from '../../errors.js';
import { quote } from '../../tensor/json.js';
import { examineAdapter } from './adapter.js';
import { type CheckpointOptions, examineLanguage, examineVision } from './checkpoint.js';
import { Examination, type Part, type PartKind } from './part.js';
import { size } from './words.js';

export interface Diagnosis {
  readonly fits: boolean;
  /** What was asked about first, then what it is made of or goes with. */
  readonly parts: readonly Part[];
  /** Of a backbone, or the one that the adapter was tried on; absent where it does not work. */
  readonly backbone?: BackboneDescription;
  readonly adapter?: LoadedAdapter;
}

export interface DiagnosisOptions extends CheckpointOptions {
  /** Of an adapter: the backbone that it is for. */
  readonly backbone?: string | undefined;
}

/** Examines what is at a place. Throws AppError `invalid_config` where there is nothing, and for a backbone beside what is no adapter. */
export async function diagnose(location: string, options: DiagnosisOptions): Promise<Diagnosis> {
  const kind = await kindOf(location);
  if (kind !== 'adapter' && options.backbone !== undefined)
    throw new AppError('invalid_config', `Expected --backbone beside an adapter but ${location} is none`);
  switch (kind) {
    case 'adapter':
      return diagnoseAdapter(location, options);
    case 'backbone':
      return diagnoseBackbone(location, options);
    case 'language':
      return diagnoseLanguage(location, options);
    case 'vision':
      return diagnosisOf([(await examineVision(location, options)).part]);
    default:
      return diagnoseUnknown(location);
  }
}

/** By the files that are there; undefined where none of them says. Throws AppError `invalid_config` where there is nothing. */
async function kindOf(location: string): Promise<PartKind | undefined> {
  const info = await stat(location).catch(() => undefined);
  if (!info)
    throw new AppError(
      'invalid_config',
      `Expected a folder of an adapter, a backbone or a checkpoint at ${location} but there is nothing`,
    );
  if (!info.isDirectory()) return 'backbone';
  const names = new Set(await readdir(location).catch(() => []));
  if ([MANIFEST_FILE, CONFIG_FILE, TENSORS_FILE, 'adapter_model.bin'].some((name) => names.has(name))) return 'adapter';
  if (names.has('backbone.json')) return 'backbone';
  if (![...names].some((name) => name === 'config.json' || name === 'tokenizer.json' || /^(pytorch_)?model\b/.test(name)))
    return names.has('preprocessor_config.json') ? 'vision' : undefined;
  // What cannot be read is told by who needs it.
  const config = await readJson(location, 'config.json').catch(() => undefined);
  return VISION_TYPES.includes(typeOf(config)) ? 'vision' : 'language';
}

async function diagnoseAdapter(location: string, { backbone: place, deep }: DiagnosisOptions): Promise<Diagnosis> {
  if (place === undefined) return diagnosisOf([(await examineAdapter(location, undefined)).part]);
  const { fits, parts, backbone } = await diagnose(place, { deep });
  if (fits && !backbone)
    throw new AppError('invalid_config', `Expected --backbone to be a backbone but ${place} is of kind ${parts[0]?.kind}`);
  const { part, adapter } = await examineAdapter(location, backbone);
  // A backbone that works was needed, not asked about.
  return { ...diagnosisOf(backbone ? [part] : [part, ...parts]), ...(backbone && { backbone }), ...(adapter && { adapter }) };
}

/** What names two checkpoints: each is examined, whatever is wrong with the other. */
async function diagnoseBackbone(location: string, options: CheckpointOptions): Promise<Diagnosis> {
  const it = new Examination('backbone', location);
  const located = await it.attempt(() => locateBackbone(location));
  if (!located) return diagnosisOf([it.part]);
  const { manifest, file, faults } = located;
  for (const fault of faults) it.fault(`${file}: ${fault}`);
  const { name, languageFolder, visionFolder, visionFeatures } = manifest;
  it.fact('name', name);
  const checkpoints: Part[] = [];
  // Of a folder that is not there, the fault above says enough.
  if (await isFolder(languageFolder)) checkpoints.push((await examineLanguage(languageFolder, options)).part);
  if (visionFolder !== null && (await isFolder(visionFolder)))
    checkpoints.push((await examineVision(visionFolder, options, visionFeatures)).part);
  const works = diagnosisOf([it.part, ...checkpoints]).fits;
  const backbone = works ? await it.attempt(() => describeBackbone(manifest)) : undefined;
  if (backbone) {
    const { contexts } = backbone.target;
    it.fact('contexts', contexts, contexts.join(', '));
    const memory = checkpoints.flatMap(({ facts }) => facts.filter((fact) => fact.name === 'memory_bytes'));
    const bytes = memory.reduce((sum, { value }) => sum + Number(value), 0);
    it.fact('memory_bytes', bytes, `${size(bytes)} of weights in float32`);
  }
  return { ...diagnosisOf([it.part, ...checkpoints]), ...(backbone && { backbone }) };
}

/** A language checkpoint alone, which is a backbone for text. */
async function diagnoseLanguage(location: string, options: CheckpointOptions): Promise<Diagnosis> {
  const { part } = await examineLanguage(location, options);
  const found = diagnosisOf([part]);
  return found.fits ? { ...found, backbone: await describeBackbone(await readBackbone(location)) } : found;
}

async function diagnoseUnknown(location: string): Promise<Diagnosis> {
  const it = new Examination('backbone', location);
  const names = await it.attempt(() => readdir(location));
  if (names)
    it.fault(
      `${location}: Expected ${MANIFEST_FILE} or ${CONFIG_FILE} (an adapter), backbone.json (a backbone) or config.json (a checkpoint) but received ${quote(names.sort())}`,
    );
  return diagnosisOf([it.part]);
}

function diagnosisOf(parts: readonly Part[]): Diagnosis {
  return { fits: parts.every(({ faults }) => faults.length === 0), parts };
}

async function isFolder(location: string): Promise<boolean> {
  return (await stat(location).catch(() => undefined))?.isDirectory() ?? false;
}
