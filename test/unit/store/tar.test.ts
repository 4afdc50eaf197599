/** Adapters out of tars: those of real programs in all their formats, and those that were made to do harm. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AppError } from '../../../src/errors.js';
import { AdapterStore } from '../../../src/store/store.js';
import { takeTar } from '../../../src/store/tar.js';
import { pax, type TarEntry, tarOf } from '../../support/tar.js';
import { digestOfSeed, peftFiles, TestPublisher } from '../../support/versions.js';

const MAX_BYTES = 100_000;
const MEGABYTE = 1024 ** 2;

let folder: string;
let store: AdapterStore;
let publisher: TestPublisher;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-tar-'));
  store = await AdapterStore.open(path.join(folder, 'store'));
  publisher = new TestPublisher(store, { maxBytes: MAX_BYTES });
});
afterEach(async () => {
  await store.close();
  await rm(folder, { recursive: true });
});

/** As a line brings it: in pieces that end anywhere. */
async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

const publish = (body: AsyncIterable<Uint8Array>) =>
  publisher.publisher.publish({ name: 'a', by: '', isCurrent: true }, (intake) => takeTar(body, intake));

/** What it is refused with. Nothing of it may remain anywhere. */
async function refusal(body: AsyncIterable<Uint8Array>): Promise<AppError> {
  const error = await publish(body).then(
    () => undefined,
    (thrown: unknown) => thrown as AppError,
  );
  if (!error) throw new Error('Expected a refusal but it was published');
  const left = await readdir(path.join(folder, 'store'), { recursive: true });
  expect(left.sort()).toEqual(['index.json', 'lock', 'uploads', 'versions']);
  expect(await readdir(folder)).toEqual(['store']);
  expect(publisher.checked).toEqual([]);
  return error;
}

const files = (around = ''): TarEntry[] => [...peftFiles(1)].map(([name, content]) => ({ name: `${around}${name}`, content }));
const [config = { name: '' }, tensors = { name: '' }] = files();
const tar = (...entries: TarEntry[]) => pieces(tarOf(entries), 1000);
const good = (...entries: TarEntry[]) => tar(...files(), ...entries);
const tooMany = Array.from({ length: 130 }, (_, index) => ({ name: `${index}.txt`, content: 'x' }));

describe('takes', () => {
  it.each([1, 511, 512, 513, 100_000])('what comes in pieces of %d bytes', async (size) => {
    expect((await publish(pieces(tarOf(files()), size))).version.digest).toBe(digestOfSeed(1));
  });

  it.each([
    ['with a folder around it', files('adapter/')],
    ['with that folder as an entry', [{ name: 'adapter/', kind: '5' }, ...files('adapter/')]],
    ['as tar c . makes it', [{ name: './', kind: '5' }, ...files('./')]],
    [
      'with names in PAX records',
      files().flatMap(({ name, content = '' }) => [
        { name: 'PaxHeaders/x', kind: 'x', content: pax('path', name) },
        { name: 'x', content },
      ]),
    ],
    ['with texts', [...files(), { name: 'README.md', content: '# mine' }, { name: 'LICENSE', content: 'yours' }]],
    [
      "with a Mac's own files",
      [...files(), { name: './._adapter_config.json', content: 'x' }, { name: '.DS_Store', content: 'x' }],
    ],
    ['without an end', files()],
  ])('an adapter %s', async (what, entries) => {
    const bytes = tarOf(entries, what === 'without an end' ? 0 : 2);
    expect((await publish(pieces(bytes, 700))).version.digest).toBe(digestOfSeed(1));
    const kept = await readdir(path.join(folder, 'store/versions', digestOfSeed(1).slice(7)));
    const texts = entries.map(({ name }) => name).filter((name) => /^(README.md|LICENSE)$/.test(name));
    expect(kept.sort()).toEqual([...peftFiles(1).keys(), ...texts].sort());
  });
});

const hasTar = (() => {
  try {
    return execFileSync('tar', ['--version'], { encoding: 'utf8' }).includes('GNU tar');
  } catch {
    return false;
  }
})();

