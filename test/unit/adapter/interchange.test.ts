/**
 * In from PEFT and out to it: folders that the real library saved (test/fixtures/adapter/make.py), and those of our own trainer that it
 * opened (test/fixtures/peft), go through adapters of ours without a byte changed; and every refusal names what is wrong with which file.
 */
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { exportAdapter } from '../../../src/adapter/export.js';
import { encoderFingerprint, fingerprint } from '../../../src/adapter/fingerprint.js';
import { readAdapter } from '../../../src/adapter/format.js';
import { type ImportOptions, importAdapter } from '../../../src/adapter/import.js';
import { writeAdapter } from '../../../src/adapter/write.js';
import { type BackboneDescription, describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { AppError } from '../../../src/errors.js';
import { FIXTURES, randomDraft } from '../../fixtures/adapter/draft.js';
import { makeBackbone, FIXTURES as TRAINED } from '../../fixtures/peft/make.js';

/** Of PEFT's own saving: patterns, rsLoRA and a regular expression; in float32, float16 and bfloat16. */
const SAVED = ['lora-patterns', 'lora-regex', 'lora-layers', 'lora-linear', 'ia3'];
const FILES = ['adapter_config.json', 'adapter_model.safetensors'];

let root: string;
let out: string;
/** The llama of the saved adapters, which has no encoder. */
let plain: BackboneDescription;
/** The backbone of the trained ones, with an encoder. */
let seeing: BackboneDescription;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'graft-interchange-'));
  plain = await describeBackbone(await readBackbone(join(FIXTURES, 'backbone')));
  seeing = await describeBackbone(await readBackbone(await makeBackbone(join(root, 'backbone'))));
});
afterAll(() => rm(root, { recursive: true }));

beforeEach(async () => {
  out = await mkdtemp(join(root, 'out-'));
});

const trained = (name: string) => join(TRAINED, 'adapters', name);
const source = (context: string, folder: string): Pick<ImportOptions, 'sources'> => ({ sources: new Map([[context, folder]]) });
const bytesOf = (folder: string) => Promise.all(FILES.map((file) => readFile(join(folder, file))));
const manifestOf = async (folder: string) => JSON.parse(await readFile(join(folder, 'adapter.json'), 'utf8')) as unknown;

async function faultsOf(action: Promise<unknown>): Promise<readonly string[]> {
  const error: unknown = await action.catch((thrown: unknown) => thrown);
  if (error instanceof AppError && error.code === 'adapter_invalid') return error.faults ?? [];
  throw new Error(`Expected faults but received ${String(error)}`);
}

describe('importAdapter', () => {
  it.each(SAVED)('takes %s, which PEFT saved, and computes with it as with the plain folder', async (name) => {
    const imported = await importAdapter(join(out, 'a'), plain, source('text', join(FIXTURES, name)));
    const { digest, name: _, ...before } = await readAdapter(join(FIXTURES, name), plain.target);
    expect(imported).toMatchObject({ ...before, name: 'a' });
    expect(await readAdapter(join(out, 'a'), plain.target)).toEqual(imported);
    expect(imported.digest).not.toBe(digest);
    expect(await bytesOf(join(out, 'a/text'))).toEqual(await bytesOf(join(FIXTURES, name)));
    expect((await readdir(out)).sort()).toEqual(['a']);
  });

  it('states the backbone, its fingerprints and what it was told', async () => {
    const sources = new Map([
      ['text', join(trained('lora'), 'text')],
      ['image', join(trained('lora'), 'image')],
    ]);
    const notes = { projectorFrom: trained('ia3'), task: 'caption', prompt: 'A photo of' };
    await importAdapter(join(out, 'both'), seeing, { sources, ...notes });
    expect(await manifestOf(join(out, 'both'))).toEqual({
      format: 'context-peft/1',
      method: 'lora',
      contexts: ['image', 'text'],
      name: 'both',
      task: 'caption',
      backbone: {
        language: 'checkpoint',
        language_fingerprint: await fingerprint(seeing.languageFolder),
        vision: 'vision',
        vision_fingerprint: await encoderFingerprint(join(root, 'backbone/vision'), undefined),
      },
      image_tokens: 4,
      prompt: 'A photo of',
    });
    const projector = 'projector.safetensors';
    expect(await readFile(join(out, 'both', projector))).toEqual(await readFile(join(trained('ia3'), projector)));
  });

  it('says that there is no projector where none was given', async () => {
    const adapter = await importAdapter(join(out, 'all'), seeing, source('all', join(trained('lora-agnostic'), 'all')));
    expect(adapter).toMatchObject({ projector: null, groups: [{ context: 'all' }] });
    expect(await manifestOf(join(out, 'all'))).toMatchObject({ projector: false, contexts: ['all'], backbone: { vision: null } });
  });
});

