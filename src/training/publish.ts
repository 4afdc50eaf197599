/** What a run leaves behind: an adapter's folder that a server can take at once, or, where all weights were trained, a backbone of its own. */
import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { AdapterPlan } from '../adapter/plan.js';
import { targetNames } from '../adapter/targets.js';
import { type AdapterDraft, type AdapterNotes, backboneNotes, type GroupDraft, writeAdapter } from '../adapter/write.js';
import type { BackboneDescription } from '../backbone/backbone.js';
import { copyCheckpointFiles } from '../backbone/copy.js';
import type { LinearModule } from '../backbone/module.js';
import { choiceFields } from '../backbone/vision/features.js';
import { fromFloat32 } from '../tensor/convert.js';
import { publishFolder, syncFolder, writeSynced } from '../tensor/folder.js';
import { writeSafetensors } from '../tensor/safetensors.js';
import type { Tensor } from '../tensor/tensor.js';
import { parameterName } from './adapt.js';
import type { Parameters } from './parameters.js';
import { PROJECTOR } from './program.js';

/** What the manifest tells besides the parameters. */
export type Notes = Pick<AdapterNotes, 'prompt' | 'metrics' | 'training' | 'dtype'> & { readonly task: string | null };

/** Writes the adapter of a plan; `values` are laid out like the parameters. */
export async function publishAdapter(
  folder: string,
  backbone: BackboneDescription,
  plan: AdapterPlan,
  parameters: Parameters,
  values: Float32Array,
  notes: Notes,
): Promise<void> {
  const of = (name: string): Float32Array => parameters.view(name, values);
  await writeAdapter(folder, draftOf(await notesOf(backbone, parameters, values, notes), plan, backbone.language.modules, of));
}

/** The parts that methods share. */
async function notesOf(
  backbone: BackboneDescription,
  parameters: Parameters,
  values: Float32Array,
  notes: Notes,
): Promise<AdapterNotes> {
  const { task, ...others } = notes;
  const hasProjector = parameters.has(PROJECTOR.weight);
  const projector = hasProjector
    ? { weight: parameters.view(PROJECTOR.weight, values), bias: parameters.view(PROJECTOR.bias, values) }
    : null;
  return {
    ...others,
    ...(task === null ? {} : { task }),
    projector,
    ...(await backboneNotes(backbone, hasProjector)),
  };
}

function draftOf(
  notes: AdapterNotes,
  plan: AdapterPlan,
  all: readonly LinearModule[],
  of: (name: string) => Float32Array,
): AdapterDraft {
  const targetModules = targetNames(plan.modules, all);
  const groups = <T>(draft: (context: string, module: LinearModule) => T): Map<string, GroupDraft<T>> =>
    new Map(
      plan.contexts.map((context) => [
        context,
        { targetModules, modules: new Map(plan.modules.map((module) => [module.name, draft(context, module)])) },
      ]),
    );
  switch (plan.method) {
    case 'lora':
      return {
        ...notes,
        method: 'lora',
        groups: groups((context, module) => ({
          rank: plan.rank.get(context) ?? 0,
          alpha: plan.alpha.get(context) ?? 0,
          a: of(parameterName({ context, module, part: 'lora_A' })),
          b: of(parameterName({ context, module, part: 'lora_B' })),
        })),
      };
    case 'bitfit':
      return {
        ...notes,
        method: 'bitfit',
        groups: groups((context, module) => of(parameterName({ context, module, part: 'bias' }))),
      };
    case 'ia3':
      return {
        ...notes,
        method: 'ia3',
        groups: groups((context, module) => ({
          side: module.scalable ?? 'output',
          factor: of(parameterName({ context, module, part: 'ia3_l' })),
        })),
      };
    default:
      return { ...notes, method: 'none' };
  }
}

/**
 * Writes a backbone whose language weights were trained: `backbone.json`, `language/` (the checkpoint's own files around new weights), and
 * `adapters/NAME` with the projector where it sees images.
 */
export async function publishBackbone(
  folder: string,
  backbone: BackboneDescription,
  parameters: Parameters,
  values: Float32Array,
  notes: Notes,
): Promise<void> {
  const name = basename(folder);
  await publishFolder(folder, async (temporary) => {
    const language = join(temporary, 'language');
    await mkdir(language);
    const { dtype = 'float32' } = notes;
    await copyCheckpointFiles(backbone.languageFolder, language, dtype);
    const weights = parameters.shapes
      .filter((each) => each.name !== PROJECTOR.weight && each.name !== PROJECTOR.bias)
      .map((each): [string, Tensor] => [each.name, fromFloat32(parameters.view(each.name, values), each.shape, dtype)]);
    await writeSafetensors(join(language, 'model.safetensors'), weights, [['format', 'pt']]);
    await syncFolder(language);
    const { folder: vision = null, choice = {} } = backbone.vision ?? {};
    const manifest = { format: 'graft-backbone/1', name, vision, ...choiceFields(choice), language: 'language' };
    await writeSynced(join(temporary, 'backbone.json'), new TextEncoder().encode(`${JSON.stringify(manifest, null, 2)}\n`));
    if (parameters.has(PROJECTOR.weight)) {
      const own = { ...backbone, languageFolder: language };
      await writeAdapter(join(temporary, 'adapters', name), {
        ...(await notesOf(own, parameters, values, notes)),
        method: 'none',
      });
    }
  });
}
