/** What a run leaves behind is what was trained: an adapter reads back with the same numbers, a backbone opens with its new weights. */
import { mkdir, mkdtemp, readdir, readFile, realpath, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedAdapter } from '../../../src/adapter/adapter.js';
import { encoderFingerprint, fingerprint } from '../../../src/adapter/fingerprint.js';
import { readAdapter } from '../../../src/adapter/format.js';
import { type AdapterPlan, type PlanOptions, planParameters, resolvePlan } from '../../../src/adapter/plan.js';
import { type BackboneDescription, describeBackbone, openWeights } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import type { LinearModule } from '../../../src/backbone/module.js';
import { Tokenizer } from '../../../src/backbone/tokenizer.js';
import { fromFloat32, toFloat32 } from '../../../src/tensor/convert.js';
import { adapterShapes, parameterName } from '../../../src/training/adapt.js';
import { type ParameterShape, Parameters } from '../../../src/training/parameters.js';
import { buildTraining, PROJECTOR } from '../../../src/training/program.js';
import { type Notes, publishAdapter, publishBackbone } from '../../../src/training/publish.js';
import { Gaussian, makeTinyBackbone } from '../../support/tiny.js';

const NOTES: Notes = { task: 'captions', prompt: 'a photo of', metrics: { validation_perplexity: 3.5 }, training: { steps: 7 } };

let root: string;
let backbone: BackboneDescription;
beforeAll(async () => {
  root = await mkdtemp(join(await realpath(tmpdir()), 'graft-publish-'));
  backbone = await describeBackbone(await readBackbone(await makeTinyBackbone(join(root, 'tiny'))));
});
afterAll(() => rm(root, { recursive: true }));

/** The backbone with other features than its encoder's own. */
function choosing(features: string): BackboneDescription {
  const { vision, target } = backbone;
  if (!vision) throw new TypeError('Expected a backbone with a vision encoder');
  const choice = { file: 'backbone.json', layer: -1, select: 'full' } as const;
  return {
    ...backbone,
    vision: { ...vision, choice, model: { ...vision.model, features } },
    target: { ...target, visionFeatures: features },
  };
}

function projectorShapes(): ParameterShape[] {
  const { hiddenSize, imageDim } = backbone.target;
  const start = { kind: 'constant', value: 0 } as const;
  return [
    { name: PROJECTOR.weight, shape: [hiddenSize, imageDim ?? 0], start },
    { name: PROJECTOR.bias, shape: [hiddenSize], start },
  ];
}

/** Random numbers for every parameter: not the parameters' own, which are what the last step left and perhaps not the best. */
function drawn(shapes: readonly ParameterShape[], seed: number): { parameters: Parameters; values: Float32Array } {
  const parameters = new Parameters(shapes);
  return { parameters, values: new Gaussian(seed).array(parameters.values.length, 0.5, 0.1) };
}

interface Published {
  readonly folder: string;
  readonly plan: AdapterPlan;
  readonly loaded: LoadedAdapter;
  readonly of: (context: string, module: LinearModule, part: 'lora_A' | 'lora_B' | 'bias' | 'ia3_l') => Float32Array;
  readonly values: Float32Array;
  readonly parameters: Parameters;
}

async function published(name: string, options: PlanOptions, hasProjector = true): Promise<Published> {
  const plan = resolvePlan(options, backbone.target);
  const { parameters, values } = drawn([...adapterShapes(plan), ...(hasProjector ? projectorShapes() : [])], 1);
  const folder = join(root, 'adapters', name);
  await publishAdapter(folder, backbone, plan, parameters, values, NOTES);
  const loaded = await readAdapter(folder, backbone.target);
  expect(loaded).toMatchObject({ name, method: plan.method });
  expect(loaded.matched).toBe(loaded.targeted);
  expect(loaded.matched).toBe(plan.modules.length * plan.contexts.length);
  expect(loaded.groups.map(({ context }) => context)).toEqual(plan.contexts);
  const of: Published['of'] = (context, module, part) => parameters.view(parameterName({ context, module, part }), values);
  return { folder, plan, loaded, of, values, parameters };
}

