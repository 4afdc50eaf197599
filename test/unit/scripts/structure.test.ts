/**
 * The structure check has to be able to fail: every rule meets a tree that breaks it, and the same tree without the fault.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cruiseSource, importFaults, nativeFaults, sizeFaults } from '../../../scripts/structure.js';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'graft-structure-'));
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

function write(files: Readonly<Record<string, string>>): void {
  for (const [path, source] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), source);
  }
}

/** A package that resolves, so that only the rule under test can object. */
function install(...names: readonly string[]): void {
  write({
    'package.json': JSON.stringify({ type: 'module', dependencies: Object.fromEntries(names.map((name) => [name, '1.0.0'])) }),
  });
  for (const name of names) {
    write({
      [`node_modules/${name}/package.json`]: JSON.stringify({ name, version: '1.0.0', type: 'module', exports: './index.js' }),
      [`node_modules/${name}/index.js`]: 'export const value = 1;\n',
    });
  }
}

async function rules(): Promise<string[]> {
  const faults = importFaults(await cruiseSource(root));
  return faults.map((fault) => fault.slice(0, fault.indexOf(':'))).toSorted();
}

const LEAF = "import { basename } from 'node:path';\nexport const leaf = basename('leaf');\nexport type Leaf = typeof leaf;\n";
const importing = (path: string) => `import { leaf } from '${path}';\nexport const copy = leaf;\n`;
const importingType = (path: string) => `import type { Leaf } from '${path}';\nexport type Copy = Leaf;\n`;

describe('the import table', () => {
  it.each([
    ['adapter', 'engine/bank', 'adapter-imports'],
    ['tensor', 'onnx/graph', 'tensor-imports'],
    ['backbone', 'adapter/adapter', 'backbone-imports'],
    ['serving', 'backbone/language/llama', 'serving-imports'],
    ['http', 'engine/decoder', 'http-imports'],
    ['http', 'images/decode', 'http-imports'],
    ['images', 'backbone/vision/recipe', 'images-imports'],
    ['training', 'serving/client', 'training-imports'],
  ])('refuses that %s imports %s', async (folder, target, rule) => {
    write({ [`src/${folder}/user.ts`]: importing(`../${target}.js`), [`src/${target}.ts`]: LEAF });
    expect(await rules()).toEqual([rule]);
  });

  it.each([
    ['adapter', 'backbone/module'],
    ['serving', 'backbone/tokenizer'],
    ['http', 'serving/client'],
    ['cli', 'engine/decoder'],
    ['tensor', 'errors'],
  ])('lets %s import %s', async (folder, target) => {
    write({ [`src/${folder}/user.ts`]: importing(`../${target}.js`), [`src/${target}.ts`]: LEAF });
    expect(await rules()).toEqual([]);
  });

  it('lets a contract be imported by type where its folder may not be imported', async () => {
    write({ 'src/images/user.ts': importingType('../backbone/vision/recipe.js'), 'src/backbone/vision/recipe.ts': LEAF });
    expect(await rules()).toEqual([]);
  });

  it('refuses a type from a folder that is no contract', async () => {
    write({ 'src/images/user.ts': importingType('../backbone/language/llama.js'), 'src/backbone/language/llama.ts': LEAF });
    expect(await rules()).toEqual(['images-types']);
  });

  it('lets of fine-tuning only its process load the trainer', async () => {
    write({ 'src/training/run.ts': LEAF, 'src/finetuning/process.ts': importing('../training/run.js') });
    expect(await rules()).toEqual([]);
    write({ 'src/finetuning/queue.ts': importing('../training/run.js') });
    expect(await rules()).toEqual(['trains-in-its-process']);
    write({ 'src/finetuning/queue.ts': LEAF, 'src/http/user.ts': importing('../finetuning/process.js') });
    expect(await rules()).toEqual(['http-imports']);
  });

  it('refuses a folder that is not in the table', async () => {
    write({ 'src/utils/user.ts': importing('../errors.js'), 'src/errors.ts': LEAF });
    expect(await rules()).toEqual(['known-folders']);
  });

  it('refuses cycles, orphans and files that do not exist', async () => {
    write({
      'src/tensor/a.ts': "import { b } from './b.js';\nexport const a = () => b;\n",
      'src/tensor/b.ts': "import { a } from './a.js';\nexport const b = () => a;\n",
      'src/tensor/lonely.ts': 'export const lonely = 1;\n',
      'src/tensor/lost.ts': importing('./nowhere.js'),
    });
    expect(await rules()).toEqual(['no-cycles', 'no-orphans', 'resolvable']);
  });
});

describe('packages with one home', () => {
  it.each([
    ['onnxruntime-node', 'engine/user', 'runtime/session', 'home-of-onnxruntime-node-common'],
    ['sharp', 'training/user', 'images/decode', 'home-of-sharp'],
    ['prom-client', 'http/user', 'metrics', 'home-of-prom-client'],
  ])('%s', async (name, elsewhere, home, rule) => {
    install(name);
    const source = `import { value } from '${name}';\nexport const copy = value;\n`;
    write({ [`src/${home}.ts`]: source });
    expect(await rules()).toEqual([]);
    write({ [`src/${elsewhere}.ts`]: source });
    expect(await rules()).toEqual([rule]);
  });
});

describe('the front end', () => {
  const session = {
    'src/runtime/session.ts':
      "import { value } from 'onnxruntime-node';\nexport const leaf = value;\nexport type Leaf = number;\n",
  };

  it('must not load native code, however far away it is', async () => {
    install('onnxruntime-node');
    write({
      ...session,
      'src/http/app.ts': importing('../serving/client.js'),
      'src/serving/client.ts': importing('../runtime/session.js'),
    });
    const [fault, ...others] = nativeFaults(await cruiseSource(root));
    expect(others).toEqual([]);
    expect(fault).toContain('src/http/app.ts → src/serving/client.ts → src/runtime/session.ts → node_modules/onnxruntime-node');
  });

  it('may name types of it, and load it lazily', async () => {
    install('onnxruntime-node');
    write({
      ...session,
      'src/http/app.ts': importingType('../runtime/session.js'),
      'src/cli/main.ts': "export const train = () => import('./train.js');\n",
      'src/cli/train.ts': importing('../runtime/session.js'),
    });
    expect(nativeFaults(await cruiseSource(root))).toEqual([]);
  });
});

describe('file size', () => {
  it('refuses the 401st line, and leaves generated code alone', () => {
    const lines = (count: number) => `${Array.from({ length: count }, (_, line) => `// ${line}`).join('\n')}\n`;
    write({ 'src/tensor/fits.ts': lines(400), 'src/tensor/long.ts': lines(401), 'src/onnx/proto/onnx_pb.d.ts': lines(900) });
    expect(sizeFaults(root)).toEqual(['file-size: Expected src/tensor/long.ts to have at most 400 lines but received 401']);
  });
});
