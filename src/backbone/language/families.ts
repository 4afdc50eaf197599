/** The language families by `model_type`. A new family is one file and one line here. */
import { AppError } from '../../errors.js';
import { readModelConfig } from '../config.js';
import { readGpt2 } from './gpt2.js';
import { readLlama } from './llama.js';
import { readMistral } from './mistral.js';
import type { LanguageModel } from './model.js';
import { readOpt } from './opt.js';
import { readPhi3 } from './phi3.js';
import { readQwen2 } from './qwen2.js';
import { readQwen3 } from './qwen3.js';

const FAMILIES: ReadonlyMap<string, (config: unknown, subject: string) => LanguageModel> = new Map([
  ['gpt2', readGpt2],
  ['llama', readLlama],
  ['mistral', readMistral],
  ['opt', readOpt],
  ['phi3', readPhi3],
  ['qwen2', readQwen2],
  ['qwen3', readQwen3],
]);

/** Describes the language model of a checkpoint folder from its config.json, or from that file alone; no weight is read. */
export async function readLanguageModel(location: string): Promise<LanguageModel> {
  const { config, file } = await readModelConfig(location);
  const type = String((config as { model_type?: unknown } | null)?.model_type);
  const read = FAMILIES.get(type);
  if (!read)
    throw new AppError(
      'unsupported_model',
      `${location}: Expected a language model_type of ${[...FAMILIES.keys()].join(', ')} but received ${type}`,
    );
  return read(config, file);
}
