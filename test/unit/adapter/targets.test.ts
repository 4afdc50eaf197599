/** Which modules a configuration means: PEFT's rules, and Python's patterns, with the answers that PEFT and Python give. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkPattern, firstMatches, translate } from '../../../src/adapter/pattern.js';
import { hasSuffix, matchPattern, matchTargets, namesOf, type Targeting } from '../../../src/adapter/targets.js';
import type { LinearModule } from '../../../src/backbone/module.js';
import { Faults } from '../../../src/tensor/faults.js';

const linear = (name: string): LinearModule => ({
  name,
  inFeatures: 4,
  outFeatures: 4,
  bias: false,
  site: 'ffn',
  layout: 'out_in',
});
const MODULES = [0, 1, 10].flatMap((layer) =>
  ['self_attn.q_proj', 'mlp.experts.1.up_proj', 'mlp.up_proj'].map((name) => linear(`model.layers.${layer}.${name}`)),
);

function matched(targeting: Partial<Targeting>): string[] {
  const faults = new Faults();
  const result = matchTargets(
    { modules: 'all-linear', exclude: [], layers: null, layersPattern: [], ...targeting },
    MODULES,
    faults,
  );
  faults.check('adapter_invalid', 'probe');
  return result.map(({ name }) => name.replace('model.layers.', ''));
}

describe('namesOf', () => {
  const blocks = [0, 10].flatMap((layer) =>
    ['attn.c_attn', 'attn.c_proj', 'mlp.c_proj', 'fc1'].map((name) => linear(`h.${layer}.${name}`)),
  );
  it.each([
    ['the last component where that is exact', /c_attn|c_proj/, ['c_attn', 'c_proj']],
    ['one component more where others end likewise', /c_attn|mlp/, ['c_attn', 'mlp.c_proj']],
    ['full names where layers differ, of all', /10\.fc1|c_attn/, ['h.0.attn.c_attn', 'h.10.attn.c_attn', 'h.10.fc1']],
  ])('gives %s', (_, chosen, names) => {
    const modules = blocks.filter(({ name }) => chosen.test(name));
    expect(namesOf(modules, blocks)).toEqual(names);
    const targeting: Targeting = { modules: names, exclude: [], layers: null, layersPattern: [] };
    expect(matchTargets(targeting, blocks, new Faults())).toEqual(modules);
  });
});

describe('target_modules', () => {
  it.each<[string, Partial<Targeting>, string[]]>([
    [
      'suffixes are whole components',
      { modules: ['q_proj'] },
      ['0.self_attn.q_proj', '1.self_attn.q_proj', '10.self_attn.q_proj'],
    ],
    ['a suffix may begin earlier', { modules: ['mlp.up_proj'] }, ['0.mlp.up_proj', '1.mlp.up_proj', '10.mlp.up_proj']],
    ['a full name is one module', { modules: ['model.layers.1.mlp.up_proj'] }, ['1.mlp.up_proj']],
    ['a string is a pattern for the full name', { modules: '.*1\\.(mlp|self_attn).*q_proj' }, ['1.self_attn.q_proj']],
    ['exclusions win', { exclude: '.*\\.(0|10)\\..*|.*experts.*' }, ['1.self_attn.q_proj', '1.mlp.up_proj']],
    [
      'exclusions may be suffixes',
      { modules: ['up_proj'], exclude: ['1.up_proj'] },
      ['0.mlp.up_proj', '1.mlp.up_proj', '10.mlp.up_proj'],
    ],
    [
      'the first number is the layer, not an expert’s',
      { layers: [1] },
      ['1.self_attn.q_proj', '1.mlp.experts.1.up_proj', '1.mlp.up_proj'],
    ],
    [
      'the layers’ list may be named',
      { modules: ['q_proj'], layers: [0, 10], layersPattern: ['h', 'layers'] },
      ['0.self_attn.q_proj', '10.self_attn.q_proj'],
    ],
    [
      'another list has other numbers',
      { modules: ['up_proj'], layers: [1], layersPattern: ['experts'] },
      ['0', '1', '10'].map((n) => `${n}.mlp.experts.1.up_proj`),
    ],
  ])('%s', (_, targeting, names) => {
    expect(matched(targeting)).toEqual(names);
  });

  it('takes a suffix as PEFT does, for any names', () => {
    const name = fc.array(fc.constantFrom('a', 'b', 'ab'), { minLength: 1, maxLength: 4 }).map((parts) => parts.join('.'));
    fc.assert(
      fc.property(name, name, (full, suffix) => {
        const [parts, last] = [full.split('.'), suffix.split('.')];
        expect(hasSuffix(full, suffix)).toBe(parts.length >= last.length && parts.slice(-last.length).join('.') === suffix);
      }),
    );
  });
});

describe('rank_pattern and alpha_pattern', () => {
  it('take the first pattern that matches the end of the name at a component', () => {
    const values = (pattern: [string, number][]) => {
      const faults = new Faults();
      const pick = matchPattern(pattern, 8, MODULES, 'rank_pattern', faults);
      expect(faults.count).toBe(0);
      return MODULES.map(pick);
    };
    expect(values([])).toEqual([8, 8, 8, 8, 8, 8, 8, 8, 8]);
    expect(values([['q_proj', 2]])).toEqual([2, 8, 8, 2, 8, 8, 2, 8, 8]);
    expect(values([['proj', 2]])).toEqual([8, 8, 8, 8, 8, 8, 8, 8, 8]);
    expect(
      values([
        ['0.mlp.up_proj', 2],
        ['up_proj', 3],
      ]),
    ).toEqual([8, 3, 2, 8, 3, 3, 8, 3, 3]);
    expect(
      values([
        ['model.layers.1.*', 2],
        ['.*', 3],
      ]),
    ).toEqual([3, 3, 3, 2, 2, 2, 2, 2, 2]);
    expect(values([['^layers.0.*', 2]])).toEqual([8, 8, 8, 8, 8, 8, 8, 8, 8]);
  });
});

describe('Python’s patterns', () => {
  it.each([
    ['(?P<block>a|b)\\.(?P=block)', 'a.a', true],
    ['(?P<block>a|b)\\.(?P=block)', 'a.b', false],
    ['\\Aa{,2}b\\Z', 'aab', true],
    ['\\Aa{,2}b\\Z', 'aaab', false],
    ['\\\\Z', '\\Z', true],
    ['a\\-b', 'a-b', true],
  ])('%s on %s: %s', (pattern, name, isMatch) => {
    expect(new RegExp(`^(?:${translate(pattern)})$`).test(name)).toBe(isMatch);
  });

  it('that JavaScript has not are refused', () => {
    for (const pattern of ['(?i)q_proj', '(?>a+)b', 'a++', '(?(1)a|b)', '(']) {
      const faults = new Faults();
      expect(checkPattern(pattern, 'target_modules', faults), pattern).toBe(false);
      expect(faults.count).toBe(1);
    }
  });

  it('match at the start, the first of them first, and give the group idx', () => {
    const faults = new Faults();
    expect(firstMatches(['b', 'a(?<idx>\\d)?', '.'], ['ab', 'a7', 'b', 'cab', ''], 'x', faults)).toEqual([
      { pattern: 1 },
      { pattern: 1, idx: '7' },
      { pattern: 0 },
      { pattern: 2 },
      null,
    ]);
    expect(faults.count).toBe(0);
  });

  it('that fail only together are faults, not errors', () => {
    const faults = new Faults();
    expect(firstMatches(['(?<idx>a)(?<idx>b)'], ['ab'], 'layers_pattern', faults)).toBeUndefined();
    expect(faults.count).toBe(1);
  });
});
