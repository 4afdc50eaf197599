/**
 * The public API: everything that `graft serve` is made of, for programs that want a part of it.
 * The engine without HTTP is `startEngine` (in a process of its own) or `Engine` (in this one).
 */
export type { AdapterGroup, AdapterRef, LoadedAdapter, Method, Projector, RankColumns, Scale } from './adapter/adapter.js';
export { AdapterCache, type Lease } from './adapter/cache.js';
export { digestFolder } from './adapter/digest.js';
export { readAdapter } from './adapter/format.js';
export { AdapterLoader } from './adapter/loader.js';
export { AdapterRegistry, type RegisteredAdapter } from './adapter/registry.js';
export { type AdapterDraft, writeAdapter } from './adapter/write.js';
export { type BackboneDescription, describeBackbone } from './backbone/backbone.js';
export { type BackboneManifest, readBackbone } from './backbone/manifest.js';
export type { AdapterTarget, LinearModule } from './backbone/module.js';
export { Tokenizer } from './backbone/tokenizer.js';
export { type Config, loadConfig } from './config.js';
export { Engine, type EngineOptions as EngineMemory } from './engine/engine.js';
export { AppError, type ErrorCode } from './errors.js';
export { type EngineOptions, type SupervisedEngine, startEngine } from './serving/client.js';
export type { GenerateInput, GenerateResult, GenerationEvent, SamplingParams } from './serving/protocol.js';
