/** Loading in a thread: what comes back, how faults come back, and what happens when the thread dies. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import type { AdapterRef } from '../../../src/adapter/adapter.js';
import { digestFolder } from '../../../src/adapter/digest.js';
import { readAdapter } from '../../../src/adapter/format.js';
import { AdapterLoader } from '../../../src/adapter/loader.js';
import { AppError } from '../../../src/errors.js';
import { FIXTURES, tinyTarget } from '../../fixtures/adapter/draft.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const MORTAL = new URL('../../fixtures/adapter/mortal.js', import.meta.url);

const target = await tinyTarget();
const open: AdapterLoader[] = [];

afterEach(async () => {
  for (const loader of open.splice(0)) await loader.close();
});

function start(...args: ConstructorParameters<typeof AdapterLoader>): AdapterLoader {
  const loader = new AdapterLoader(...args);
  open.push(loader);
  return loader;
}

async function refOf(path: string): Promise<AdapterRef> {
  const folder = join(FIXTURES, path);
  return { name: `tenant/${path}`, digest: (await digestFolder(folder)).digest, folder };
}

describe('AdapterLoader', () => {
  it('gives what readAdapter gives, under the name of the reference', async () => {
    const loader = start(target, 2);
    const paths = ['written/lora', 'written/ia3', 'lora-patterns', 'lora-linear', 'ia3'];
    const refs = await Promise.all(paths.map(refOf));
    const loaded = await Promise.all(refs.map((ref) => loader.load(ref)));
    for (const [index, ref] of refs.entries()) {
      expect(loaded[index]).toEqual({ ...(await readAdapter(ref.folder, target)), name: ref.name });
    }
  });

  it('tells faults as they are, and goes on', async () => {
    const loader = start({ ...target, imageDim: 7 });
    const ref = await refOf('written/lora');
    await expect(loader.load(ref)).rejects.toThrow(AppError);
    await expect(loader.load(ref)).rejects.toMatchObject({
      code: 'adapter_invalid',
      faults: ['projector.safetensors: Expected weight to be [16, 7] but received [16, 6]'],
    });
    await expect(loader.load({ ...ref, digest: `sha256:${'0'.repeat(64)}` })).rejects.toMatchObject({ code: 'adapter_changed' });
    await expect(loader.load(await refOf('ia3'))).resolves.toMatchObject({ method: 'ia3' });
  });

  it('refuses what was under way when its thread died, and starts another', async () => {
    const loader = start(target, 1, MORTAL);
    const ref = await refOf('ia3');
    for (const [name, reason] of [
      ['exits', 'exit code 3'],
      ['throws', 'Error: a defect'],
      ['rejects', 'Error: a defect'],
    ]) {
      const loads = ['waits', String(name)].map((each) => loader.load({ ...ref, name: each }));
      const message = `The thread that loads adapters ended unexpectedly (${reason})`;
      const outcomes = await Promise.allSettled(loads);
      expect(outcomes).toMatchObject(outcomes.map(() => ({ status: 'rejected', reason: { code: 'internal', message } })));
      await expect(loader.load(ref)).resolves.toMatchObject({ name: ref.name, matched: 6 });
    }
  });

  it('refuses after its end, and what was under way then', async () => {
    const loader = start(target, 1, MORTAL);
    const ref = await refOf('ia3');
    const [waiting] = await Promise.allSettled([loader.load({ ...ref, name: 'waits' }), loader.close()]);
    expect(waiting).toMatchObject({ status: 'rejected', reason: { code: 'shutting_down' } });
    await expect(loader.load(ref)).rejects.toMatchObject({ code: 'shutting_down' });
    await loader.close();
  });

  it('runs under tsx from any folder, and an idle thread does not keep the process', async () => {
    const code = `
      import { AdapterLoader } from ${JSON.stringify(join(ROOT, 'src/adapter/loader.ts'))};
      const loader = new AdapterLoader(${JSON.stringify(target)});
      loader.load(${JSON.stringify(await refOf('ia3'))}).then(({ name, matched }) => console.log(name, matched));
    `;
    const tsx = join(ROOT, 'node_modules/tsx/dist/cli.mjs');
    const { stdout, stderr, status } = spawnSync(process.execPath, [tsx, '--input-type=module', '--eval', code], {
      cwd: '/',
      encoding: 'utf8',
    });
    expect({ stdout, stderr, status }).toEqual({ stdout: 'tenant/ia3 6\n', stderr: '', status: 0 });
  });

  it('wants a thread at least', () => {
    expect(() => new AdapterLoader(target, 0)).toThrow(RangeError);
  });
});
