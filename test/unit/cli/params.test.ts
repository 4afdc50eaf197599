/** The command that counts: transformers' own counts for all weights (fixtures/plan/make.py), and what people see of an answer or a fault. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ParamsFlags, params } from '../../../src/cli/params.js';
import { AppError } from '../../../src/errors.js';

interface Counts {
  readonly models: readonly { readonly name: string; readonly config: object; readonly parameters: number }[];
}

const { models } = JSON.parse(readFileSync(new URL('../../fixtures/plan/counts.json', import.meta.url), 'utf8')) as Counts;
const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const NODE = ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href, MAIN];
const VISION = fileURLToPath(new URL('../../fixtures/backbone/mobilenet/fine', import.meta.url));

let folder: string;
let paper: string;
let grouped: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-params-'));
  for (const { name, config } of models) await writeFile(path.join(folder, `${name}.json`), JSON.stringify(config));
  paper = path.join(folder, 'paper.json');
  grouped = path.join(folder, 'grouped.json');
});
afterAll(() => rm(folder, { recursive: true }));

const report = async (flags: ParamsFlags) => JSON.parse(await params({ ...flags, json: true })) as unknown;

async function faultsOf(flags: Omit<ParamsFlags, 'language'>): Promise<readonly string[]> {
  const error: unknown = await params({ language: grouped, ...flags }).catch((thrown: unknown) => thrown);
  if (error instanceof AppError && error.code === 'invalid_config') return error.faults ?? [];
  throw new Error(`Expected faults but received ${String(error)}`);
}

describe('the report', () => {
  it('counts the paper’s LoRA-8 with a fused projection, by group and by module', async () => {
    const targetModules = 'q_proj,k_proj,v_proj,o_proj,gate_up_proj,down_proj';
    expect(await report({ language: paper, method: 'lora', rank: '8', targetModules, imageDim: '1536' })).toEqual({
      method: 'lora',
      contexts: ['image', 'text'],
      adapter: 3_244_032,
      projector: 768 * 1536 + 768,
      groups: { image: 1_622_016, text: 1_622_016 },
      modules: {
        q_proj: 294_912,
        k_proj: 294_912,
        v_proj: 294_912,
        o_proj: 294_912,
        gate_up_proj: 1_327_104,
        down_proj: 737_280,
      },
    });
  });

  it('has lora with rank 8 in both contexts as its default', async () => {
    const told = { language: grouped, method: 'lora', rank: '8', contexts: 'text, image', sites: 'attention,ffn', alpha: '2' };
    expect(await report({ language: grouped })).toEqual(await report(told));
  });

  it('takes a rank for a context', async () => {
    const one = { language: grouped, rank: '1', contexts: 'agnostic', sites: 'attention' };
    const { adapter } = (await report(one)) as { adapter: number };
    expect(await report({ ...one, contexts: 'image,text', rank: '3,image=2' })).toMatchObject({
      groups: { image: 2 * adapter, text: 3 * adapter },
    });
  });

  it.each(models)('full counts what transformers counts: $name', async ({ name, parameters }) => {
    expect(await report({ language: path.join(folder, `${name}.json`), method: 'full' })).toEqual({
      method: 'full',
      contexts: [],
      adapter: parameters,
      projector: 0,
      groups: {},
      modules: {},
    });
  });

  it('reads a folder that holds nothing but config.json', async () => {
    const bare = path.join(folder, 'bare');
    await mkdir(bare);
    await writeFile(path.join(bare, 'config.json'), readFileSync(grouped));
    expect(await report({ language: bare })).toEqual(await report({ language: grouped }));
  });

  it.each([VISION, path.join(VISION, 'config.json')])('takes the projector’s size from a vision encoder', async (vision) => {
    // MobileNetV2 keeps 1280 channels in its last layer, however thin it is.
    const expected = { adapter: 0, projector: 768 * 1280 + 768, groups: {} };
    expect(await report({ language: paper, method: 'none', vision })).toMatchObject(expected);
  });
});

describe('the table', () => {
  it('has a column a context and thousands separated', async () => {
    const flags = {
      language: paper,
      rank: 'image=64,text=8',
      alpha: '16,text=0.5',
      sites: 'attention',
      targetModules: 'q_proj,v_proj',
    };
    expect(await params({ ...flags, imageDim: '768' })).toBe(
      [
        'method lora, rank 64 (image) and 8 (text), alpha 16 (image) and 0.5 (text)',
        '',
        '                 image     text        sum',
        '  q_proj     1,179,648  147,456  1,327,104',
        '  v_proj     1,179,648  147,456  1,327,104',
        '  adapter    2,359,296  294,912  2,654,208',
        '  projector                        590,592',
        '  total                          3,244,800',
      ].join('\n'),
    );
  });

  it('has one column where there is one group, and none where there is no group', async () => {
    expect(await params({ language: grouped, method: 'ia3', contexts: 'agnostic', targetModules: 'k_proj' })).toBe(
      ['method ia3', '', '             all', '  k_proj      16', '  adapter     16', '  projector    0', '  total       16'].join(
        '\n',
      ),
    );
    expect(await params({ language: grouped, method: 'full' })).toBe(
      ['method full', '', '  all weights  6,736', '  projector        0', '  total        6,736'].join('\n'),
    );
  });
});

describe('refusals', () => {
  it.each<[string, Omit<ParamsFlags, 'language'>, string[]]>([
    ['method', { method: 'dora' }, ['Expected --method to be one of lora, bitfit, ia3, none, full but received "dora"']],
    ['rank', { rank: '-2' }, ['Expected rank to be a positive integer but received -2']],
    ['image size', { imageDim: '1.5' }, ['Expected --image-dim to be a positive integer but received "1.5"']],
    ['module of method full', { method: 'full', targetModules: 'x', sites: 'ffn' }, [expect.stringContaining('"x"') as string]],
  ])('a wrong %s', async (_, flags, faults) => {
    expect(await faultsOf(flags)).toEqual(faults);
  });

  it.each(['', 'x', 'image=', 'image=4,image=5', '4,5', '1e3'])('a rank that cannot be read: %j', async (rank) => {
    expect(await faultsOf({ rank })).toEqual([
      `Expected --rank to be a number like 8, or image=4,text=16, but received ${JSON.stringify(rank)}`,
    ]);
  });

  it('two sizes of an image', async () => {
    expect(await faultsOf({ vision: VISION, imageDim: '8' })).toEqual([
      `Expected --vision or --image-dim but received both ${VISION} and 8`,
    ]);
  });

  it('everything at once', async () => {
    const faults = await faultsOf({
      method: 'lora',
      rank: 'x',
      alpha: '0',
      imageDim: '0',
      contexts: 'sound',
      targetModules: 'y',
    });
    expect(faults.map((fault) => /but received (\S+?),?$/.exec(fault)?.[1])).toEqual(['"0"', '"x"', '"sound"', '"y"', '0']);
  });
});

describe('graft params', () => {
  const graft = (...args: string[]) =>
    spawnSync(process.execPath, [...NODE, 'params', ...args], {
      cwd: folder,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
    });

  it('prints JSON and ends with 0', () => {
    const flags = ['--method', 'bitfit', '--contexts', 'text', '--sites', 'attention,ffn', '--image-dim', '1', '--json'];
    const { status, stdout, stderr } = graft('--language', 'paper.json', ...flags);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({ adapter: 119_808, projector: 1536, groups: { text: 119_808 } });
  });

  it('says every fault, never a stack, and ends with 1', () => {
    const faulty = graft('--language', 'grouped.json', '--rank', '900', '--contexts', 'all,text');
    expect(faulty).toMatchObject({ status: 1, stdout: '' });
    expect(faulty.stderr).toBe(
      'graft: params\n' +
        '  Expected "all" to be the only context, because it is every token\'s, but received ["all","text"]\n' +
        '  Expected rank to be at most 8, the smaller side of model.layers.0.self_attn.k_proj, but received 900\n',
    );
    expect(graft('--language', 'nowhere').stderr).toBe('graft: nowhere: Expected a file config.json but there is none\n');
  });

  it('teaches with --help', () => {
    const { status, stdout } = graft('--help');
    expect(status).toBe(0);
    expect(stdout.match(/^ {2}\$ graft params --language/gm)).toHaveLength(2);
  });
});
