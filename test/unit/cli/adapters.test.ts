/** `graft adapters` as people use it: the program itself, what it prints, where it refuses, and with which status it ends. */
import { spawnSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportFolder } from '../../../src/cli/adapters/export.js';
import { importFolders } from '../../../src/cli/adapters/import.js';
import { AppError } from '../../../src/errors.js';
import { FIXTURES } from '../../fixtures/adapter/draft.js';
import { makeBackbone, FIXTURES as TRAINED } from '../../fixtures/peft/make.js';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const GGUF = fileURLToPath(new URL('../../fixtures/gguf/', import.meta.url));
const NODE = ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href, MAIN];

let folder: string;
let backbone: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-adapters-'));
  backbone = await makeBackbone(path.join(folder, 'backbone'));
});
afterAll(() => rm(folder, { recursive: true }));

const trained = (name: string) => path.join(TRAINED, 'adapters', name);

function graft(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const env = { PATH: process.env['PATH'] };
  const { status, stdout, stderr } = spawnSync(process.execPath, [...NODE, 'adapters', ...args], {
    cwd: folder,
    encoding: 'utf8',
    env,
  });
  return { status, stdout, stderr };
}

async function faultsOf(action: Promise<unknown>): Promise<readonly string[]> {
  const error: unknown = await action.catch((thrown: unknown) => thrown);
  if (error instanceof AppError && error.code === 'invalid_config') return error.faults ?? [error.message];
  throw new Error(`Expected faults but received ${String(error)}`);
}

describe('graft adapters', () => {
  it('exports, and imports again what it exported', () => {
    const exported = graft('export', trained('lora'), '--out', 'peft', '--backbone', 'backbone');
    expect(exported).toEqual({
      status: 0,
      stdout: 'adapter lora: lora\n  image   peft/image\n  text    peft/text\n',
      stderr: `graft: PEFT has no place for a projector: it stays in ${trained('lora')}\n`,
    });
    const pairs = ['--context', 'text=peft/text', '--context', 'image=peft/image', '--projector', trained('lora')];
    const imported = graft('import', ...pairs, '--out', 'adapters/again', '--backbone', 'backbone');
    expect(imported).toMatchObject({ status: 0, stderr: '' });
    expect(imported.stdout).toMatch(
      /^adapter again: lora on image and text, 12 modules, with a projector\n {2}folder {2}adapters\/again\n {2}digest {2}sha256:[0-9a-f]{64}\n$/,
    );
  });

  it('exports a merged checkpoint, and says what is left out', () => {
    const out = ['--merged', '--out', 'merged', '--backbone', 'backbone'];
    expect(graft('export', trained('lora'), ...out)).toEqual({
      status: 0,
      stdout: 'adapter lora: lora for text, merged into 6 of 20 tensors\n  folder  merged\n',
      stderr: 'graft: a language checkpoint has no place for the parameters for image and the projector: left out\n',
    });
  });

  it('exports it in shards, as large as they may be', async () => {
    const out = ['--merged', '--out', 'sharded', '--backbone', 'backbone', '--max-shard-size', '4KB'];
    const { status, stdout } = graft('export', trained('lora'), ...out);
    const files = await readdir(path.join(folder, 'sharded'));
    const shards = files.filter((name) => /^model-\d{5}-of-\d{5}\.safetensors$/.test(name)).length;
    expect({ status, stdout }).toEqual({
      status: 0,
      stdout: `adapter lora: lora for text, merged into 6 of 20 tensors in ${shards} shards\n  folder  sharded\n`,
    });
    expect(shards).toBeGreaterThan(1);
    expect(files).toContain('model.safetensors.index.json');
  });

  it('exports a LoRA for llama.cpp, and imports it again', async () => {
    const place = ['--out', 'lora.gguf', '--backbone', 'backbone'];
    const exported = graft('export', trained('lora'), '--gguf', ...place);
    expect(exported).toEqual({
      status: 0,
      stdout: 'adapter lora: lora for text, 6 modules\n  file  lora.gguf\n',
      stderr: 'graft: a GGUF file has no place for the parameters for image and the projector: left out\n',
    });
    expect(graft('export', trained('lora'), '--gguf', ...place).stderr).toBe(
      'graft: Expected --out to be a new folder but received lora.gguf, which exists (--replace takes its place)\n',
    );
    const imported = graft('import', 'lora.gguf', '--out', 'adapters/back', '--backbone', 'backbone');
    expect(imported).toMatchObject({ status: 0, stderr: '' });
    const tensors = 'text/adapter_model.safetensors';
    const [before, after] = [path.join(trained('lora'), tensors), path.join(folder, 'adapters/back', tensors)];
    expect(await readFile(after)).toEqual(await readFile(before));
  });

  it('imports a LoRA of llama.cpp, and names the file in what is wrong with it', () => {
    const file = path.join(GGUF, 'lora-linear.gguf');
    const fitting = ['--backbone', path.join(FIXTURES, 'backbone')];
    const { status, stdout, stderr } = graft('import', file, '--out', 'adapters/linear', ...fitting);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^adapter linear: lora on text, 14 modules, no projector: it takes text only\n/);
    const other = graft('import', file, '--out', 'adapters/other', '--backbone', 'backbone');
    expect(other).toMatchObject({ status: 1, stdout: '' });
    expect(other.stderr).toContain(`\n  ${file}: Expected blk.0.ffn_down.weight.lora_a to be [1, 24] but received [1, 32]\n`);
  });

  it('says every fault, never a stack, and ends with 1', () => {
    const { status, stdout, stderr } = graft('import', path.join(FIXTURES, 'ia3'), '--out', 'foreign', '--backbone', 'backbone');
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    const fault =
      /^ {2}.*adapter_model\.safetensors: Expected ia3_l of model\.layers\.\d\.mlp\.down_proj to be \[1, 24\] but received \[1, 32\]$/;
    const lines = stderr.trimEnd().split('\n');
    expect(lines).toEqual(['graft: adapter foreign', expect.stringMatching(fault), expect.stringMatching(fault)]);
  });

  it.each(['import', 'export', 'diff'])('teaches %s', (name) => {
    const { status, stdout } = graft(name, '--help');
    expect(status).toBe(0);
    expect(stdout).toContain(`$ graft adapters ${name} `);
  });
});

