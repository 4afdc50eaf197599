/** docs/families.md is what `npm run families` would write, its numbers aside: those are measured by each family's own tests. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { keyOf } from '../../../scripts/families/errors.js';
import { languageOptions, visionOptions } from '../../../scripts/families/options.js';
import { errorsIn, pageOf } from '../../../scripts/families/page.js';
import { LANGUAGE_TYPES } from '../../../src/backbone/language/families.js';
import { VISION_TYPES } from '../../../src/backbone/vision/families.js';
import { versionsUsed } from '../../support/families/cases.js';

const page = readFileSync(fileURLToPath(new URL('../../../docs/families.md', import.meta.url)), 'utf8');
const language = await languageOptions();
const vision = await visionOptions();
const errors = errorsIn(page);

describe('docs/families.md', () => {
  it('has every family, with what it takes and refuses today', () => {
    expect(pageOf({ language, vision }, errors)).toBe(page);
    expect(language.map(({ family }) => family)).toEqual(LANGUAGE_TYPES);
    expect(vision.flatMap(({ types }) => types).sort()).toEqual([...VISION_TYPES].sort());
  });

  it('has no cell without a number or a reason', () => {
    const wanted = [
      ...language.flatMap(({ family }) =>
        ['logits', 'decode', 'lora', 'ia3', 'gradients'].map((column) => keyOf(family, column)),
      ),
      ...vision.flatMap(({ family }) => ['features', 'pixels'].map((column) => keyOf(family, column))),
    ];
    expect([...errors.keys()]).toEqual(expect.arrayContaining(wanted));
    expect(page).not.toMatch(/\| +\||no fixture/);
  });

  it('has no error of 1e-4 or more', () => {
    expect([...errors].filter(([, error]) => !(error < 1e-4))).toEqual([]);
    expect(errors.size).toBeGreaterThan(35);
  });

  it('names the libraries and their versions', () => {
    expect([...versionsUsed().keys()]).toEqual(expect.arrayContaining(['transformers', 'peft', 'torch', 'pillow']));
    for (const [library, versions] of versionsUsed()) expect(page).toContain(`${library} ${versions.join(' and ')}`);
  });
});

describe('what a family takes', () => {
  it('is found out by asking it', () => {
    const of = (family: string) => language.find((one) => one.family === family);
    expect(of('llama')).toMatchObject({
      rotary: ['default', 'linear', 'llama3'],
      hasWindow: false,
      tied: 'either',
      activations: ['silu'],
    });
    expect(of('llama')?.biases).toEqual([
      'attention_bias: q_proj, k_proj, v_proj, o_proj',
      'mlp_bias: gate_proj, up_proj, down_proj',
    ]);
    expect(of('mistral')?.hasWindow).toBe(true);
    expect(of('qwen2')?.biases).toEqual(['always: q_proj, k_proj, v_proj']);
    expect(of('phi3')?.refused).toContain('rotary positions of type yarn, dynamic, longrope');
    expect(of('llama')?.targets).toEqual({ lora: ['q_proj', 'v_proj'], ia3: ['k_proj', 'v_proj', 'down_proj'] });
    const sees = Object.fromEntries(
      vision.map(({ family, takesAnySize, choosesFeatures }) => [family, [takesAnySize, choosesFeatures]]),
    );
    expect(sees).toMatchObject({
      vit: [false, false],
      dinov2: [true, false],
      clip_vision_model: [false, true],
      swinv2: [true, false],
    });
  });
});
