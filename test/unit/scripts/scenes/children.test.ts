/** Work in processes of their own: so many at a time, all of what they say under their names, and none left behind when it is stopped. */
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { inChildren, type Work } from '../../../../scripts/scenes/children.js';

let folder: string;
let script: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-children-'));
  script = join(folder, 'child.mjs');
  await writeFile(
    script,
    `import { appendFileSync, readFileSync } from 'node:fs';
const [log, name, milliseconds, status] = process.argv.slice(2);
console.log('from ' + name);
console.error('error of ' + name);
const end = (code) => { appendFileSync(log, 'end ' + name + '\\n'); process.exit(code); };
process.on('SIGTERM', () => end(130));
appendFileSync(log, 'begin ' + name + '\\n');
// One that meets another ends when two have begun: only two at once ever get there.
if (milliseconds === 'meet')
  setInterval(() => readFileSync(log, 'utf8').match(/begin/g).length > 1 && end(Number(status)), 10);
else setTimeout(() => end(Number(status)), Number(milliseconds));
`,
  );
});
afterAll(() => rm(folder, { recursive: true }));

const workOf = (log: string, name: string, milliseconds: number | 'meet' = 50, status = 0): Work => ({
  name,
  script,
  args: [join(folder, log), name, String(milliseconds), String(status)],
});
const linesOf = async (log: string): Promise<string[]> => (await readFile(join(folder, log), 'utf8')).trimEnd().split('\n');

describe('inChildren', () => {
  it('does all of it, no more than so many at a time, and passes on what is said', async () => {
    const said = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    const names = ['a', 'b', 'c', 'd', 'e'];
    const status = await inChildren(
      names.map((name) => workOf('all.log', name, 'meet')),
      2,
    );
    const lines = said.mock.calls.flat();
    said.mockRestore();
    expect(status).toBe(0);
    let [running, most] = [0, 0];
    for (const line of await linesOf('all.log')) {
      running += line.startsWith('begin') ? 1 : -1;
      most = Math.max(most, running);
    }
    expect(most).toBeLessThanOrEqual(2);
    for (const name of names)
      expect(lines).toEqual(expect.arrayContaining([`${name}: from ${name}`, `${name}: error of ${name}`]));
  });

  it('begins no other when one fails, and waits for those at work', async () => {
    const said = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    const status = await inChildren(
      [workOf('fails.log', 'a', 50, 7), workOf('fails.log', 'b', 400), workOf('fails.log', 'c')],
      2,
    );
    said.mockRestore();
    expect(status).toBe(7);
    expect((await linesOf('fails.log')).sort()).toEqual(['begin a', 'begin b', 'end a', 'end b']);
  });

  it('hands a signal on and ends when they have ended', async () => {
    const parent = join(folder, 'parent.mts');
    const module = fileURLToPath(new URL('../../../../scripts/scenes/children.ts', import.meta.url));
    const works = [workOf('stopped.log', 'a', 60_000), workOf('stopped.log', 'b', 60_000), workOf('stopped.log', 'c')];
    await writeFile(
      parent,
      `import { inChildren } from ${JSON.stringify(module)};\nprocess.exit(await inChildren(${JSON.stringify(works)}, 2));\n`,
    );
    const tsx = fileURLToPath(new URL('../../../../node_modules/tsx/dist/loader.mjs', import.meta.url));
    const process = spawn('node', ['--import', `file://${tsx}`, parent], { stdio: 'ignore' });
    await vi.waitFor(async () => expect(await readdir(folder)).toContain('stopped.log'), { timeout: 20_000 });
    await vi.waitFor(async () => expect(await linesOf('stopped.log')).toHaveLength(2), { timeout: 20_000 });
    process.kill('SIGTERM');
    const status = await new Promise((resolve) => process.on('exit', resolve));
    expect(status).not.toBe(0);
    expect((await linesOf('stopped.log')).sort()).toEqual(['begin a', 'begin b', 'end a', 'end b']);
  });
});