describe('graft adapters diff', () => {
  it('says so where both are equal, and ends with 0', () => {
    expect(graft('diff', trained('lora'), trained('lora'))).toEqual({
      status: 0,
      stdout: expect.stringMatching(/^equal, sha256:[0-9a-f]{64}\n$/) as string,
      stderr: '',
    });
  });

  it('tells facts and numbers, as text or as JSON, and ends with 1', () => {
    const [a, b] = [path.join(trained('ia3'), 'image'), path.join(trained('ia3'), 'text')];
    const { status, stdout, stderr } = graft('diff', a, b);
    expect({ status, stderr }).toEqual({ status: 1, stderr: '' });
    const [names, digests, blank, summary, ...modules] = stdout.trimEnd().split('\n');
    expect([names, digests]).toEqual([
      expect.stringContaining(a),
      expect.stringMatching(/^ {2}digest {2}sha256:[0-9a-f]{12}\.\.\. +sha256:/),
    ]);
    expect([blank, summary]).toEqual(['', expect.stringMatching(/^text: 6 of 6 modules differ by [\d.]+ %, up to [\d.]+$/)]);
    expect(modules).toHaveLength(6);
    expect(modules[5]).toBe('  and 1 more');

    const json = graft('diff', a, b, '--json');
    expect({ status: json.status, stderr: json.stderr }).toEqual({ status: 1, stderr: '' });
    expect(JSON.parse(json.stdout)).toMatchObject({ equal: false, fields: [], contexts: [{ context: 'text', modules: 6 }] });
  });

  it.each([
    [
      'a folder that is no adapter',
      ['adapters', 'nothing'],
      'graft: adapter adapters: Expected adapter.json, or adapter_config.json of',
    ],
    ['one folder alone', ['adapters'], "error: missing required argument 'b'"],
  ])('ends with 2 for %s', (_, folders, message) => {
    const { status, stdout, stderr } = graft('diff', ...folders);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain(message);
  });
});

