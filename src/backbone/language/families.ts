/** The language families by `model_type`. A new family is one file and one line here. */
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

/** Their names. */
export const LANGUAGE_TYPES: readonly string[] = [...FAMILIES.keys()];

/** Describes the language model of a checkpoint folder from its config.json, or from that file alone; no weight is read. */
export async function readLanguageModel(location: string): Promise<LanguageModel> {
  const { config, file, read } = await readModelConfig(location, 'language', FAMILIES);
  return read(config, file);
}
