/** Publishing: a folder is there whole or not at all, and what cannot be written leaves no trace. */
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestFolder } from '../../../src/adapter/digest.js';
import { readAdapter } from '../../../src/adapter/format.js';
import { type AdapterDraft, writeAdapter } from '../../../src/adapter/write.js';
import { randomDraft, tinyTarget } from '../../fixtures/adapter/draft.js';

const target = await tinyTarget();
let root: string;
let folder: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'graft-write-'));
  folder = join(root, 'tenant', 'probe');
});

afterEach(async () => {
  await rm(root, { recursive: true });
});

const lora = (seed: number, notes = {}): AdapterDraft => randomDraft(target, { method: 'lora', seed, notes });

describe('writeAdapter', () => {
  it('replaces an adapter as a whole: nothing of the old one stays, and nothing hidden', async () => {
    await writeAdapter(folder, lora(1));
    await writeFile(join(folder, 'README.md'), 'of the old one');
    const before = await digestFolder(folder);
    await writeAdapter(folder, randomDraft(target, { method: 'bitfit', seed: 2, contexts: ['all'] }));
    expect(await digestFolder(folder)).not.toEqual(before);
    expect((await readdir(folder)).sort()).toEqual(['adapter.json', 'all', 'projector.safetensors']);
    expect(await readdir(join(root, 'tenant'))).toEqual(['probe']);
  });

  it('is deterministic: the same draft, the same digest', async () => {
    await writeAdapter(folder, lora(1));
    await writeAdapter(join(root, 'probe'), lora(1));
    expect(await digestFolder(join(root, 'probe'))).toEqual(await digestFolder(folder));
  });

  it('is read whole, old or new, by whoever reads while it is replaced', async () => {
    const drafts = [lora(1), lora(2)];
    const digests = new Set<string>();
    for (const draft of drafts) {
      await writeAdapter(folder, draft);
      digests.add((await digestFolder(folder)).digest);
    }
    const state = { isWriting: true };
    const writing = (async () => {
      for (let turn = 0; turn < 20; turn++) await writeAdapter(folder, drafts[turn % 2] as AdapterDraft);
      state.isWriting = false;
    })();
    const seen = { whole: 0, refused: 0 };
    while (state.isWriting) {
      const [expected] = digests;
      const outcome = await readAdapter(folder, target, expected).catch((error: unknown) => error);
      if (outcome instanceof Error) expect(outcome).toMatchObject({ code: 'adapter_changed' });
      else expect(outcome).toMatchObject({ digest: expected, matched: 28 });
      seen[outcome instanceof Error ? 'refused' : 'whole']++;
    }
    await writing;
    expect(seen.whole + seen.refused).toBeGreaterThan(0);
  });

  it('says in the manifest what the draft says', async () => {
    const fingerprint = `sha256:${'a'.repeat(64)}`;
    await writeAdapter(
      folder,
      lora(1, {
        task: 'caption',
        prompt: 'Describe',
        imageTokens: 49,
        metrics: { cider: 0.6 },
        training: { steps: 10 },
        projector: null,
        backbone: { language: { name: 'l', fingerprint }, vision: { name: 'v' } },
      }),
    );
    expect(JSON.parse(await readFile(join(folder, 'adapter.json'), 'utf8'))).toEqual({
      format: 'context-peft/1',
      method: 'lora',
      contexts: ['image', 'text'],
      name: 'probe',
      task: 'caption',
      prompt: 'Describe',
      image_tokens: 49,
      metrics: { cider: 0.6 },
      training: { steps: 10 },
      projector: false,
      backbone: { language: 'l', language_fingerprint: fingerprint, vision: 'v' },
    });
  });

  it('takes short names for the modules, where the draft gives them', async () => {
    const draft = randomDraft(target, { method: 'ia3', seed: 1, contexts: ['text'] });
    if (draft.method !== 'ia3') throw new TypeError('Expected an IA3 draft');
    const targetModules = ['k_proj', 'v_proj', 'down_proj'];
    await writeAdapter(folder, {
      ...draft,
      groups: new Map([...draft.groups].map(([context, group]) => [context, { ...group, targetModules }])),
    });
    expect(JSON.parse(await readFile(join(folder, 'text/adapter_config.json'), 'utf8'))).toMatchObject({
      peft_type: 'IA3',
      target_modules: targetModules,
      feedforward_modules: ['down_proj'],
    });
    expect(await readAdapter(folder, target)).toMatchObject({ matched: 6 });
  });

  it('refuses a draft that contradicts itself, before anything is written', async () => {
    const a = new Float32Array(31);
    const b = new Float32Array(32);
    const group = (module: object) => new Map([['text', { modules: new Map([['m', module]]) }]]);
    for (const draft of [
      { method: 'lora', projector: null, groups: new Map() },
      { method: 'lora', projector: null, groups: new Map([['text', { modules: new Map() }]]) },
      { method: 'lora', projector: null, groups: group({ rank: 2, alpha: 1, a, b }) },
      { method: 'bitfit', projector: null, groups: new Map([['../text', { modules: new Map([['m', b]]) }]]) },
      {
        method: 'bitfit',
        projector: null,
        groups: new Map(['all', 'text'].map((context) => [context, { modules: new Map([['m', b]]) }])),
      },
      { method: 'none', projector: { weight: a, bias: new Float32Array(2) } },
    ] as unknown as AdapterDraft[]) {
      await expect(writeAdapter(folder, draft)).rejects.toThrow(RangeError);
    }
    expect(await readdir(root)).toEqual([]);
  });

  it.runIf(process.getuid?.() !== 0 && process.platform !== 'win32')(
    'leaves the old one as it was where the disk refuses',
    async () => {
      await writeAdapter(folder, lora(1));
      const before = await digestFolder(folder);
      await chmod(join(root, 'tenant'), 0o500);
      await expect(writeAdapter(folder, lora(2))).rejects.toMatchObject({ code: 'EACCES' });
      await chmod(join(root, 'tenant'), 0o700);
      expect(await digestFolder(folder)).toEqual(before);
    },
  );

  it('sweeps what writers of this adapter left behind long ago, and nothing else', async () => {
    const folders = ['.probe.tmp-old', '.probe.tmp-new', '.other.tmp-old', 'probe.old'];
    for (const name of folders) {
      await mkdir(join(root, 'tenant', name), { recursive: true });
      if (name.includes('old')) await utimes(join(root, 'tenant', name), 1, 1);
    }
    await writeAdapter(folder, lora(1));
    expect((await readdir(join(root, 'tenant'))).sort()).toEqual(['.other.tmp-old', '.probe.tmp-new', 'probe', 'probe.old']);
  });
});