const json = async (...path: string[]): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(join(...path), 'utf8')) as Record<string, unknown>;
const targetsOf = async (folder: string, context: string): Promise<unknown> =>
  (await json(folder, context, 'adapter_config.json'))['target_modules'];

/** [rows, columns] → [columns, rows]. */
const transposed = (values: Float32Array, rows: number): Float32Array =>
  Float32Array.from(values, (_, index) => values[(index % rows) * (values.length / rows) + Math.floor(index / rows)] as number);

describe('publishAdapter', () => {
  it('LoRA: each context’s own rank and alpha, and every number', async () => {
    const rankByContext = new Map([
      ['image', 2],
      ['text', 3],
    ]);
    const alphaByContext = new Map([
      ['image', 8],
      ['text', 1.5],
    ]);
    const { loaded, plan, of } = await published('lora', { method: 'lora', rankByContext, alphaByContext });
    for (const { context, columns, a0 } of loaded.groups) {
      expect([a0, columns.size]).toEqual([0, backbone.language.modules.length]);
      for (const module of plan.modules) {
        const rank = rankByContext.get(context) as number;
        const scale = (alphaByContext.get(context) as number) / rank;
        const { a, b, rank: own } = columns.get(module.name) ?? {};
        expect(own).toBe(rank);
        expect(a).toEqual(transposed(of(context, module, 'lora_A'), rank));
        const scaled = transposed(of(context, module, 'lora_B'), module.outFeatures).map((value) => value * scale);
        expect(b).toEqual(scaled);
      }
    }
  });

  it('BitFit: every bias', async () => {
    const { loaded, plan, of } = await published('bitfit', { method: 'bitfit' });
    for (const { context, columns, a0 } of loaded.groups) {
      expect(a0).toBe(1);
      for (const module of plan.modules)
        expect(columns.get(module.name)).toEqual({ rank: 1, a: null, b: of(context, module, 'bias').slice() });
    }
  });

  it('IA3: every factor, on the side that it scales', async () => {
    const { loaded, plan, of, folder } = await published('ia3', { method: 'ia3' });
    const sides = new Set<string>();
    for (const { context, scales } of loaded.groups)
      for (const module of plan.modules) {
        sides.add(module.scalable as string);
        const delta = of(context, module, 'ia3_l').map((factor) => factor - 1);
        expect(scales.get(module.name)).toEqual({ side: module.scalable, delta });
      }
    expect(sides).toEqual(new Set(['input', 'output']));
    expect((await json(folder, 'text', 'adapter_config.json'))['feedforward_modules']).toEqual(['down_proj']);
  });

  it('none: the projector alone', async () => {
    const { loaded, parameters, values } = await published('none', { method: 'none' });
    expect(loaded.groups).toEqual([]);
    expect(loaded.projector).toEqual({
      weight: parameters.view(PROJECTOR.weight, values).slice(),
      bias: parameters.view(PROJECTOR.bias, values).slice(),
    });
  });

  it.each(['float16', 'bfloat16'] as const)('in %s: half the bytes, and every number rounded to nearest', async (dtype) => {
    const { plan, parameters, values } = await published('wide', { method: 'bitfit' });
    const folder = join(root, 'adapters', dtype);
    await publishAdapter(folder, backbone, plan, parameters, values, { ...NOTES, dtype });
    const { groups, projector } = await readAdapter(folder, backbone.target);
    const rounded = (exact: Float32Array): Float32Array => toFloat32(fromFloat32(exact, [exact.length], dtype));
    expect(projector?.weight).toEqual(rounded(parameters.view(PROJECTOR.weight, values)));
    for (const { context, columns } of groups)
      for (const module of plan.modules)
        expect(columns.get(module.name)?.b).toEqual(
          rounded(parameters.view(parameterName({ context, module, part: 'bias' }), values)),
        );
    const bytesOf = async (name: string): Promise<number> =>
      (await stat(join(root, 'adapters', name, 'text', 'adapter_model.safetensors'))).size;
    expect(await bytesOf(dtype)).toBeLessThan(0.8 * (await bytesOf('wide')));
  });

  it('says in the manifest what it was trained on and for', async () => {
    const { folder, loaded, parameters, values } = await published('notes', { method: 'bitfit', sites: ['ffn'] });
    expect(await json(folder, 'adapter.json')).toMatchObject({
      name: 'notes',
      method: 'bitfit',
      contexts: ['image', 'text'],
      task: 'captions',
      prompt: 'a photo of',
      image_tokens: backbone.vision?.imageTokens,
      metrics: NOTES.metrics,
      training: NOTES.training,
      backbone: {
        language: 'language',
        language_fingerprint: await fingerprint(backbone.languageFolder),
        vision: 'vision',
        vision_fingerprint: await fingerprint(backbone.vision?.folder as string),
      },
    });
    expect(loaded.projector?.weight).toEqual(parameters.view(PROJECTOR.weight, values).slice());
  });

  it('is an adapter of the features that were chosen, and of no others', async () => {
    const features = 'layer 3, full';
    const chosen = choosing(features);
    const plan = resolvePlan({ method: 'bitfit', sites: ['ffn'] }, backbone.target);
    const { parameters, values } = drawn([...adapterShapes(plan), ...projectorShapes()], 1);
    const folder = join(root, 'adapters', 'chosen');
    await publishAdapter(folder, chosen, plan, parameters, values, NOTES);
    expect(await json(folder, 'adapter.json')).toMatchObject({
      backbone: { vision_fingerprint: await encoderFingerprint(backbone.vision?.folder as string, features) },
    });
    await expect(readAdapter(folder, chosen.target)).resolves.toMatchObject({ name: 'chosen' });
    await expect(readAdapter(folder, backbone.target)).rejects.toMatchObject({ code: 'adapter_invalid' });
  });

  it('of text alone has no projector, no vision and no task where there is none', async () => {
    const text: BackboneDescription = {
      ...backbone,
      target: { ...backbone.target, contexts: ['text'] },
    };
    const plan = resolvePlan({ method: 'lora', rank: 2 }, text.target);
    const { parameters, values } = drawn(adapterShapes(plan), 2);
    const folder = join(root, 'adapters', 'text');
    await publishAdapter(folder, text, plan, parameters, values, { ...NOTES, task: null });
    expect((await readdir(folder)).sort()).toEqual(['adapter.json', 'text']);
    const manifest = await json(folder, 'adapter.json');
    expect(manifest).toMatchObject({ projector: false, backbone: { vision: null } });
    for (const field of ['task', 'image_tokens']) expect(manifest).not.toHaveProperty(field);
    expect((await readAdapter(folder, backbone.target)).projector).toBeNull();
  });

  it('of every token has one group', async () => {
    const { loaded, folder } = await published('agnostic', { method: 'lora', rank: 2, contexts: ['agnostic'] });
    expect(loaded.groups.map(({ context }) => context)).toEqual(['all']);
    expect((await readdir(folder)).sort()).toEqual(['adapter.json', 'all', 'projector.safetensors']);
  });

  it('names modules as people do where all layers are meant, else in full', async () => {
    const kinds = await published('kinds', { method: 'lora', rank: 2, targetModules: ['v_proj', 'q_proj', 'down_proj'] });
    expect(await targetsOf(kinds.folder, 'image')).toEqual(['down_proj', 'q_proj', 'v_proj']);
    const all = await published('all-kinds', { method: 'lora', rank: 2 });
    expect(await targetsOf(all.folder, 'text')).toHaveLength(7);
    const names = ['model.layers.0.self_attn.q_proj', 'model.layers.1.self_attn.q_proj', 'model.layers.1.mlp.up_proj'];
    const some = await published('some', { method: 'bitfit', targetModules: ['q_proj', 'model.layers.1.mlp.up_proj'] });
    expect(await targetsOf(some.folder, 'text')).toEqual(names.toSorted());
    expect([...(some.loaded.groups[0]?.columns.keys() ?? [])].sort()).toEqual(names.toSorted());
  });

  it('takes the place of an earlier one', async () => {
    const earlier = await published('again', { method: 'lora', rank: 2 });
    await writeFile(join(earlier.folder, 'README.md'), 'of the earlier one');
    const { folder } = await published('again', { method: 'ia3', contexts: ['text'] });
    expect((await readdir(folder)).sort()).toEqual(['adapter.json', 'projector.safetensors', 'text']);
  });

  it('writes as many tensors as the plan has parameters', async () => {
    const { plan, parameters } = await published('count', { method: 'lora', rank: 1 });
    expect(parameters.shapes.length).toBe(planParameters(plan).length + 2);
  });
});

