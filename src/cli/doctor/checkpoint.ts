/**
 * A checkpoint folder, stage by stage as serving goes through them: config.json, tokenizer or image processor, the headers of its weights, and the
 * graph that is built on them. Nothing is judged here; what serving's own functions refuse is written down.
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { checkFinite } from '../../adapter/group.js';
import { type PlanOptions, resolvePlan } from '../../adapter/plan.js';
import { visionPart } from '../../backbone/backbone.js';
import { readJson } from '../../backbone/config.js';
import { readLanguageModel } from '../../backbone/language/families.js';
import type { LanguageModel } from '../../backbone/language/model.js';
import { Tokenizer } from '../../backbone/tokenizer.js';
import { openEncoder } from '../../backbone/vision/encoder.js';
import { readVisionModel } from '../../backbone/vision/families.js';
import type { FeatureChoice } from '../../backbone/vision/features.js';
import type { VisionModel } from '../../backbone/vision/model.js';
import { readProcessor } from '../../backbone/vision/processor.js';
import type { Weights } from '../../backbone/weights.js';
import { openProgram } from '../../engine/program.js';
import { AppError } from '../../errors.js';
import { Checkpoint } from '../../tensor/checkpoint.js';
import { toFloat32 } from '../../tensor/convert.js';
import { Faults } from '../../tensor/faults.js';
import { members } from '../../tensor/json.js';
import { elements } from '../../tensor/tensor.js';
import { Examination, type Part } from './part.js';
import { count, size } from './words.js';

export interface CheckpointOptions {
  /** Reads every number, where otherwise headers are enough. */
  readonly deep: boolean;
}

/** Rows of a program that is only built: as short as can be, for tables of positions are made for every token. */
const CHECKED_TOKENS = 8;
const FLOAT32_BYTES = 4;
/** Names of tensors that nobody reads, of all that there are. */
const NAMED = 3;

/** The language checkpoint in a folder; the model where its config.json is in order. */
export async function examineLanguage(
  folder: string,
  options: CheckpointOptions,
): Promise<{ part: Part; model?: LanguageModel }> {
  const it = new Examination('language', folder);
  const model = await it.attempt(() => readLanguageModel(folder));
  const tokenizer = await it.attempt(() => Tokenizer.open(folder));
  const program =
    model &&
    (await it.attempt(() => openProgram({ language: model, languageFolder: folder }, 'rank', { maxLength: CHECKED_TOKENS })));
  if (!program) await examineHeaders(it, folder);
  if (model) {
    it.fact('family', model.family);
    it.fact('parameters', model.parameterCount, count(model.parameterCount));
    if (program) weightFacts(it, program.weights);
    memoryFact(it, model.parameterCount);
    const { layerCount, kvHeads, headDim, hiddenSize, maxPositions, vocabSize } = model;
    const cacheBytes = 2 * layerCount * kvHeads * headDim * FLOAT32_BYTES;
    it.fact('cache_bytes_per_token', cacheBytes, `${size(cacheBytes)} of keys and values for each token of a row`);
    it.fact('context_length', maxPositions, `${count(maxPositions)} tokens`);
    it.fact('hidden_size', hiddenSize, count(hiddenSize));
    it.fact('vocabulary', vocabSize, `${count(vocabSize)} tokens`);
    it.fact('tied', model.tiedNames !== null, model.tiedNames ? 'yes, one table of tokens is input and output' : 'no');
    const methods = methodsOf(model);
    it.fact('trainable', methods, methods.join(', '));
  }
  const hasTemplate = await it.attempt(() => hasChatTemplate(folder));
  if (hasTemplate !== undefined) it.fact('chat_template', hasTemplate, hasTemplate ? 'yes' : 'no');
  if (model && tokenizer) {
    if (tokenizer.vocabSize > model.vocabSize)
      it.note(
        `tokenizer.json has ${count(tokenizer.vocabSize)} tokens and the model ${count(model.vocabSize)}: the last ones must not be used`,
      );
    if (tokenizer.eosIds.length === 0) it.note('no eos_token_id: a text ends only where max_tokens or a stop string says so');
  }
  if (options.deep && program) await examineNumbers(it, folder, program.weights);
  return { part: it.part, ...(model && { model }) };
}

