/** `graft eval` on what is known: coco-caption's published scores, and the reference adapter's perplexity and captions. */
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { evaluateFiles } from '../../src/cli/eval/captions.js';
import { hasShared, realBackbone, shared, withShared } from '../support/shared.js';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const NODE = ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href, MAIN];

/**
 * First captions of the 1,000 dev photos, each whole, with its end: context_peft.py in PyTorch on the features of transformers' MobileNetV2Model,
 * one caption a run, cross-entropy in double precision. (The 17.682 of adapter.json is of the same captions counted in some other way.)
 */
const PYTORCH = { perplexity: 17.529621242182976, tokens: 20_329 };

interface Result {
  readonly file_name: string;
  readonly caption: string;
}

describe.runIf(hasShared)(`graft eval${withShared}`, () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-eval-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const graft = (...args: string[]): { stdout: string; stderr: string; status: number | null } =>
    spawnSync(process.execPath, [...NODE, 'eval', ...args], {
      cwd: folder,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
    });

  test('prints what coco-caption publishes for its own example', () => {
    const files = ['references', 'results'].flatMap((name) => [`--${name}`, shared(`caption-metrics/fakecap1000_${name}.json`)]);
    const { status, stdout, stderr } = graft('captions', ...files);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^1,000 images$/m);
    expect(stdout).toMatch(/^ +BLEU-1 +0\.579$/m);
    expect(stdout).toMatch(/^ +ROUGE-L +0\.396$/m);
    expect(stdout).toMatch(/^ +CIDEr +0\.600$/m);
    const json = graft('captions', ...files, '--json');
    expect(JSON.parse(json.stdout)).toMatchObject({ images: 1000, bleu_counts: { testlen: 9893, reflen: 9855 } });
  });

  test('gives the reference adapter the perplexity and the captions that PyTorch gives it', async () => {
    const flags = { backbone: realBackbone, adapter: shared('reference-adapter'), data: shared('flickr8k/dev') };
    const { status, stdout, stderr } = graft(
      ...Object.entries({ ...flags, normalize: 'caption', results: 'results.json', references: 'references.json' }).flatMap(
        ([name, value]) => [`--${name}`, value],
      ),
      '--json',
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.not.stringContaining('cannot be used') as string });
    const outcome = JSON.parse(stdout) as Record<string, number>;
    expect(outcome).toMatchObject({ images: 1000, captions: 1000, tokens: PYTORCH.tokens, bad_rows: 0 });
    expect(outcome['perplexity']).toBeCloseTo(PYTORCH.perplexity, 3);

    const golden = JSON.parse(await readFile(shared('reference-adapter/golden.json'), 'utf8')) as readonly {
      readonly image: string;
      readonly text: string;
      readonly smallest_top2_margin: number;
    }[];
    const results = JSON.parse(await readFile(path.join(folder, 'results.json'), 'utf8')) as readonly Result[];
    const captions = new Map(results.map(({ file_name: name, caption }) => [name, caption]));
    // A near tie may fall either way with the order of a sum.
    const sure = golden.filter(({ smallest_top2_margin: margin }) => margin >= 1e-3);
    expect(sure.length).toBeGreaterThan(20);
    expect(sure.map(({ image }) => captions.get(image))).toEqual(sure.map(({ text }) => text));
    const files = { references: 'references.json', results: 'results.json', json: true };
    expect(outcome).toMatchObject(JSON.parse(await evaluateFiles(files, folder)) as object);
  });
});