describe('publishBackbone', () => {
  /** The parameters of full training, in the shapes of its own program. */
  async function fullShapes(of: BackboneDescription): Promise<readonly ParameterShape[]> {
    const { checkpoint, weights } = await openWeights(of.languageFolder, of.language);
    const image = of.vision && { tokens: of.vision.imageTokens, dim: of.vision.model.imageDim, dtype: 'float16' as const };
    const { parameters } = buildTraining(
      {
        language: of.language,
        image,
        plan: null,
        begin: 'checkpoint',
        dropout: 0,
        residualDropout: 0,
        recompute: false,
        maxTokens: 32,
      },
      weights,
    );
    await checkpoint.close();
    return parameters;
  }

  it('opens again with the trained weights, the tied head among them, and serves its own projector', async () => {
    const { parameters, values } = drawn(await fullShapes(backbone), 3);
    const folder = join(root, 'backbones', 'mine');
    await publishBackbone(folder, backbone, parameters, values, NOTES);
    expect((await readdir(folder)).sort()).toEqual(['adapters', 'backbone.json', 'language']);

    const manifest = await readBackbone(folder);
    expect(manifest).toEqual({ name: 'mine', languageFolder: join(folder, 'language'), visionFolder: backbone.vision?.folder });
    const again = await describeBackbone(manifest);
    expect(again.language.parameterCount).toBe(backbone.language.parameterCount);
    const { checkpoint, weights } = await openWeights(again.languageFolder, again.language);
    let count = 0;
    for (const { name, shape } of parameters.shapes) {
      if (name === PROJECTOR.weight || name === PROJECTOR.bias) continue;
      expect(await weights.read(name, shape), name).toEqual(parameters.view(name, values).slice());
      count += shape.reduce((product, size) => product * size, 1);
    }
    expect(count).toBe(backbone.language.parameterCount);
    const { hiddenSize, vocabSize } = backbone.language;
    expect(await weights.read('lm_head.weight', [vocabSize, hiddenSize])).toEqual(
      parameters.view('model.embed_tokens.weight', values).slice(),
    );
    await checkpoint.close();

    const tokenizer = await Tokenizer.open(again.languageFolder);
    expect(tokenizer.encode('the cat')).toEqual((await Tokenizer.open(backbone.languageFolder)).encode('the cat'));

    const adapter = await readAdapter(join(folder, 'adapters', 'mine'), again.target);
    expect(adapter).toMatchObject({ name: 'mine', method: 'none', groups: [] });
    expect(adapter.projector?.weight).toEqual(parameters.view(PROJECTOR.weight, values).slice());
    // It is an adapter of the new weights, and of no others.
    await expect(readAdapter(join(folder, 'adapters', 'mine'), backbone.target)).rejects.toMatchObject({
      code: 'adapter_invalid',
    });
  });

  it('asks for the features that it was trained with', async () => {
    const { parameters, values } = drawn(await fullShapes(backbone), 3);
    const folder = join(root, 'backbones', 'chosen');
    await publishBackbone(folder, choosing('layer 3, full'), parameters, values, NOTES);
    expect(await json(folder, 'backbone.json')).toMatchObject({
      vision_feature_layer: -1,
      vision_feature_select_strategy: 'full',
    });
    const { visionFeatures } = await readBackbone(folder);
    expect(visionFeatures).toEqual({ file: join(folder, 'backbone.json'), layer: -1, select: 'full' });
  });

  it('in half precision says so in its config.json, as transformers reads it', async () => {
    const { parameters, values } = drawn(await fullShapes(backbone), 3);
    const folder = join(root, 'backbones', 'half');
    await publishBackbone(folder, backbone, parameters, values, { ...NOTES, dtype: 'float16' });
    expect(await json(folder, 'language', 'config.json')).toMatchObject({ torch_dtype: 'float16', model_type: 'llama' });
    const again = await describeBackbone(await readBackbone(folder));
    const { checkpoint, weights } = await openWeights(again.languageFolder, again.language);
    for (const { name, shape } of parameters.shapes.filter(({ name }) => name.startsWith('model.')))
      expect(await weights.read(name, shape), name).toEqual(
        toFloat32(fromFloat32(parameters.view(name, values), shape, 'float16')),
      );
    await checkpoint.close();
  });

  it('of text alone has no adapter', async () => {
    const text = await describeBackbone(await readBackbone(backbone.languageFolder));
    const { parameters, values } = drawn(await fullShapes(text), 4);
    const folder = join(root, 'backbones', 'text');
    await publishBackbone(folder, text, parameters, values, NOTES);
    expect((await readdir(folder)).sort()).toEqual(['backbone.json', 'language']);
    expect((await readBackbone(folder)).visionFolder).toBeNull();
  });

  it('takes all of a checkpoint but its weights, through links as a cache of downloads has them', async () => {
    const linked = join(root, 'linked');
    const blobs = join(root, 'blobs');
    await mkdir(linked);
    await mkdir(blobs);
    const source = await makeTinyBackbone(join(root, 'source'));
    for (const name of await readdir(join(source, 'language'))) {
      await rename(join(source, 'language', name), join(blobs, name));
      await symlink(join(blobs, name), join(linked, name));
    }
    const others = ['chat_template.jinja', 'merges.txt', 'generation_config.json', 'tokenizer.model'];
    for (const name of others) await writeFile(join(linked, name), name === 'generation_config.json' ? '{}' : 'x');
    for (const name of ['model.safetensors.index.json', 'pytorch_model.bin', 'README.md', 'model-00001-of-00002.safetensors'])
      await writeFile(join(linked, name), 'x');
    await symlink(join(blobs, 'nowhere'), join(linked, 'gone.json'));
    await mkdir(join(linked, 'folder.json'));

    const { parameters, values } = drawn(await fullShapes(backbone), 5);
    const folder = join(root, 'backbones', 'linked');
    await publishBackbone(folder, { ...backbone, languageFolder: linked }, parameters, values, NOTES);
    expect((await readdir(join(folder, 'language'))).sort()).toEqual(
      [...others, 'config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'].sort(),
    );
    expect((await describeBackbone(await readBackbone(folder))).language.layerCount).toBe(2);
    const config = await json(backbone.languageFolder, 'config.json');
    expect(await json(folder, 'language', 'config.json')).toEqual({ ...config, torch_dtype: 'float32' });
    const tokenizer = (of: string): Promise<Uint8Array> => readFile(join(of, 'tokenizer.json'));
    expect(await tokenizer(join(folder, 'language'))).toEqual(await tokenizer(backbone.languageFolder));
  });
});