/** The vision checkpoint in a folder, whose features may be chosen; the model where its config.json is in order. */
export async function examineVision(
  folder: string,
  options: CheckpointOptions,
  choice?: FeatureChoice,
): Promise<{ part: Part; model?: VisionModel }> {
  const it = new Examination('vision', folder);
  const model = await it.attempt(() => readVisionModel(folder, choice));
  const processor = await it.attempt(() => readProcessor(folder));
  const vision = model && processor && (await it.attempt(() => visionPart(folder, model, processor, choice)));
  // Weights are as wrong without a processor: then for images of the size that the encoder was made for.
  const built = vision ?? (model && { folder, model, ...plainProcessor(model), imageTokens: 0 });
  const encoder = built && (await it.attempt(() => openEncoder(built)));
  if (!encoder) await examineHeaders(it, folder);
  if (model) {
    it.fact('family', model.family);
    if (model.features !== undefined) it.fact('features', model.features);
    if (encoder) {
      const parameters = encoder.weights.used.reduce((sum, { shape }) => sum + elements(shape), 0);
      it.fact('parameters', parameters, count(parameters));
      weightFacts(it, encoder.weights);
      memoryFact(it, parameters);
    }
    it.fact('image_dim', model.imageDim, `${count(model.imageDim)} numbers a token`);
  }
  if (vision) {
    const { height, width } = vision.recipe;
    it.fact('image_size', `${height}x${width}`, `${height} × ${width} pixels`);
    it.fact('image_tokens', vision.imageTokens, `${count(vision.imageTokens)} tokens an image`);
  }
  if (options.deep && encoder) await examineNumbers(it, folder, encoder.weights);
  return { part: it.part, ...(model && { model }) };
}

function plainProcessor({ imageSize: [height, width] }: VisionModel) {
  const recipe = { resize: { kind: 'exact', height, width }, resample: 'bilinear', crop: null, height, width } as const;
  return { recipe, normalisation: { rescale: 1, mean: [0, 0, 0], std: [1, 1, 1] } } as const;
}

/** Where no graph can be built: whether the files are whole at least. */
async function examineHeaders(it: Examination, folder: string): Promise<void> {
  await it.attempt(async () => (await Checkpoint.open(folder)).close());
}

/** Reads one tensor after the other: more memory than the largest one takes is never needed. */
async function examineNumbers(it: Examination, folder: string, weights: Weights): Promise<void> {
  const checkpoint = await it.attempt(() => Checkpoint.open(folder));
  if (!checkpoint) return;
  try {
    for (const { name, path: file } of weights.used)
      await it.attempt(async () => {
        const faults = new Faults();
        checkFinite(toFloat32(await checkpoint.read(name)), name, faults);
        faults.check('invalid_file', file);
      });
    it.fact('numbers_read', weights.used.length, `those of ${count(weights.used.length)} tensors were read`);
  } finally {
    await checkpoint.close();
  }
}

function weightFacts(it: Examination, { used, unused }: Weights): void {
  const dtypes = [...new Set(used.map(({ dtype }) => dtype))].sort();
  it.fact('dtype', dtypes, dtypes.join(' and '));
  const bytes = used.reduce((sum, each) => sum + each.bytes, 0);
  it.fact('bytes', bytes, `${size(bytes)} on disk, ${count(used.length)} tensors`);
  if (unused.length === 0) return;
  const more = unused.length > NAMED ? ', ...' : '';
  it.note(
    `${count(unused.length)} ${unused.length === 1 ? 'tensor' : 'tensors'} that nothing reads: ${unused.slice(0, NAMED).join(', ')}${more}`,
  );
}

function memoryFact(it: Examination, parameters: number): void {
  const bytes = parameters * FLOAT32_BYTES;
  it.fact('memory_bytes', bytes, `${size(bytes)} of weights in float32`);
}

/** What the trainer makes a plan for. */
function methodsOf({ modules }: LanguageModel): string[] {
  const contexts = ['text'];
  const can = (method: PlanOptions['method']): boolean => {
    try {
      return resolvePlan({ method, contexts }, { modules, contexts }).modules.length > 0;
    } catch (error) {
      if (error instanceof AppError) return false;
      throw error;
    }
  };
  return [...(['lora', 'bitfit', 'ia3'] as const).filter(can), 'full'];
}

/** In the tokenizer's own file, or in one beside it. */
async function hasChatTemplate(folder: string): Promise<boolean> {
  const inFile = members(await readJson(folder, 'tokenizer_config.json'))?.get('chat_template');
  const beside = ['chat_template.jinja', 'chat_template.json'].map((name) =>
    stat(path.join(folder, name)).catch(() => undefined),
  );
  return (inFile ?? null) !== null || (await Promise.all(beside)).some((info) => info?.isFile());
}
