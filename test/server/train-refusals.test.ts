/**
 * What can be wrong with what a run is given, and what can go wrong under way: said in one error that a person can act on, with everything
 * that was there before as it was.
 */
import { spawnSync } from 'node:child_process';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AppError, type ErrorCode } from '../../src/errors.js';
import { decodeSafetensors } from '../../src/tensor/safetensors.js';
import { makeTinyBackbone } from '../support/tiny.js';
import {
  digestOf,
  GRAFT,
  interrupt,
  logLength,
  makeTrainingFolder,
  readSteps,
  readTree,
  start,
  type TrainFlags,
  trainHere,
  trainWords,
} from '../support/training.js';

const GOOD = '{"image": "photos/red-0.png", "captions": ["a red dog."]}';
const BAD = ['{"image": "photos/none.png", "captions": ["a dog."]}', 'garbage', '{"image": "photos/red-0.png"}'];
const BROKEN = '{"image": "photos/broken.png", "captions": ["a dog."]}';
/** Grows without end: the numbers of a few steps are too large for float32. */
const GROWING: TrainFlags = { lr: 10, warmup: 0, clip: 'none', weightDecay: 10, schedule: 'constant', checkpointEvery: 2 };

let folder: string;
beforeAll(async () => {
  folder = await makeTrainingFolder();
  const write = (name: string, lines: readonly string[]) =>
    writeFile(path.join(folder, name), lines.map((line) => `${line}\n`).join(''));
  await write('photos/broken.png', ['no image']);
  await write('bad.jsonl', BAD);
  await write('broken.jsonl', [BROKEN]);
  await write('mixed.jsonl', [GOOD, ...BAD, BROKEN]);
  await trainHere(folder, { steps: 2, out: 'adapters/earlier' });
  await trainHere(folder, { steps: 2, out: 'backbones/trained', method: 'full', data: 'stories.txt' });
  await writeFile(path.join(folder, 'backbones', 'trained', 'notes.md'), 'mine');
  await makePoisoned();
  await makeSmallHeads();
});
afterAll(() => rm(folder, { recursive: true }));

/** A backbone one of whose weights is no number. */
async function makePoisoned(): Promise<void> {
  await cp(path.join(folder, 'backbone'), path.join(folder, 'poisoned'), { recursive: true });
  const weights = path.join(folder, 'poisoned', 'language', 'model.safetensors');
  const bytes = await readFile(weights);
  const place = decodeSafetensors(bytes, weights).header.entries.get('model.layers.1.mlp.up_proj.weight');
  bytes.writeFloatLE(Number.NaN, place?.offset ?? 0);
  await writeFile(weights, bytes);
}