describe('exportAdapter', () => {
  it.each(['lora', 'lora-agnostic', 'lora-layers', 'ia3', 'ia3-layers'])('%s comes back as it was', async (name) => {
    const { folders, hasProjector } = await exportAdapter(trained(name), join(out, 'peft'), seeing.target);
    const contexts = [...folders.keys()];
    expect(folders).toEqual(new Map(contexts.map((context) => [context, contexts.length === 1 ? '.' : context])));
    for (const [context, folder] of folders) {
      expect((await readdir(join(out, 'peft', folder))).sort()).toEqual(FILES);
      expect(await bytesOf(join(out, 'peft', folder))).toEqual(await bytesOf(join(trained(name), context)));
    }
    const sources = new Map([...folders].map(([context, folder]) => [context, join(out, 'peft', folder)]));
    const back = await importAdapter(join(out, 'back'), seeing, {
      sources,
      ...(hasProjector && { projectorFrom: trained(name) }),
    });
    const { digest: _, ...before } = await readAdapter(trained(name), seeing.target);
    expect(back).toMatchObject({ ...before, name: 'back' });
    for (const context of contexts)
      expect(await bytesOf(join(out, 'back', context))).toEqual(await bytesOf(join(trained(name), context)));
  });

  it.each(['float16', 'bfloat16'] as const)('keeps BitFit in %s, which only we can open again', async (dtype) => {
    const notes = { projector: null, dtype };
    await writeAdapter(join(out, 'a'), randomDraft(plain.target, { method: 'bitfit', seed: 1, contexts: ['text'], notes }));
    await exportAdapter(join(out, 'a'), join(out, 'peft'));
    await importAdapter(join(out, 'back'), plain, source('text', join(out, 'peft')));
    expect(await bytesOf(join(out, 'back/text'))).toEqual(await bytesOf(join(out, 'a/text')));
  });

  it('copies a plain PEFT folder', async () => {
    expect(await exportAdapter(join(FIXTURES, 'lora-regex'), join(out, 'peft'))).toMatchObject({
      method: 'lora',
      hasProjector: false,
    });
    expect(await bytesOf(join(out, 'peft'))).toEqual(await bytesOf(join(FIXTURES, 'lora-regex')));
  });
});

describe('refusals write nothing, and name the file', () => {
  it('of a PEFT adapter for another model, under the name of its own file', async () => {
    const folder = join(FIXTURES, 'ia3');
    const faults = await faultsOf(importAdapter(join(out, 'a'), seeing, source('text', folder)));
    expect(faults).toContain(
      `${join(folder, FILES[1] as string)}: Expected ia3_l of model.layers.0.mlp.down_proj to be [1, 24] but received [1, 32]`,
    );
    expect(await readdir(out)).toEqual([]);
  });

  it('of a folder that has nothing, of pickle, and of an adapter in place of what is inside it', async () => {
    const empty = join(out, 'empty');
    const pickled = join(out, 'pickled');
    await mkdir(empty);
    await cp(join(FIXTURES, 'ia3'), pickled, { recursive: true });
    await rename(join(pickled, FILES[1] as string), join(pickled, 'adapter_model.bin'));
    const sources = new Map([
      ['text', empty],
      ['image', pickled],
      ['all', trained('lora')],
    ]);
    expect(await faultsOf(importAdapter(join(out, 'a'), seeing, { sources }))).toEqual([
      `${pickled}/adapter_model.safetensors: Expected a file but received none (adapter_model.bin is pickle, which can run any program and is never read: save it as safetensors)`,
      `${empty}/adapter_config.json: Expected a file but received none`,
      `${empty}/adapter_model.safetensors: Expected a file but received none`,
      `${trained('lora')}/adapter_config.json: Expected a file but received none (adapter.json makes it an adapter of ours: PEFT folders are those inside it, one a context)`,
      `${trained('lora')}/adapter_model.safetensors: Expected a file but received none`,
    ]);
    expect((await readdir(out)).sort()).toEqual(['empty', 'pickled']);
  });

  it('of features that would be computed wrongly', async () => {
    const folder = join(out, 'dora');
    await cp(join(FIXTURES, 'lora-linear'), folder, { recursive: true });
    const config = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8')) as object;
    await writeFile(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, use_dora: true, fan_in_fan_out: true }));
    const faults = await faultsOf(importAdapter(join(out, 'a'), plain, source('text', folder)));
    expect(faults).toContain(
      `${folder}/adapter_config.json: Expected use_dora to be off, because it is not implemented, but received true`,
    );
  });

  it('of methods that differ, of a context that the backbone lacks, and of a projector that is none', async () => {
    const sources = new Map([
      ['image', join(trained('ia3'), 'image')],
      ['text', join(trained('lora'), 'text')],
    ]);
    expect(await faultsOf(importAdapter(join(out, 'a'), seeing, { sources }))).toContain(
      `${join(trained('lora'), 'text')}/adapter_config.json: Expected peft_type IA3 because the manifest's method is ia3 but received LORA`,
    );
    expect(await faultsOf(importAdapter(join(out, 'a'), plain, source('image', join(FIXTURES, 'ia3'))))).toEqual([
      'adapter.json: Expected contexts among text, all but received "image"',
    ]);
    const options = { ...source('text', join(trained('lora'), 'text')), projectorFrom: trained('ia3-layers') };
    expect(await faultsOf(importAdapter(join(out, 'a'), seeing, options))).toEqual([
      'Expected an adapter with projector.safetensors but received one without',
    ]);
    expect(await readdir(out)).toEqual([]);
  });

  it('of an adapter that contradicts itself, without a backbone', async () => {
    const folder = join(out, 'broken');
    await cp(join(FIXTURES, 'ia3'), folder, { recursive: true });
    const config = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8')) as object;
    await writeFile(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, feedforward_modules: [] }));
    expect(await faultsOf(exportAdapter(folder, join(out, 'peft')))).toContain(
      'adapter_model.safetensors: Expected ia3_l of model.layers.0.mlp.down_proj to be [32, 1] but received [1, 32]',
    );
    await writeAdapter(join(out, 'none'), randomDraft(seeing.target, { method: 'none', seed: 1 }));
    expect(await faultsOf(exportAdapter(join(out, 'none'), join(out, 'peft')))).toEqual([
      'Expected an adapter with parameters for a context but received one of method none, which has a projector only',
    ]);
  });

  it('of an adapter of another backbone', async () => {
    const faults = await faultsOf(exportAdapter(trained('lora-layers'), join(out, 'peft'), plain.target));
    expect(faults[0]).toContain('adapter.json: Expected a language model of fingerprint sha256:');
    expect(await readdir(out)).toEqual([]);
  });
});
