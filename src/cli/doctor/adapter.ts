/** An adapter's folder, ours or PEFT's: by itself, or against a backbone, read as a server reads it. */
import path from 'node:path';
import type { AdapterGroup, LoadedAdapter } from '../../adapter/adapter.js';
import { readAlone } from '../../adapter/alone.js';
import { digestFolder } from '../../adapter/digest.js';
import { Fields } from '../../adapter/fields.js';
import { MAX_JSON_BYTES, readFile } from '../../adapter/file.js';
import { readAdapter } from '../../adapter/format.js';
import { CONFIG_FILE, MANIFEST_FILE } from '../../adapter/manifest.js';
import { type AdapterSummary, inspectFolder } from '../../adapter/summary.js';
import type { BackboneDescription } from '../../backbone/backbone.js';
import { Faults } from '../../tensor/faults.js';
import { members } from '../../tensor/json.js';
import { elements } from '../../tensor/tensor.js';
import { Examination, type Part } from './part.js';
import { count, size } from './words.js';

/** The adapter in a folder; where there is a backbone and it fits, as the engine would have it. */
export async function examineAdapter(
  folder: string,
  backbone: BackboneDescription | undefined,
): Promise<{ part: Part; adapter?: LoadedAdapter }> {
  const absolute = path.resolve(folder);
  const it = new Examination('adapter', folder);
  const { summary } = await inspectFolder(absolute);
  summaryFacts(it, summary);
  // What cannot be hashed is named as a fault by who reads it.
  const content = await digestFolder(absolute).catch(() => undefined);
  if (content) {
    it.fact('digest', content.digest);
    it.fact('bytes', content.bytes, `${size(content.bytes)} on disk`);
  }
  const made = await madeFor(absolute);
  if (made.length > 0) it.fact('made_for', made, made.join(' and '));
  if (backbone) {
    const adapter = await it.attempt(() => readAdapter(absolute, backbone.target));
    if (adapter) loadedFacts(it, adapter, backbone);
    return { part: it.part, ...(adapter && { adapter }) };
  }
  const alone = await it.attempt(() => readAlone(absolute));
  if (alone) {
    const projector = [...(alone.projector?.values() ?? [])].reduce((sum, { shape }) => sum + elements(shape), 0);
    const parameters = parametersOf(alone.groups.map(({ group }) => group)) + projector;
    it.fact('parameters', parameters, count(parameters));
    it.note('its files are in order; --backbone says whether it fits one');
  }
  return { part: it.part };
}

function summaryFacts(it: Examination, { method, contexts, task, prompt, rank, format }: AdapterSummary): void {
  it.fact('format', format);
  it.fact('method', method);
  it.fact('contexts', contexts, contexts.join(', ') || 'none');
  if (rank !== undefined) it.fact('rank', rank, `up to ${rank}`);
  if (task !== undefined) it.fact('task', task);
  it.fact('prompt', prompt, JSON.stringify(prompt));
}

function loadedFacts(
  it: Examination,
  { groups, projector, matched, targeted, bytes }: LoadedAdapter,
  backbone: BackboneDescription,
): void {
  const { hiddenSize, imageDim } = backbone.target;
  const parameters = parametersOf(groups) + (projector ? projector.weight.length + projector.bias.length : 0);
  it.fact('fits_backbone', backbone.name);
  it.fact('matched', `${matched} of ${targeted} modules`);
  it.fact('projector', projector !== null, projector ? `${hiddenSize} × ${imageDim}` : 'none: it takes text only');
  it.fact('parameters', parameters, count(parameters));
  it.fact('memory_bytes', bytes, `${size(bytes)} in float32`);
}

function parametersOf(groups: readonly AdapterGroup[]): number {
  let total = 0;
  for (const { columns, scales } of groups) {
    for (const { a, b } of columns.values()) total += (a?.length ?? 0) + b.length;
    for (const { delta } of scales.values()) total += delta.length;
  }
  return total;
}

/** Names of the checkpoints that its files give; what is wrong with them is said elsewhere. */
async function madeFor(folder: string): Promise<string[]> {
  const fieldsOf = async (file: string): Promise<Fields | undefined> => {
    const bytes = await readFile(path.join(folder, file), MAX_JSON_BYTES).catch(() => undefined);
    return bytes && Fields.parse(bytes, new Faults());
  };
  const backbone = members((await fieldsOf(MANIFEST_FILE))?.raw('backbone'));
  const named = ['language', 'vision'].map((part) => {
    const value = backbone?.get(part);
    return members(value)?.get('name') ?? value;
  });
  const base = (await fieldsOf(CONFIG_FILE))?.raw('base_model_name_or_path');
  return [...named, base].filter((name) => typeof name === 'string').map((name) => name.slice(0, 200));
}