describe('flags', () => {
  const flags = (context: readonly string[]) => ({ out: path.join(folder, 'never'), backbone, context });

  it.each<[string, string | undefined, string[], string]>([
    ['nothing', undefined, [], 'Expected a PEFT folder, or --context NAME=FOLDER, but received neither'],
    ['a context alone', undefined, ['text'], 'Expected --context text=FOLDER, or a folder before it, but received "text" alone'],
    ['both ways', 'a', ['text=b'], 'Expected a folder or --context NAME=FOLDER but received both, "a" and ["text"]'],
    ['a context twice', undefined, ['text=a', 'text=b'], 'Expected --context once for text but received "text=b" as well'],
    ['a pair without a folder', undefined, ['text='], 'Expected --context to be NAME=FOLDER but received "text="'],
  ])('refused: %s', async (_, source, context, fault) => {
    expect(await faultsOf(importFolders(source, flags(context)))).toEqual([fault]);
  });

  it.each<[string, object, string]>([
    ['merging into nothing', { merged: true }, 'Expected --backbone beside --merged, whose weights these are, but received none'],
    ['a context of folders', { context: 'text' }, 'Expected --context beside --merged or --gguf only but received "text"'],
    ['two ways at once', { merged: true, gguf: true, backbone: 'models' }, 'Expected --merged or --gguf but received both'],
    ['a file of no family', { gguf: true }, 'Expected --backbone beside --gguf, which tells its family, but received none'],
    ['shards of folders', { maxShardSize: '1GB' }, 'Expected --max-shard-size beside --merged only but received "1GB"'],
    [
      'shards of no size',
      { merged: true, backbone: 'models', maxShardSize: '0' },
      'Expected --max-shard-size to be a size such as 64MB or 1GiB but received "0"',
    ],
  ])('refused: %s', async (_, given, fault) => {
    expect(await faultsOf(exportFolder(trained('lora'), { out: path.join(folder, 'never'), ...given }))).toEqual([fault]);
  });

  it('never replaces what it reads, whatever it is told', async () => {
    const own = path.join(folder, 'own');
    await cp(trained('ia3'), own, { recursive: true });
    const apart = (out: string, source: string) => [
      `Expected --out apart from what is read but received ${out}, which holds ${source}`,
    ];
    const language = path.join(backbone, 'checkpoint');
    expect(await faultsOf(exportFolder(own, { out: own, replace: true }))).toEqual(apart(own, own));
    const merged = { merged: true, backbone, out: backbone, replace: true };
    expect(await faultsOf(exportFolder(own, merged))).toEqual(apart(backbone, language));
    const source = path.join(own, 'text');
    expect(await faultsOf(importFolders(source, { out: own, backbone, replace: true }))).toEqual(apart(own, source));
    expect((await readdir(own)).sort()).toEqual(['adapter.json', 'image', 'projector.safetensors', 'text']);
    // A name that only begins like another's is another place.
    const beside = path.join(folder, 'ow');
    expect(await exportFolder(own, { out: beside })).toMatchObject({ text: expect.stringContaining('adapter own: ia3') });
  });

  it('merges the context that it is told', async () => {
    const [agnostic, both] = [trained('lora-agnostic'), trained('ia3')];
    const flags = { merged: true, backbone, context: 'image', replace: true, out: path.join(folder, 'image') };
    expect(await exportFolder(agnostic, flags)).toMatchObject({
      text: expect.stringContaining('lora for image, merged into 14 of 20'),
    });
    expect((await exportFolder(both, flags)).notes).toEqual([
      'graft: a language checkpoint has no place for the parameters for text and the projector: left out',
    ]);
  });

  it('says of BitFit that PEFT has no such type', async () => {
    const tags = fileURLToPath(new URL('../../../adapters/tags', import.meta.url));
    const { notes } = await exportFolder(tags, { out: path.join(folder, 'tags') });
    expect(notes).toEqual([
      'graft: BitFit is no type of PEFT: peft cannot open these folders, graft adapters import can',
      `graft: PEFT has no place for a projector: it stays in ${tags}`,
    ]);
  });

  it('takes text for the context of a folder, or what it is told', async () => {
    const source = path.join(trained('ia3'), 'text');
    const out = path.join(folder, 'plain');
    expect(await importFolders(source, { out, backbone })).toContain('ia3 on text, 6 modules, no projector');
    const again = { out, backbone, context: ['image', 'text'], replace: true };
    expect(await importFolders(source, again)).toContain('ia3 on image and text, 12 modules, no projector');
  });

  it('leaves alone what is there, unless told', async () => {
    const out = path.join(folder, 'mine');
    await mkdir(out);
    await writeFile(path.join(out, 'thesis.txt'), 'of years');
    const refusal = `Expected --out to be a new folder but received ${out}, which exists (--replace takes its place)`;
    expect(await faultsOf(exportFolder(trained('ia3'), { out }))).toEqual([refusal]);
    expect(await faultsOf(importFolders(trained('ia3'), { out, backbone, context: [] }))).toEqual([refusal]);
    expect(await readdir(out)).toEqual(['thesis.txt']);
    await exportFolder(trained('ia3'), { out, replace: true });
    expect((await readdir(out)).sort()).toEqual(['image', 'text']);
  });
});