describe.skipIf(!hasTar)(`GNU tar's (skipped where there is none)`, () => {
  const run = promisify(execFile);
  const long = `adapter-${'x'.repeat(110)}`;
  const short = 'adapter';

  beforeEach(async () => {
    for (const around of [long, short]) {
      await mkdir(path.join(folder, around));
      for (const [name, content] of peftFiles(1)) await writeFile(path.join(folder, around, name), content);
    }
  });

  const forget = async (): Promise<void> => {
    for (const around of [long, short]) await rm(path.join(folder, around), { recursive: true });
  };

  const archive = async (...args: string[]): Promise<Uint8Array> =>
    (await run('tar', ['-C', folder, ...args], { encoding: 'buffer', maxBuffer: 2 ** 24 })).stdout;

  it.each(['gnu', 'oldgnu', 'posix', 'pax', 'ustar'])(
    '%s format is taken, with a long name around it where it can have one',
    async (format) => {
      const bytes = await archive(`--format=${format}`, '-c', format === 'ustar' ? short : long);
      expect((await publish(pieces(bytes, 4096))).version.digest).toBe(digestOfSeed(1));
    },
  );

  it('links are refused, symbolic and hard ones', async () => {
    await symlink('/etc/passwd', path.join(folder, long, 'README.md'));
    const bytes = await archive('-c', long);
    await forget();
    const { code, message } = await refusal(pieces(bytes, 4096));
    expect(code).toBe('adapter_invalid');
    expect(message).toMatch(/which is a symlink$/);
  });

  it('a sparse file is refused', async () => {
    await run('truncate', ['-s', '50000', path.join(folder, long, 'adapter_model.safetensors')]);
    const bytes = await archive('-c', '-S', '--format=posix', long);
    await forget();
    expect((await refusal(pieces(bytes, 4096))).message).toMatch(/which is sparse$/);
  });
});

const plain = (name: string) => `Expected a plain path of at most 3 names but received ${JSON.stringify(name)}`;
const other = (name: string, kind: string) =>
  `Expected files and folders only but received ${JSON.stringify(name)}, which is a ${kind}`;
const again = (name: string) => `Expected each path once but received ${JSON.stringify(name)} again`;
const only = (name: string) =>
  `Expected only adapter.json, projector.safetensors, adapter_config.json, adapter_model.safetensors, and texts such as README.md, but received ${JSON.stringify(name)}`;

