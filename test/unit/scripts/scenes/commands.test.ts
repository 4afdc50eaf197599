/** What the commands around the backbone that ships refuse, in a line and before they do anything. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));
const TSX = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
const folder = mkdtempSync(join(tmpdir(), 'graft-commands-'));
afterAll(() => rmSync(folder, { recursive: true }));

function script(name: string, ...args: string[]): { status: number | null; stderr: string } {
  return spawnSync(process.execPath, ['--import', TSX, join(ROOT, 'scripts', name), ...args], { cwd: ROOT, encoding: 'utf8' });
}

it('build:scenes: the repository itself, which it would take for finished', () => {
  expect(script('build-scenes.ts', '--out', ROOT, '--install')).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^Expected --out to be a folder of its own but received the repository \S+\n$/) as string,
  });
});

it('build:scenes: a folder that another recipe has begun', () => {
  writeFileSync(join(folder, 'recipe.json'), '{}');
  expect(script('build-scenes.ts', '--out', folder)).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(
      /^Expected \S+ to be of this recipe but its recipe.json is another: give a new --out\n$/,
    ) as string,
  });
});

it.each([
  ['--count', '0', 'Expected --count to be a whole number from 1 to 100000 but received "0"\n'],
  ['--size', 'x', 'Expected --size to be a whole number from 32 to 1024 but received "x"\n'],
  [
    '--adapters',
    'test',
    'Expected --adapters to be a folder with some of english, french, german, pirate, counting, colours, relations, alt, tags but received "test"\n',
  ],
])('examine:scenes: %s %s', (flag, value, stderr) => {
  expect(script('examine-scenes.ts', flag, value)).toMatchObject({ status: 1, stderr });
});
