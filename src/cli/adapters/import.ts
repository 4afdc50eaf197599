/** `graft adapters import`: what was typed becomes one PEFT folder a context. */
import { importAdapter } from '../../adapter/import.js';
import { describeBackbone } from '../../backbone/backbone.js';
import { readBackbone } from '../../backbone/manifest.js';
import { Faults } from '../../tensor/faults.js';
import { quote } from '../../tensor/json.js';
import { checkApart, checkPlace, type PlaceFlags } from './place.js';

/** The flags as they were typed. */
export interface ImportFlags extends PlaceFlags {
  readonly backbone: string;
  readonly context?: readonly string[];
  readonly projector?: string;
  readonly task?: string;
  readonly prompt?: string;
}

const DEFAULT_CONTEXT = 'text';

/** Imports, and returns what to tell. Throws AppError `invalid_config` for the flags, `adapter_invalid` for the folders. */
export async function importFolders(folder: string | undefined, flags: ImportFlags): Promise<string> {
  const sources = sourcesOf(folder, flags.context ?? []);
  await checkPlace(flags);
  const backbone = await describeBackbone(await readBackbone(flags.backbone));
  const { task, prompt, projector: projectorFrom } = flags;
  await checkApart(flags, [...sources.values(), backbone.languageFolder, backbone.vision?.folder, projectorFrom]);
  const adapter = await importAdapter(flags.out, backbone, { sources, projectorFrom, task, prompt });
  const { name, method, groups, matched, projector, digest } = adapter;
  const contexts = groups.map(({ context }) => context).join(' and ');
  return [
    `adapter ${name}: ${method} on ${contexts}, ${matched} modules, ${projector ? 'with a projector' : 'no projector: it takes text only'}`,
    `  folder  ${flags.out}`,
    `  digest  ${digest}`,
  ].join('\n');
}

/** The folder of each context: one folder and the name of its context, or pairs of both. */
function sourcesOf(folder: string | undefined, contexts: readonly string[]): ReadonlyMap<string, string> {
  const faults = new Faults();
  const sources = new Map<string, string>();
  const names = contexts.filter((context) => !context.includes('='));
  for (const pair of contexts.filter((context) => context.includes('='))) {
    const at = pair.indexOf('=');
    const [name, source] = [pair.slice(0, at), pair.slice(at + 1)];
    if (name === '' || source === '') faults.add(`Expected --context to be NAME=FOLDER but received ${quote(pair)}`);
    if (sources.has(name)) faults.add(`Expected --context once for ${name} but received ${quote(pair)} as well`);
    sources.set(name, source);
  }
  if (folder === undefined) {
    for (const name of names)
      faults.add(`Expected --context ${name}=FOLDER, or a folder before it, but received ${quote(name)} alone`);
    if (contexts.length === 0) faults.add('Expected a PEFT folder, or --context NAME=FOLDER, but received neither');
  } else if (sources.size > 0) {
    faults.add(
      `Expected a folder or --context NAME=FOLDER but received both, ${quote(folder)} and ${quote([...sources.keys()])}`,
    );
  } else {
    // One folder may serve several contexts, each with its own copy.
    for (const name of names.length > 0 ? names : [DEFAULT_CONTEXT]) sources.set(name, folder);
  }
  faults.check('invalid_config', 'adapters import');
  return sources;
}
