/** Checkpoints: bit for bit what was written, or a refusal that says why; and at no moment half of one. */
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { encodeSafetensors } from '../../../src/tensor/safetensors.js';
import {
  type Arrays,
  hasCheckpoint,
  type Identity,
  type Progress,
  readCheckpoint,
  writeCheckpoint,
} from '../../../src/training/checkpoint.js';
import { Gaussian, tensor } from '../../support/tiny.js';

const SIZE = 33;
const PROGRESS: Progress = {
  step: 12,
  best: { step: 10, loss: 1.23456789012345 },
  worse: 2,
  seconds: 0.1 + 0.2,
  tokens: 2 ** 40,
};
const IDENTITY: Identity = { lr: '0.002', rank: '"image=4"', data_digest: 'sha256:ab' };

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-checkpoint-'));
  path = join(folder, 'run', 'checkpoint.safetensors');
});
afterEach(() => rm(folder, { recursive: true }));

function arraysOf(seed: number, size = SIZE): Arrays {
  const random = new Gaussian(seed);
  const array = (): Float32Array => random.array(size, 1);
  return { values: array(), first: array(), second: array(), best: array() };
}
const empty = (size = SIZE): Arrays => ({
  values: new Float32Array(size),
  first: new Float32Array(size),
  second: new Float32Array(size),
  best: new Float32Array(size),
});

async function refusalOf(arrays: Arrays, identity: Identity = IDENTITY): Promise<AppError> {
  const error: unknown = await readCheckpoint(path, arrays, identity).catch((thrown: unknown) => thrown);
  if (error instanceof AppError) return error;
  throw new Error(`Expected a refusal but received ${String(error)}`);
}

