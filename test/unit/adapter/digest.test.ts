/** The digest names exactly the content that defines an adapter: the same files give the same, any other content another. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readFile, rename, rm, symlink, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ContentHash, digestFolder } from '../../../src/adapter/digest.js';
import { encoderFingerprint, fingerprint } from '../../../src/adapter/fingerprint.js';
import { readAdapter } from '../../../src/adapter/format.js';
import { FIXTURES, tinyTarget } from '../../fixtures/adapter/draft.js';

const FILES = [
  'adapter.json',
  'image/adapter_config.json',
  'image/adapter_model.safetensors',
  'projector.safetensors',
  'text/adapter_config.json',
  'text/adapter_model.safetensors',
];

let root: string;
let folder: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'graft-digest-'));
  folder = join(root, 'adapter');
  await cp(join(FIXTURES, 'written/lora'), folder, { recursive: true });
});

afterEach(async () => {
  await rm(root, { recursive: true });
});

const digest = async (): Promise<string> => (await digestFolder(folder)).digest;

describe('the digest of a folder', () => {
  it('is sha-256 over length-prefixed paths and contents, sorted', async () => {
    const hash = createHash('sha256');
    let total = 0;
    for (const path of FILES) {
      const content = await readFile(join(folder, path));
      for (const part of [Buffer.from(path), content]) {
        const length = Buffer.alloc(8);
        length.writeBigUInt64LE(BigInt(part.length));
        hash.update(length).update(part);
      }
      total += content.length;
    }
    expect(await digestFolder(folder)).toEqual({ digest: `sha256:${hash.digest('hex')}`, bytes: total });
  });

  it('is that of the bytes which readAdapter reads, plain folders included', async () => {
    const target = await tinyTarget();
    for (const path of [folder, join(folder, 'text'), join(FIXTURES, 'ia3')]) {
      expect((await readAdapter(path, target)).digest).toBe((await digestFolder(path)).digest);
    }
  });

  it('does not depend on where it is, when it was written, or what lies beside it', async () => {
    const before = await digest();
    await writeFile(join(folder, 'README.md'), 'hello');
    await writeFile(join(folder, 'image/optimizer.safetensors'), 'hello');
    await utimes(join(folder, 'adapter.json'), 1, 1);
    await rename(folder, join(root, 'elsewhere'));
    folder = join(root, 'elsewhere');
    expect(await digest()).toBe(before);
  });

  it.each(FILES)('changes with any byte of %s, and without it', async (path) => {
    const before = await digest();
    const content = await readFile(join(folder, path));
    // White space at the end leaves a manifest's meaning alone, and is content all the same.
    await writeFile(join(folder, path), Buffer.concat([content, Buffer.from(' ')]));
    const changed = await digest();
    await unlink(join(folder, path));
    expect(new Set([before, changed, await digest()]).size).toBe(3);
  });

  it.runIf(process.platform !== 'win32')('never waits for a pipe', async () => {
    const path = join(folder, 'projector.safetensors');
    await unlink(path);
    await promisify(execFile)('mkfifo', [path]);
    await expect(digestFolder(folder)).rejects.toMatchObject({
      code: 'adapter_invalid',
      message: 'projector.safetensors: Expected a file but received something else',
    });
  });
});

describe('ContentHash', () => {
  it('is the same however the content is cut, and another for another cut into files', () => {
    const hash = (files: readonly (readonly [string, readonly Uint8Array[]])[]): string => {
      const content = new ContentHash();
      for (const [path, parts] of files) {
        content.file(
          path,
          parts.reduce((sum, part) => sum + part.byteLength, 0),
        );
        for (const part of parts) content.update(part);
      }
      return content.digest();
    };
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 2 }), fc.nat(), (bytes, seed) => {
        const at = 1 + (seed % (bytes.length - 1));
        const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)];
        const whole = hash([
          ['a', [bytes]],
          ['b', []],
        ]);
        expect(
          hash([
            ['a', [head, tail]],
            ['b', []],
          ]),
        ).toBe(whole);
        expect(
          hash([
            ['a', [head]],
            ['b', [tail]],
          ]),
        ).not.toBe(whole);
        expect(hash([['ab', [bytes]]])).not.toBe(whole);
      }),
    );
  });

  it('holds its caller to the announced sizes', () => {
    const hash = new ContentHash();
    hash.file('a', 2);
    expect(() => hash.update(new Uint8Array(3))).toThrow(RangeError);
    expect(() => hash.file('b', 0)).toThrow(RangeError);
    expect(() => hash.digest()).toThrow(RangeError);
  });
});

describe('the fingerprint of a checkpoint', () => {
  it('is of its configuration and weights alone, and follows them', async () => {
    const checkpoint = join(root, 'checkpoint');
    await cp(join(FIXTURES, 'backbone'), checkpoint, { recursive: true });
    await rename(join(checkpoint, 'projections.safetensors'), join(checkpoint, 'model.safetensors'));
    const first = await fingerprint(checkpoint);
    expect(first).toMatch(/^sha256:[0-9a-f]{64}$/);
    await writeFile(join(checkpoint, 'tokenizer.json'), '{}');
    expect(await fingerprint(checkpoint)).toBe(first);
    await cp(checkpoint, join(root, 'copy'), { recursive: true });
    expect(await fingerprint(join(root, 'copy'))).toBe(first);
    await rename(join(checkpoint, 'model.safetensors'), join(checkpoint, 'model-00001-of-00001.safetensors'));
    const sharded = await fingerprint(checkpoint);
    await writeFile(join(checkpoint, 'config.json'), '{}');
    expect(new Set([first, sharded, await fingerprint(checkpoint)]).size).toBe(3);
    await expect(fingerprint(join(root, 'nowhere'))).rejects.toMatchObject({ code: 'invalid_file' });
  });

  it('names the file that it cannot read', async () => {
    const refused = async (message: RegExp): Promise<void> => {
      const error = { code: 'invalid_file', message: expect.stringMatching(message) as string };
      await expect(fingerprint(join(root, 'broken'))).rejects.toMatchObject(error);
    };
    await mkdir(join(root, 'broken/model.safetensors'), { recursive: true });
    await refused(/broken\/model\.safetensors: Expected a file but received something else$/);
    await rm(join(root, 'broken/model.safetensors'), { recursive: true });
    await symlink('nowhere', join(root, 'broken/model.safetensors'));
    await refused(/broken\/model\.safetensors: Expected a readable file but received Error: ENOENT/);
  });

  it('is another one for features that were chosen, and the same where none were', async () => {
    const checkpoint = join(root, 'encoder');
    await cp(join(FIXTURES, 'backbone'), checkpoint, { recursive: true });
    const of = (features?: string): Promise<string> => encoderFingerprint(checkpoint, features);
    expect(await of()).toBe(await fingerprint(checkpoint));
    const last = await of('layer 3, default');
    expect(last).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(await of('layer 3, default')).toBe(last);
    expect(new Set([await of(), last, await of('layer 3, full')]).size).toBe(3);
    await writeFile(join(checkpoint, 'config.json'), '{}');
    expect(await of('layer 3, default')).not.toBe(last);
  });
});
