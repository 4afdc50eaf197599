/**
 * The public API: everything that `graft serve` and `graft train` are made of, for programs that want a part of it.
 * The engine without HTTP is `startEngine` (in a process of its own) or `Engine` (in this one).
 * Training without the command line is `parseTrainOptions`, `prepare`, `run` and `publishAdapter`, in this order.
 */
export type { AdapterGroup, AdapterRef, LoadedAdapter, Method, Projector, RankColumns, Scale } from './adapter/adapter.js';
export { type LoneAdapter, readAlone } from './adapter/alone.js';
export { AdapterCache, type Lease } from './adapter/cache.js';
export { type AdapterDifference, diffAdapters } from './adapter/diff.js';
export { digestFolder } from './adapter/digest.js';
export { exportAdapter } from './adapter/export.js';
export { readAdapter } from './adapter/format.js';
export { type ImportOptions, importAdapter } from './adapter/import.js';
export { AdapterLoader } from './adapter/loader.js';
export { mergeAdapter } from './adapter/merge.js';
export { type AdapterPlan, type PlanOptions, planParameters, resolvePlan } from './adapter/plan.js';
export { AdapterRegistry, type RegisteredAdapter } from './adapter/registry.js';
export { type AdapterDraft, writeAdapter } from './adapter/write.js';
export { gradients } from './autodiff/gradients.js';
export { type BackboneDescription, describeBackbone } from './backbone/backbone.js';
export { type BackboneManifest, readBackbone } from './backbone/manifest.js';
export type { AdapterTarget, LinearModule } from './backbone/module.js';
export { Tokenizer } from './backbone/tokenizer.js';
export { type Config, loadConfig } from './config.js';
export { Engine, type EngineOptions as EngineMemory } from './engine/engine.js';
export { AppError, type ErrorCode } from './errors.js';
export { type CaptionScores, evaluateCaptions } from './evaluation/captions.js';
export { Graph, type Value } from './onnx/graph.js';
export { type EngineOptions, type SupervisedEngine, startEngine } from './serving/client.js';
export type { GenerateInput, GenerateResult, GenerationEvent, SamplingParams } from './serving/protocol.js';
export type { SourceLibrary } from './sources/library.js';
export { openSources, type SourceSettings } from './sources/open.js';
export { parseTrainOptions, type TrainOptions } from './training/options.js';
export { type Prepared, prepare } from './training/prepare.js';
export { publishAdapter } from './training/publish.js';
export { type RunResult, run } from './training/run.js';