describe('a checkpoint', () => {
  it('comes back bit for bit, into the very arrays', async () => {
    const arrays = arraysOf(1);
    arrays.values.set([Number.NaN, Number.POSITIVE_INFINITY, -0, 1e-45]);
    expect(await hasCheckpoint(path)).toBe(false);
    await writeCheckpoint(path, PROGRESS, arrays, IDENTITY);
    expect(await hasCheckpoint(path)).toBe(true);
    const read = empty();
    expect(await readCheckpoint(path, read, IDENTITY)).toEqual(PROGRESS);
    for (const name of ['values', 'first', 'second', 'best'] as const)
      expect(Buffer.from(read[name].buffer)).toEqual(Buffer.from(arrays[name].buffer));
    const first = { ...PROGRESS, best: null };
    await writeCheckpoint(path, first, arraysOf(2), IDENTITY);
    expect(await readCheckpoint(path, read, IDENTITY)).toEqual(first);
    expect(read).toEqual(arraysOf(2));
    expect(await readdir(join(folder, 'run'))).toEqual(['checkpoint.safetensors']);
  });

  it('takes parts of larger arrays for what they are', async () => {
    const whole = new Gaussian(3).array(4 * SIZE, 1);
    const part = (index: number): Float32Array => whole.subarray(index * SIZE, (index + 1) * SIZE);
    await writeCheckpoint(path, PROGRESS, { values: part(0), first: part(1), second: part(2), best: part(3) }, IDENTITY);
    const read = empty();
    await readCheckpoint(path, read, IDENTITY);
    expect([...read.values, ...read.first, ...read.second, ...read.best]).toEqual([...whole]);
  });

  it('is refused by a run with other settings, each named, and nothing is taken from it', async () => {
    await writeCheckpoint(path, PROGRESS, arraysOf(1), IDENTITY);
    const arrays = empty();
    const error = await refusalOf(arrays, { ...IDENTITY, lr: '0.001', data_digest: 'sha256:cd', seed: '0' });
    expect(error).toMatchObject({
      code: 'invalid_config',
      faults: [
        'Expected lr to be 0.002, as before, but received 0.001',
        'Expected data_digest to be sha256:ab, as before, but received sha256:cd',
        'Expected seed to be absent, as before, but received 0',
      ],
    });
    expect(arrays).toEqual(empty());
  });

  it('of other parameters is refused, each array named, and nothing is taken from it', async () => {
    await writeCheckpoint(path, PROGRESS, { ...arraysOf(1), second: new Float32Array(1), best: new Float32Array(2) }, IDENTITY);
    const arrays = empty();
    expect(await refusalOf(arrays)).toMatchObject({
      code: 'invalid_file',
      faults: [
        'Expected second to be float32 [33] but received float32 [1]',
        'Expected best to be float32 [33] but received float32 [2]',
      ],
    });
    expect(arrays).toEqual(empty());
  });

  it('that was cut short or overwritten is refused, whatever is left of it', async () => {
    await writeCheckpoint(path, PROGRESS, arraysOf(1), IDENTITY);
    const whole = await readFile(path);
    for (const length of [0, 1, 7, 8, 9, 100, whole.length - 4 * SIZE, whole.length - 1]) {
      await writeFile(path, whole.subarray(0, length));
      expect((await refusalOf(empty())).code).toBe('invalid_file');
    }
    for (const bytes of [
      Buffer.alloc(4096),
      Buffer.alloc(4096, 0xff),
      Buffer.from('{"step": 3}'),
      Buffer.concat([whole, whole]),
    ]) {
      await writeFile(path, bytes);
      expect((await refusalOf(empty())).code).toBe('invalid_file');
    }
    await rm(path);
    expect((await refusalOf(empty())).code).toBe('invalid_file');
    await mkdir(path);
    expect(await hasCheckpoint(path)).toBe(false);
    expect((await refusalOf(empty())).code).toBe('invalid_file');
  });

  it('whose text says something else is refused', async () => {
    const tensors = Object.entries(arraysOf(1)).map(([name, values]) => [name, tensor([SIZE], values as Float32Array)] as const);
    const good = { format: 'graft-checkpoint/1', progress: JSON.stringify(PROGRESS), identity: JSON.stringify(IDENTITY) };
    const write = (metadata: Record<string, string>) => writeFile(path, encodeSafetensors(tensors, Object.entries(metadata)));
    await mkdir(join(folder, 'run'));
    await write(good);
    expect(await readCheckpoint(path, empty(), IDENTITY)).toEqual(PROGRESS);
    for (const [metadata, fault] of [
      [
        { ...good, format: 'graft-checkpoint/2' },
        /Expected a checkpoint of graft-checkpoint\/1 but received graft-checkpoint\/2/,
      ],
      [{ format: good.format }, /Expected progress of a run.*; Expected identity of a run/],
      [{ ...good, progress: 'null' }, /Expected progress of a run/],
      [{ ...good, progress: '{"step": 3}' }, /Expected progress of a run/],
      [{ ...good, progress: JSON.stringify({ ...PROGRESS, step: -1 }) }, /Expected progress of a run/],
      [{ ...good, progress: '{', identity: '{' }, /Expected progress of a run.*; Expected identity of a run/],
      [{ ...good, identity: 'null' }, /Expected identity of a run/],
      [{ ...good, identity: '{"lr": 0.002}' }, /Expected identity of a run/],
    ] as const) {
      await write(metadata);
      expect((await refusalOf(empty())).code).toBe('invalid_file');
      expect((await refusalOf(empty())).message).toMatch(fault);
    }
  });

  it('is made again where its folder was taken away, and fails where that is none', async () => {
    await writeCheckpoint(path, PROGRESS, arraysOf(1), IDENTITY);
    await rm(join(folder, 'run'), { recursive: true });
    await writeCheckpoint(path, PROGRESS, arraysOf(1), IDENTITY);
    expect(await hasCheckpoint(path)).toBe(true);
    await rm(join(folder, 'run'), { recursive: true });
    await writeFile(join(folder, 'run'), 'a file');
    await expect(writeCheckpoint(path, PROGRESS, arraysOf(1), IDENTITY)).rejects.toMatchObject({ code: 'EEXIST' });
  });

  it.runIf(process.platform !== 'win32')('stays the last whole one where the disk takes no more', async () => {
    const count = 1_000_000;
    const write = (blocks: string, value: number): string => {
      const child = fileURLToPath(new URL('../../fixtures/training/checkpoint/write.ts', import.meta.url));
      const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
      const node = [process.execPath, '--import', loader, child, path, String(count), String(value)];
      return spawnSync('sh', ['-c', `ulimit -f ${blocks}; exec "$@"`, 'sh', ...node], { encoding: 'utf8' }).stdout.trim();
    };
    expect(write('unlimited', 3)).toBe('written');
    const before = await readFile(path);
    expect(write('12000', 4)).toBe('EFBIG');
    expect((await readFile(path)).equals(before)).toBe(true);
    expect(await readdir(join(folder, 'run'))).toEqual(['checkpoint.safetensors']);
    const arrays = empty(count);
    expect(await readCheckpoint(path, arrays, {})).toMatchObject({ step: 3 });
    expect(arrays.best.every((value) => value === 3)).toBe(true);
  });
});
