/** What to do with what was fetched: the commands for what it turns out to be, with its folder in them, ready to be run. */
import { readLanguageModel } from '../../backbone/language/families.js';
import { readVisionModel } from '../../backbone/vision/families.js';
import { shellWord } from '../shell.js';

/** A line each. Nothing here fails: what no command takes is told so. */
export async function nextSteps(folder: string, files: readonly string[], name: string): Promise<string[]> {
  const has = (file: string): boolean => files.includes(file);
  const [place, adapter] = [shellWord(folder), shellWord(`adapters/${name}`)];
  if (has('adapter.json'))
    return [
      'an adapter; see whether it fits, and serve it:',
      `graft doctor ${place} --backbone models`,
      `ln -s ${place} ${adapter}`,
    ];
  if (has('adapter_config.json'))
    return ["an adapter of PEFT's; make it one of yours:", `graft adapters import ${place} --out ${adapter} --backbone models`];
  if (has('backbone.json')) return ['a backbone; serve it, or train on it:', ...backbone(place, 'captions.jsonl')];
  if (!has('config.json')) return ['no model by itself: it has no config.json'];
  if (await succeeds(readLanguageModel(folder)))
    return [
      'a language model; serve it or train on it as it is, with text, or name it as "language" of a backbone.json:',
      ...backbone(place, 'stories.txt'),
    ];
  if (await succeeds(readVisionModel(folder)))
    return [
      'a vision encoder; name it as "vision" of a backbone.json (models/README.md):',
      `"vision": ${JSON.stringify(folder)}`,
    ];
  return ['no model that Graft knows; see why:', `graft doctor ${place}`];
}

function backbone(place: string, data: string): string[] {
  return [`graft serve --backbone ${place}`, `graft train --backbone ${place} --data ${data} --out adapters/mine`];
}

async function succeeds(work: Promise<unknown>): Promise<boolean> {
  return work.then(
    () => true,
    () => false,
  );
}
