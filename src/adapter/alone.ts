/**
 * An adapter by itself: read and checked as far as that goes without a backbone, for what only compares or copies. The modules are
 * those that its tensors name, of the sizes that its tensors have, so that files which contradict each other are refused here too.
 */
import { basename, resolve } from 'node:path';
import type { LinearModule } from '../backbone/module.js';
import { Faults } from '../tensor/faults.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Method } from './adapter.js';
import { FileFaults } from './faults.js';
import { type AdapterFiles, digestOf, readContent, readGroupFiles, readTensors, requireManifest } from './format.js';
import { type BuiltGroup, buildGroup, partOf } from './group.js';
import { type GroupFiles, groupFiles, type Manifest, needsProjector, PROJECTOR_FILE } from './manifest.js';
import type { PeftConfig } from './peft.js';

export interface LoneGroup extends BuiltGroup {
  readonly paths: GroupFiles;
  readonly config: PeftConfig;
  readonly tensors: ReadonlyMap<string, Tensor>;
}

export interface LoneAdapter {
  readonly name: string;
  readonly digest: string;
  readonly method: Method;
  readonly manifest: Manifest | null;
  readonly files: AdapterFiles;
  readonly groups: readonly LoneGroup[];
  /** By name; null where the adapter has no projector of its own. */
  readonly projector: ReadonlyMap<string, Tensor> | null;
}

/** Throws AppError `adapter_invalid` with the faults of all its files. */
export async function readAlone(folder: string): Promise<LoneAdapter> {
  const name = basename(resolve(folder));
  const faults = new Faults();
  const content = await readContent(folder, faults);
  const { files } = content;
  const manifest = requireManifest(name, content, faults);
  const groups = groupFiles(manifest).flatMap((paths): LoneGroup[] => {
    const found = readGroupFiles(paths, manifest, files, faults);
    if (found === undefined) return [];
    const { config, tensors } = found;
    return [{ paths, config, tensors, ...buildGroup(paths.context, config, modulesOf(config, tensors), tensors, found.faults) }];
  });
  const projector = readProjector(manifest, files, faults);
  faults.check('adapter_invalid', `adapter ${name}`);
  const method = manifest?.method ?? groups[0]?.method ?? 'none';
  return { name, digest: digestOf(files), method, manifest, files, groups, projector };
}

function readProjector(manifest: Manifest | null, files: AdapterFiles, all: Faults): ReadonlyMap<string, Tensor> | null {
  const bytes = files.get(PROJECTOR_FILE);
  if (bytes === undefined && (manifest === null || !needsProjector(manifest))) return null;
  return readTensors(bytes, new FileFaults(PROJECTOR_FILE, all)) ?? null;
}

/** The modules that the tensors name. What a size cannot be known of is 0: then a tensor is missing, which is the fault that is told. */
function modulesOf({ method, fanInFanOut }: PeftConfig, tensors: ReadonlyMap<string, Tensor>): readonly LinearModule[] {
  const modules = new Map<string, LinearModule>();
  for (const [name, { shape }] of tensors) {
    const meaning = partOf(method, name);
    if (meaning === undefined) continue;
    const [rows = 0, columns = 0] = shape;
    const known = modules.get(meaning.module) ?? {
      name: meaning.module,
      inFeatures: 0,
      outFeatures: 0,
      bias: false,
      site: 'attention',
      layout: fanInFanOut === true ? 'in_out' : 'out_in',
    };
    modules.set(meaning.module, { ...known, ...sizesOf(meaning.part, rows, columns) });
  }
  return [...modules.values()];
}

function sizesOf(part: string, rows: number, columns: number): Partial<LinearModule> {
  switch (part) {
    case 'lora_A':
      return { inFeatures: columns };
    case 'ia3_l':
      return {
        inFeatures: Math.max(rows, columns),
        outFeatures: Math.max(rows, columns),
        scalable: rows === 1 ? 'input' : 'output',
      };
    default:
      return { outFeatures: rows };
  }
}