/** The same weights, read as eight heads of four dimensions. */
async function makeSmallHeads(): Promise<void> {
  await cp(path.join(folder, 'backbone'), path.join(folder, 'heads-of-4'), { recursive: true });
  const file = path.join(folder, 'heads-of-4', 'language', 'config.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as object;
  await writeFile(file, JSON.stringify({ ...config, num_attention_heads: 8, num_key_value_heads: 4 }));
}

/** Everything but encoded images, which are worth keeping whatever happens. */
async function everything(): Promise<Map<string, string>> {
  return new Map([...(await readTree(folder))].filter(([name]) => !name.startsWith('.graft-cache')));
}

async function refusal(flags: TrainFlags): Promise<AppError> {
  const error: unknown = await trainHere(folder, { steps: 2, out: 'adapters/new', ...flags }).catch((thrown: unknown) => thrown);
  if (error instanceof AppError) return error;
  throw new Error(`Expected a refusal but received ${String(error)}`);
}

describe('refused, with nothing changed or left behind:', () => {
  test.each<[string, TrainFlags, ErrorCode, RegExp]>([
    ['data that is not there', { data: 'no.jsonl' }, 'invalid_data', /^Expected a dataset at \S+no\.jsonl but there is none$/],
    [
      'data without a row that can be used',
      { data: 'bad.jsonl' },
      'invalid_data',
      /bad\.jsonl: Expected at least one row .*: bad\.jsonl:1 .*"photos\/none\.png".*; bad\.jsonl:2 Expected JSON .*; bad\.jsonl:3 Expected captions/,
    ],
    [
      'data without an image that can be used',
      { data: 'broken.jsonl' },
      'invalid_data',
      /^Expected a caption to train on but no row can be used: broken\.jsonl:1 Expected a JPEG, PNG or WebP image/,
    ],
    [
      'bad rows with --strict, all of them named',
      { data: 'mixed.jsonl', strict: true },
      'invalid_data',
      /^4 rows cannot be used: mixed\.jsonl:2 .*; mixed\.jsonl:3 .*; mixed\.jsonl:4 .*; mixed\.jsonl:5 Expected a JPEG/,
    ],
    [
      'images for a backbone that takes text only',
      { backbone: 'backbone/language' },
      'invalid_config',
      /^Expected a backbone with a vision encoder, since the data has images, but language takes text only$/,
    ],
    [
      'a module that the backbone lacks',
      { targetModules: 'c_attn' },
      'invalid_config',
      /among q_proj, .* but received "c_attn"$/,
    ],
    ['a context that the backbone lacks', { contexts: 'audio' }, 'invalid_config', /among image, text.* but received "audio"$/],
    [
      'a rank above what a layer has',
      { rank: 33 },
      'invalid_config',
      /rank to be at most 16, the smaller side of .*k_proj, but received 33$/,
    ],
    [
      'a prompt without room',
      { maxTokens: 12, prompt: 'xxxxxxxxx' },
      'invalid_config',
      /^Expected a prompt of at most 8 tokens .* but received 11$/,
    ],
    [
      'rows longer than the backbone takes',
      { maxTokens: 1000 },
      'invalid_config',
      /--max-tokens of at most 128, .* but received 1000$/,
    ],
    [
      'heads that training can have and the engine cannot',
      { backbone: 'heads-of-4' },
      'unsupported_model',
      /^\S+language: Expected attention heads of a multiple of 8 dimensions, which can be served, but received 4$/,
    ],
    [
      'held-out data without a row that can be used',
      { data: 'mixed.jsonl', validation: 'broken.jsonl', patience: 2 },
      'invalid_data',
      /^Expected a held-out caption but no row can be used: broken\.jsonl:1 Expected a JPEG[^;]*$/,
    ],
    [
      'to go on and to begin again at once',
      { out: 'adapters/earlier', resume: true, restart: true },
      'invalid_config',
      /^The options are wrong: Expected --resume or --restart but received both$/,
    ],
    ...([{ contexts: 'text' }, { sites: 'ffn' }, { targetModules: 'q_proj' }] as const).map(
      (part): [string, TrainFlags, ErrorCode, RegExp] => [
        `a part of all weights: ${Object.keys(part).join()}`,
        { ...part, method: 'full', out: 'backbones/new' },
        'invalid_config',
        /^The options are wrong: Expected no --contexts, --sites or --target-modules with --method full, which trains every weight$/,
      ],
    ),
    ['random weights under an adapter', { init: 'random' }, 'invalid_config', /--init checkpoint with --method lora/],
    [
      'a projector without images',
      { data: 'stories.txt', method: 'none' },
      'invalid_config',
      /^Expected images with --method none/,
    ],
    [
      'patience without held-out data',
      { patience: 2 },
      'invalid_config',
      /^The options are wrong: Expected held-out data with --patience/,
    ],
    [
      'resuming without a checkpoint',
      { resume: true },
      'invalid_config',
      /^Expected a checkpoint to resume from at \S+runs\/new\/\S+ but there is none$/,
    ],
    ...([{ run: 'runs/new' }, { restart: true }] as const).map((other): [string, TrainFlags, ErrorCode, RegExp] => [
      `to take the place of an adapter that nobody gave up, with --${Object.keys(other).join()}`,
      { ...other, out: 'adapters/earlier' },
      'invalid_config',
      /^The options are wrong: --out: Expected a new folder but \S+earlier holds an adapter: --replace takes its place, --resume goes on with the run that made it$/,
    ]),
    [
      'to take the place of photos',
      { out: 'photos' },
      'invalid_config',
      /--out: .* an adapter to replace, but \S+photos is something else$/,
    ],
    ['to take the place of a file', { out: 'short.jsonl' }, 'invalid_config', /--out: .* but \S+short\.jsonl is something else$/],
    [
      'to replace a folder that holds the data',
      { out: '.' },
      'invalid_config',
      /--out: Expected a folder of its own, .* --data \S+captions\.jsonl is in it/,
    ],
    [
      'to replace the backbone that is read',
      { out: 'backbone', method: 'full' },
      'invalid_config',
      /but --backbone \S+backbone is in it/,
    ],
    [
      'to replace a backbone that somebody has added to',
      { out: 'backbones/trained', method: 'full' },
      'invalid_config',
      /trained backbone to replace/,
    ],
    [
      'a name that no server would take',
      { out: 'adapters/my dog' },
      'invalid_config',
      /--out: Expected a name .* but received "my dog"$/,
    ],
    [
      'a file where a folder should be',
      { out: 'short.jsonl/new' },
      'invalid_config',
      /^The options are wrong: --out: Expected a folder at \S+short\.jsonl/,
    ],
    [
      'a run folder within what is replaced',
      { run: 'adapters/new/run' },
      'invalid_config',
      /but --run \S+adapters\/new\/run is in it$/,
    ],
    [
      'the folder of another run',
      { run: 'runs/earlier', out: 'adapters/new' },
      'invalid_config',
      /^Expected a run folder without a checkpoint .* --resume goes on from it, --restart begins again$/,
    ],
    [
      'to resume with other settings',
      { out: 'adapters/earlier', resume: true, lr: 0.5, data: 'short.jsonl', threads: 1 },
      'invalid_config',
      /^The run cannot be resumed with other settings: .*Expected --lr to be 0\.01, as before, but received 0\.5/,
    ],
  ])('%s', async (_, flags, code, message) => {
    const before = await everything();
    const error = await refusal(flags);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain('\n');
    expect(await everything()).toEqual(before);
  });

  test('to resume on other weights in the same folder', async () => {
    await cp(path.join(folder, 'backbone'), path.join(folder, 'exchanged'), { recursive: true });
    const flags = { backbone: 'exchanged', out: 'adapters/exchanged' };
    await trainHere(folder, { ...flags, steps: 2 });
    await makeTinyBackbone(path.join(folder, 'exchanged'), 7);
    const { message } = await refusal({ ...flags, resume: true });
    expect(message).toMatch(
      /^The run cannot be resumed with other settings: Expected backbone_digest to be sha256:\w+ sha256:\w+, as before/,
    );
  });

  test('as a command: one line on standard error, no stack, and 1', async () => {
    expect(await start(folder, [...GRAFT, ...trainWords({ data: 'no.jsonl', out: 'adapters/new' })]).ended).toEqual({
      status: 1,
      signal: null,
      stdout: '',
      stderr: expect.stringMatching(/^graft: Expected a dataset at \S+no\.jsonl but there is none\n$/),
    });
  });
});

test('without --strict bad rows are told and the others trained', async () => {
  const { stdout, stderr } = await trainHere(folder, { data: 'mixed.jsonl', out: 'adapters/mixed', steps: 2 });
  expect(stdout).toContain('trained 2 steps');
  expect(stderr).toMatch(
    /^4 rows cannot be used:\n {2}mixed\.jsonl:2 .*\n {2}mixed\.jsonl:3 .*\n {2}mixed\.jsonl:4 .*\n {2}mixed\.jsonl:5 /m,
  );
  expect(stderr).toContain('; 1 caption; seed 0\n');
});

describe('a loss that is no number', () => {
  test('ends the run at its step; the checkpoint before it and the adapter of that name stay, and resuming tells the same', async () => {
    await cp(path.join(folder, 'adapters', 'earlier'), path.join(folder, 'adapters', 'growing'), { recursive: true });
    const flags = { ...GROWING, out: 'adapters/growing', steps: 100, replace: true } as const;
    const error = await refusal(flags);
    expect(error.code).toBe('training_diverged');
    const step = Number(
      /^Step (\d+): Expected a finite loss but received NaN \(learning rate 10\.0\); .*--restart$/.exec(error.message)?.[1],
    );
    expect(step).toBeGreaterThan(3);

    const read = async () => readFile(path.join(folder, 'runs', 'growing', 'checkpoint.safetensors'));
    const before = await read();
    const { header, tensors } = decodeSafetensors(before, 'checkpoint');
    expect(JSON.parse(header.metadata.get('progress') ?? '{}')).toMatchObject({ step: step - 1 - ((step - 1) % 2) });
    for (const { data } of tensors.values())
      expect(new Float32Array(new Uint8Array(data).buffer).every((value) => Number.isFinite(value))).toBe(true);
    expect((await readSteps(path.join(folder, 'runs', 'growing'))).order.at(-1)).toBe(step - 1);

    expect((await refusal({ ...flags, resume: true })).message).toBe(error.message);
    expect((await read()).equals(before)).toBe(true);
    expect(await readTree(path.join(folder, 'adapters', 'growing'))).toEqual(
      await readTree(path.join(folder, 'adapters', 'earlier')),
    );

    // The step before leaves parameters with which held-out data has no loss either: they are not the best of anything.
    const held = { ...GROWING, out: 'adapters/held', validation: 'other.jsonl', steps: step - 1, checkpointEvery: 100 };
    expect((await refusal(held)).message).toMatch(
      new RegExp(`^Step ${step - 1}: Expected a finite loss but received a held-out loss of NaN`),
    );
    expect([...(await everything()).keys()].filter((name) => name.includes('held'))).toEqual([
      path.join('runs', 'held', 'log.jsonl'),
      path.join('runs', 'held', 'report.html'),
    ]);
  });

  test('of a backbone with a weight that is none is found at the first step', async () => {
    const { code, message } = await refusal({ backbone: 'poisoned', out: 'adapters/poisoned' });
    expect(code).toBe('training_diverged');
    expect(message).toMatch(/^Step 1: Expected a finite loss but received NaN/);
  });
});

describe('a full disk', () => {
  const ROOM = 200; // KiB in a file: less than a checkpoint.
  const FLAGS: TrainFlags = { out: 'adapters/full', steps: 40, checkpointEvery: 2 };
  const runFolder = () => path.join(folder, 'runs', 'full');
  const limited = (flags: TrainFlags) =>
    start(folder, ['bash', '-c', `ulimit -f ${ROOM} && exec "$@"`, 'bash', ...GRAFT, ...trainWords(flags)]).ended;

  test('keeps the checkpoint, and with room the run goes on to what it would have been', async () => {
    await trainHere(folder, { ...FLAGS, run: 'runs/roomy', out: 'roomy/full' });
    const started = async (): Promise<boolean> => (await logLength(runFolder())) >= 5;
    expect(await interrupt(folder, FLAGS, 'SIGINT', started)).toMatchObject({ status: 130 });
    const checkpoint = await readFile(path.join(runFolder(), 'checkpoint.safetensors'));

    const { status, stdout, stderr } = await limited({ ...FLAGS, resume: true });
    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toMatch(
      /\ngraft: Expected room on the disk but there is none \(EFBIG\); .*go on with: {2}graft train .* --resume\n$/,
    );
    const left = await readTree(runFolder());
    expect([...left.keys()]).toEqual(['checkpoint.safetensors', 'log.jsonl', 'report.html']);
    expect(left.get('checkpoint.safetensors')).toBe(digestOf(checkpoint));

    await trainHere(folder, { ...FLAGS, resume: true });
    expect(await readTree(path.join(folder, 'adapters', 'full'))).toEqual(await readTree(path.join(folder, 'roomy', 'full')));
    expect(await readSteps(runFolder())).toEqual(await readSteps(path.join(folder, 'runs', 'roomy')));
  });

  test('before the first checkpoint there is nothing to go on from, and nothing is left', async () => {
    const { status, stderr } = await limited({ ...FLAGS, out: 'adapters/none' });
    expect(status).toBe(1);
    expect(stderr).toMatch(/\ngraft: Expected room on the disk but there is none \(EFBIG\); make room and begin again\n$/);
    expect([...(await readTree(path.join(folder, 'runs', 'none'))).keys()]).toEqual(['log.jsonl']);
  });

  /** File systems of their own, seen by one process only and gone with it. */
  const MOUNTS = ['unshare', '--mount', '--map-root-user', 'bash', '-ec'];
  const inMounts = (script: string, words: readonly string[] = []) => start(folder, [...MOUNTS, script, 'bash', ...words]).ended;
  const canMount = spawnSync('bash', ['-c', `${MOUNTS.join(' ')} 'mount -t tmpfs tmpfs /tmp'`]).status === 0;

  test.skipIf(!canMount)('keeps the adapter that was to be replaced', async () => {
    for (const name of ['small', 'kept', 'old']) await mkdir(path.join(folder, name));
    await trainHere(folder, { steps: 2, targetModules: 'q_proj', rank: 1, out: 'old/dog', run: 'runs/old' });
    const script = `
      mount -t tmpfs -o size=96k tmpfs small && cp -a old/dog small/dog
      "$@" || status=$?
      cp -a small/. kept && exit $status`;
    const flags = { steps: 4, out: 'small/dog', run: 'runs/small', replace: true } as const;
    const { status, stderr } = await inMounts(script, [...GRAFT, ...trainWords(flags)]);
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /\ngraft: Expected room on the disk but there is none \(ENOSPC\); the last checkpoint is as it was: .* --resume\n$/,
    );
    expect(await readTree(path.join(folder, 'kept'))).toEqual(await readTree(path.join(folder, 'old')));

    const { stdout } = await trainHere(folder, { ...flags, resume: true });
    expect(stdout).toContain('adapter  small/dog\n');
  });

  test.skipIf(!canMount)('a place that cannot be written is found before anything is read', async () => {
    await mkdir(path.join(folder, 'sealed'));
    const script = 'mount -t tmpfs -o ro tmpfs sealed && exec "$@"';
    const { status, stderr } = await inMounts(script, [...GRAFT, ...trainWords({ data: 'no.jsonl', out: 'sealed/dog' })]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^graft: .*: --out: Expected a folder that can be written but \S+sealed cannot \(EROFS\)\n$/);
  });
});
