/**
 * An adapter's folder on paper: what `adapter.json` says, and which files make up an adapter. A plain PEFT folder has no manifest,
 * and is a text adapter without a projector. Context names become folder names, so they are checked here, before any path is made of them.
 */
import type { Faults } from '../tensor/faults.js';
import { members, quote } from '../tensor/json.js';
import type { Method } from './adapter.js';
import { Fields, FLAG, INDEX, type Kind, listOf, OBJECT, TEXT } from './fields.js';

export const FORMAT = 'context-peft/1';
export const MANIFEST_FILE = 'adapter.json';
export const PROJECTOR_FILE = 'projector.safetensors';
export const CONFIG_FILE = 'adapter_config.json';
export const TENSORS_FILE = 'adapter_model.safetensors';

/** The one group of a context-agnostic adapter: every token uses it. */
export const ALL_CONTEXTS = 'all';

export interface Manifest {
  readonly method: Method;
  readonly contexts: readonly string[];
  readonly task: string | undefined;
  readonly prompt: string;
  /** Whether it says that it has a projector of its own; undefined where it says nothing. */
  readonly projector: boolean | undefined;
  /** `sha256:...` of the checkpoints it was trained on, where it gives them. */
  readonly languageFingerprint: string | undefined;
  readonly visionFingerprint: string | undefined;
}

/** What there has to be in a folder for it to be an adapter's. */
export const NEITHER = `Expected ${MANIFEST_FILE}, or ${CONFIG_FILE} of a plain PEFT adapter, but received neither`;

/** Where one context's parameters lie, relative to the adapter's folder. */
export interface GroupFiles {
  readonly context: string;
  readonly config: string;
  readonly tensors: string;
}

const METHODS: readonly Method[] = ['lora', 'bitfit', 'ia3', 'none'];
const METHOD: Kind<Method> = {
  words: `one of ${METHODS.join(', ')}`,
  is: (value): value is Method => METHODS.some((method) => method === value),
};
const FORMAT_NAME: Kind<typeof FORMAT> = { words: quote(FORMAT), is: (value): value is typeof FORMAT => value === FORMAT };
export const CONTEXT: Kind<string> = {
  words: 'a name of letters, digits, _ and -',
  is: (value): value is string => typeof value === 'string' && /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(value),
};
const DIGEST: Kind<string> = {
  words: '"sha256:" and 64 hex digits',
  is: (value): value is string => typeof value === 'string' && /^sha256:[0-9a-f]{64}$/.test(value),
};

/** Reads `adapter.json`. Returns undefined, always with a fault, where not even method and contexts can be known. */
export function parseManifest(bytes: Uint8Array, faults: Faults): Manifest | undefined {
  const fields = Fields.parse(bytes, faults);
  if (fields === undefined) return undefined;
  fields.require('format', FORMAT_NAME);
  const method = fields.require('method', METHOD);
  const contexts = fields.require('contexts', listOf(CONTEXT));
  fields.get('name', TEXT);
  fields.get('image_tokens', INDEX);
  const task = fields.get('task', TEXT);
  const prompt = fields.get('prompt', TEXT) ?? '';
  const projector = fields.get('projector', FLAG);
  const backbone = new Fields(members(fields.get('backbone', OBJECT)) ?? new Map(), faults);
  const languageFingerprint = fingerprintOf(backbone, 'language');
  const visionFingerprint = fingerprintOf(backbone, 'vision');
  if (method === undefined || contexts === undefined) return undefined;
  checkContexts(method, contexts, faults);
  return { method, contexts: [...new Set(contexts)], task, prompt, projector, languageFingerprint, visionFingerprint };
}

/** Whether there has to be a projector: for tokens of images, unless the manifest says that another's is used. */
export function needsProjector({ method, contexts, projector }: Manifest): boolean {
  return projector ?? (method === 'none' || contexts.includes('image') || contexts.includes(ALL_CONTEXTS));
}

/** The files of every group: a folder a context, or the top folder of a plain PEFT adapter. */
export function groupFiles(manifest: Manifest | null): GroupFiles[] {
  if (manifest === null) return [{ context: 'text', config: CONFIG_FILE, tensors: TENSORS_FILE }];
  return manifest.contexts.map((context) => ({
    context,
    config: `${context}/${CONFIG_FILE}`,
    tensors: `${context}/${TENSORS_FILE}`,
  }));
}

/**
 * Paths of the files that define an adapter, sorted: those of them that exist are its content, and nothing else is.
 * `manifest` is null for a plain PEFT folder, undefined where there is one that cannot be read.
 */
export function definingPaths(manifest: Manifest | null | undefined): string[] {
  const groups = manifest === undefined ? [] : groupFiles(manifest).flatMap(({ config, tensors }) => [config, tensors]);
  return (manifest === null ? groups : [MANIFEST_FILE, PROJECTOR_FILE, ...groups]).sort();
}

/** Those of a folder's paths that may be among `definingPaths`, whatever its manifest says. */
export function possiblePaths(paths: readonly string[]): string[] {
  if (!paths.includes(MANIFEST_FILE)) return paths.filter((path) => path === CONFIG_FILE || path === TENSORS_FILE);
  return paths.filter((path) => {
    const [context, name, ...more] = path.split('/');
    if (name === undefined) return path === MANIFEST_FILE || path === PROJECTOR_FILE;
    return more.length === 0 && CONTEXT.is(context) && (name === CONFIG_FILE || name === TENSORS_FILE);
  });
}

/** `"language": "name"` with `"language_fingerprint": "sha256:..."`, or `"language": {"name": ..., "fingerprint": ...}`. */
function fingerprintOf(backbone: Fields, part: 'language' | 'vision'): string | undefined {
  const beside = backbone.get(`${part}_fingerprint`, DIGEST);
  const value = backbone.raw(part);
  if (value === undefined || typeof value === 'string') return beside;
  const checkpoint = members(value);
  if (checkpoint === undefined) {
    backbone.faults.add(`Expected backbone.${part} to be a name or an object but received ${quote(value)}`);
    return beside;
  }
  const fields = new Fields(checkpoint, backbone.faults);
  fields.get('name', TEXT);
  return fields.get('fingerprint', DIGEST) ?? beside;
}

function checkContexts(method: Method, contexts: readonly string[], faults: Faults): void {
  if (method === 'none' && contexts.length > 0) {
    faults.add(`Expected no contexts because method is none but received ${quote(contexts)}`);
  }
  if (method !== 'none' && contexts.length === 0)
    faults.add(`Expected a context at least because method is ${method} but received []`);
  if (new Set(contexts).size < contexts.length) faults.add(`Expected each context once but received ${quote(contexts)}`);
  if (contexts.includes(ALL_CONTEXTS) && contexts.some((context) => context !== ALL_CONTEXTS)) {
    faults.add(`Expected "${ALL_CONTEXTS}" to be the only context but received ${quote(contexts)}`);
  }
}