describe('refuses', () => {
  it.each<[string, TarEntry[], string]>([
    ['a path that leads out', [{ name: '../README.md', content: 'x' }], plain('../README.md')],
    ['one that leads out later', [{ name: 'image/../../README.md', content: 'x' }], plain('image/../../README.md')],
    ['an absolute path', [{ name: '/etc/README.md', content: 'x' }], plain('/etc/README.md')],
    ['a path of Windows', [{ name: 'C:\\README.md', content: 'x' }], plain('C:\\README.md')],
    ['a backslash', [{ name: 'image\\README.md', content: 'x' }], plain('image\\README.md')],
    ['an empty name', [{ name: '', content: 'x' }], plain('')],
    ['an empty part', [{ name: 'image//README.md', content: 'x' }], plain('image//README.md')],
    ['a dot between', [{ name: 'image/./README.md', content: 'x' }], plain('image/./README.md')],
    ['a control character', [{ name: 'READ\nME.md', content: 'x' }], plain('READ\nME.md')],
    ['a name of another alphabet that looks alike', [{ name: 'аdapter.json', content: 'x' }], plain('аdapter.json')],
    ['a hidden file', [{ name: '.bashrc', content: 'x' }], plain('.bashrc')],
    ['a deep path', [{ name: 'a/b/c/README.md', content: 'x' }], plain('a/b/c/README.md')],
    ['a folder that leads out', [{ name: '../out/', kind: '5' }], plain('../out')],
    ['a symbolic link', [{ name: 'README.md', kind: '2', link: '/etc/passwd' }], other('README.md', 'symlink')],
    ['a hard link', [{ name: 'README.md', kind: '1', link: 'adapter_config.json' }], other('README.md', 'link')],
    ['a character device', [{ name: 'README.md', kind: '3' }], other('README.md', 'character-device')],
    ['a block device', [{ name: 'README.md', kind: '4' }], other('README.md', 'block-device')],
    ['a pipe', [{ name: 'README.md', kind: '6' }], other('README.md', 'fifo')],
    ['a kind that nobody knows', [{ name: 'README.md', kind: 'S', content: 'x' }], other('README.md', 'null')],
    ['a file twice', [{ ...config }], again('adapter_config.json')],
    ['a file twice by another spelling', [{ ...config, name: './adapter_config.json' }], again('adapter_config.json')],
    [
      'a file twice but for its case',
      [
        { name: 'README.md', content: 'x' },
        { name: 'readme.md', content: 'y' },
      ],
      again('readme.md'),
    ],
    [
      'a file that is a folder too',
      [
        { name: 'a.txt', content: 'x' },
        { name: 'a.txt/b.txt', content: 'y' },
      ],
      again('a.txt'),
    ],
    ['a folder that is a file too', [{ name: 'adapter_config.json/', kind: '5' }], again('adapter_config.json')],
    ['a pickle', [{ name: 'optimizer.pt', content: 'x' }], only('optimizer.pt')],
    ['a defining name in other case', [{ name: 'Adapter.json', content: '{}' }], only('Adapter.json')],
    [
      'a file of no context',
      [{ name: 'image/adapter_config.json', content: '{}' }],
      'Expected the files that the manifest names, and texts, but received "image/adapter_config.json"',
    ],
    [
      'a text that is none',
      [
        { name: 'README.md', content: new Uint8Array(300_000 / 4) },
        { name: 'b.txt', content: new Uint8Array(1) },
        { name: 'c/', kind: '5' },
        { name: '.x' },
      ],
      plain('.x'),
    ],
    [
      'a PAX path that leads out',
      [
        { name: 'x', kind: 'x', content: pax('path', '../README.md') },
        { name: 'README.md', content: 'x' },
      ],
      plain('../README.md'),
    ],
    [
      'a PAX link path',
      [
        { name: 'x', kind: 'x', content: pax('linkpath', '/etc/passwd') },
        { name: 'README.md', kind: '2' },
      ],
      other('README.md', 'symlink'),
    ],
    [
      'a global PAX path',
      [
        { name: 'x', kind: 'g', content: pax('path', 'adapter_config.json') },
        { name: 'y', kind: 'x', content: pax('comment', 'x') },
        { name: 'README.md', content: 'x' },
      ],
      again('adapter_config.json'),
    ],
    [
      'a long name that leads out',
      [
        { name: '././@LongLink', kind: 'L', content: `${'../'.repeat(40)}README.md\0` },
        { name: 'x', content: 'x' },
      ],
      `Expected a plain path of at most 3 names but received ${`"${'../'.repeat(40)}README.md`.slice(0, 117)}...`,
    ],
  ])('%s', async (_, entries, fault) => {
    const { code, message } = await refusal(good(...entries));
    expect([code, message]).toEqual(['adapter_invalid', `The upload is no adapter: ${fault}`]);
  });

  it('all that is wrong at once', async () => {
    const error = await refusal(good({ name: '../x.md' }, { name: 'a.pt', content: 'x' }, { name: 'README.md', kind: '2' }));
    expect(error.faults).toEqual([plain('../x.md'), only('a.pt'), other('README.md', 'symlink')]);
  });

  const strange = (what: string) => `Expected a plain tar, whole and not compressed, but received something else (${what})`;
  const tooLarge = `Expected an adapter of at most ${MAX_BYTES} bytes but received more`;
  it.each<[string, AsyncIterable<Uint8Array>, string, string | RegExp]>([
    ['nothing', pieces(new Uint8Array(), 1), 'adapter_invalid', /^The upload is no adapter: Expected adapter.json, or/],
    ['zeros', pieces(new Uint8Array(10_240), 512), 'adapter_invalid', /^The upload is no adapter: Expected adapter.json, or/],
    [
      'what is no tar',
      pieces(new TextEncoder().encode('no tar at all '.repeat(100)), 512),
      'adapter_invalid',
      /something else \(Invalid tar header/,
    ],
    [
      'a compressed tar',
      pieces(gzipSync(tarOf([...files(), ...tooMany.slice(0, 40)])), 512),
      'adapter_invalid',
      /something else \((Invalid tar header|Unexpected end)/,
    ],
    ['an end in a header', pieces(tarOf(files()).subarray(0, 700), 512), 'adapter_invalid', strange('Unexpected end of data')],
    ['an end in a file', pieces(tarOf(files()).subarray(0, 1030), 512), 'adapter_invalid', strange('Unexpected end of data')],
    [
      'a header of another sum',
      pieces(
        tarOf(files()).map((byte, at) => (at === 3 ? byte ^ 1 : byte)),
        512,
      ),
      'adapter_invalid',
      /Invalid tar header/,
    ],
    [
      'a folder alone',
      tar({ name: 'adapter/', kind: '5' }),
      'adapter_invalid',
      /^The upload is no adapter: Expected adapter.json, or/,
    ],
    [
      'two adapters',
      tar(...files('a/'), ...files('b/')),
      'adapter_invalid',
      /^The upload is no adapter: Expected adapter.json, or/,
    ],
    [
      'too many files',
      good(...tooMany),
      'adapter_invalid',
      'Expected an adapter of at most 128 files and folders but received more',
    ],
    [
      'a file larger than all may be',
      good({ name: 'projector.safetensors', content: new Uint8Array(MAX_BYTES) }),
      'payload_too_large',
      tooLarge,
    ],
    [
      'what it does not want, without end',
      good({ name: 'x.bin', content: new Uint8Array(MAX_BYTES) }),
      'payload_too_large',
      tooLarge,
    ],
    ['a size of 8 exabytes', good({ name: 'README.md', bytes: 2 ** 62 }), 'adapter_invalid', strange('Unexpected end of data')],
    ['a size below zero', good({ name: 'README.md', bytes: -1000 }), 'adapter_invalid', strange('Invalid header')],
    [
      'a PAX size below zero',
      good({ name: 'x', kind: 'x', content: pax('size', '-5') }, { name: 'README.md', content: 'x' }),
      'adapter_invalid',
      strange('Invalid header'),
    ],
    [
      'a PAX size that is none',
      good({ name: 'x', kind: 'x', content: pax('size', 'many') }, { name: 'README.md', content: 'x' }),
      'adapter_invalid',
      strange('Invalid header'),
    ],
    [
      'a PAX header of 3 megabytes',
      good({ name: 'x', kind: 'x', content: pax('comment', 'x'.repeat(3 * MEGABYTE)) }, config),
      'adapter_invalid',
      strange('more headers than files need'),
    ],
    [
      'a PAX header that says 100 gigabytes',
      good({ name: 'x', kind: 'x', bytes: 1e11 }),
      'adapter_invalid',
      strange('Header exceeds max size'),
    ],
    [
      'headers without end',
      (async function* () {
        for (;;) yield tarOf([{ name: 'x', kind: 'x', content: pax('comment', 'x'.repeat(1000)) }], 0);
      })(),
      'adapter_invalid',
      strange('more headers than files need'),
    ],
    [
      'zeros without end',
      (async function* () {
        yield tarOf(files());
        for (;;) yield new Uint8Array(65_536);
      })(),
      'adapter_invalid',
      strange('more headers than files need'),
    ],
    [
      'a file cut by its header',
      tar(config, { ...tensors, content: (tensors.content as Uint8Array).subarray(0, 40) }),
      'adapter_invalid',
      /^Adapter a cannot be published: adapter_model.safetensors: /,
    ],
    [
      'a manifest that is none',
      good({ name: 'adapter.json', content: '{"format": 1}' }),
      'adapter_invalid',
      /^Adapter a cannot be published: adapter.json: Expected format to be /,
    ],
  ])('%s', async (_, body, code, message) => {
    const error = await refusal(body);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(typeof message === 'string' ? new RegExp(`^${message.replace(/[()]/g, '\\$&')}$`) : message);
  });

  it('a text that is larger than any text', async () => {
    await store.close();
    store = await AdapterStore.open(path.join(folder, 'store'));
    publisher = new TestPublisher(store, { maxBytes: 10 * MEGABYTE });
    const error = await refusal(good({ name: 'README.md', content: new Uint8Array(MEGABYTE) }));
    expect(error.message).toBe('The upload is no adapter: README.md: Expected at most 262144 bytes but received 1048576');
  });
});

describe('a line that breaks', () => {
  it('leaves nothing, and its own error', async () => {
    const broken = Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
    const body = (async function* () {
      yield tarOf(files()).subarray(0, 800);
      throw broken;
    })();
    expect(await refusal(body)).toBe(broken);
    expect(publisher.outcomes).toEqual(['internal']);
  });
});
