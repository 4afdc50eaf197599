/** The flags of a training run: what they are unless told, that all faults come at once, and which of them a run may resume without. */
import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { kebab, type Setting } from '../../../src/settings.js';
import { identityOf, parseTrainOptions, plain, TRAIN_SETTINGS, type TrainOptions } from '../../../src/training/options.js';

const REQUIRED = { backbone: 'b', data: 'd.jsonl', out: 'adapters/o' };
const parse = (flags: Readonly<Record<string, unknown>> = {}): TrainOptions =>
  parseTrainOptions({ ...REQUIRED, ...flags }, '/base');

/** A value other than the default, for every setting. */
const OTHERS: Readonly<Record<keyof TrainOptions, unknown>> = {
  backbone: 'c',
  data: 'e.jsonl',
  out: 'adapters/p',
  images: 'i',
  validation: 'v',
  holdout: '0.1',
  normalize: 'caption',
  strict: true,
  method: 'ia3',
  contexts: 'text',
  sites: 'ffn',
  targetModules: 'q_proj',
  from: 'adapters/base',
  rank: '4',
  alpha: 'image=2',
  init: 'random',
  task: 'x',
  prompt: 'p',
  dtype: 'bfloat16',
  steps: '7',
  epochs: '1.5',
  batch: '3',
  accumulate: '2',
  lr: '1e-4',
  schedule: 'constant',
  warmup: '0',
  floor: '0.5',
  clip: 'none',
  weightDecay: '0.1',
  dropout: '0.2',
  residualDropout: '0.2',
  seed: '9',
  flip: true,
  crop: true,
  views: '2',
  evalEvery: '5',
  evalCaptions: 'all',
  patience: '3',
  checkpointEvery: '6',
  resume: true,
  replace: true,
  restart: true,
  run: 'r',
  cache: 'c',
  maxImagePixels: '64000000',
  maxTokens: '64',
  recompute: true,
  threads: '1024',
  samples: '1',
};

describe('parseTrainOptions', () => {
  it('needs a backbone, data and a place, and knows the rest', () => {
    expect(parse()).toMatchObject({
      backbone: '/base/b',
      data: '/base/d.jsonl',
      out: '/base/adapters/o',
      cache: '/base/.graft-cache',
      images: null,
      run: null,
      method: 'lora',
      contexts: null,
      sites: ['attention', 'ffn'],
      rank: { common: undefined, own: new Map() },
      prompt: '',
      steps: null,
      epochs: 3,
      batch: 32,
      clip: 1,
      lr: 0.002,
      schedule: 'cosine',
      warmup: null,
      dropout: 0,
      weightDecay: 0,
      seed: 0,
      flip: false,
      evalCaptions: 'first',
    });
    expect(Object.keys(parse())).toEqual(Object.keys(TRAIN_SETTINGS));
  });

  it('says of every choice in its help what there is to choose', () => {
    const choices = Object.values<Setting<unknown>>(TRAIN_SETTINGS).filter(({ expected }) => expected.startsWith('one of '));
    expect(choices.map(({ expected }) => expected)).toContain('one of cosine, constant');
    for (const { expected, help } of choices)
      for (const word of expected.slice('one of '.length).split(', ')) expect(help.split(/[^\w]+/)).toContain(word);
  });

  it('takes two views at least: one is the plain image, for which nothing has to be asked', () => {
    expect(() => parse({ views: '1' })).toThrow('--views: Expected an integer from 2 to 64 but received "1"');
  });

  it('names every fault at once', () => {
    const wrong = { method: 'dora', rank: 'image', steps: '0', lr: '-1', dropout: '1', seed: '1.5', views: '65', flip: 'maybe' };
    const error = (() => {
      try {
        return parseTrainOptions(wrong, '/base');
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toBeInstanceOf(AppError);
    const { code, faults = [] } = error as AppError;
    expect(code).toBe('invalid_config');
    expect(faults.map((fault) => fault.slice(0, fault.indexOf(':')))).toEqual([
      '--backbone',
      '--data',
      '--out',
      '--method',
      '--rank',
      '--steps',
      '--lr',
      '--dropout',
      '--seed',
      '--flip',
      '--views',
    ]);
    expect(faults).toContain('--rank: Expected a number like 8, or image=4,text=16, but received "image"');
  });
});

describe('identityOf', () => {
  const FREE = [
    // What lies there has a digest in the identity.
    'backbone',
    'data',
    'images',
    'validation',
    'from',
    'out',
    'resume',
    'replace',
    'restart',
    'run',
    'cache',
    'maxImagePixels',
    'strict',
    'samples',
    'task',
    'dtype',
    'checkpointEvery',
    'recompute',
    'threads',
  ];

  it.each(Object.entries(OTHERS))('a run with another %s', (name, value) => {
    const [before, after] = [identityOf(parse()), identityOf(parse({ [name]: value }))];
    const differing = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((key) => before[key] !== after[key]);
    expect(differing).toEqual(FREE.includes(name) ? [] : [`--${kebab(name)}`]);
  });

  it('knows every setting', () => {
    expect(Object.keys(OTHERS).sort()).toEqual(Object.keys(TRAIN_SETTINGS).sort());
  });

  it('is the same however the same is written', () => {
    const same = (a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): void => {
      expect(identityOf(parse(a))).toEqual(identityOf(parse(b)));
    };
    same({ lr: '0.001' }, { lr: '1e-3' });
    same({ rank: 'image=4,text=16' }, { rank: 'text=16, image=4' });
    same({ sites: 'ffn,attention' }, { sites: 'attention,ffn' });
    same({ targetModules: 'q_proj,v_proj' }, { targetModules: 'v_proj,q_proj' });
    same({ backbone: '/base/b' }, { backbone: './x/../b' });
    expect(identityOf(parse({ rank: 'image=4,text=16' }))).not.toEqual(identityOf(parse({ rank: 'image=16,text=4' })));
  });
});

describe('plain', () => {
  it('writes named numbers as they are given, and nothing as null', () => {
    expect(
      plain({
        common: 8,
        own: new Map([
          ['text', 4],
          ['image', 2],
        ]),
      }),
    ).toBe('8,image=2,text=4');
    expect(plain({ common: undefined, own: new Map() })).toBeNull();
    expect(plain({ common: 0, own: new Map() })).toBe('0');
    expect([plain(null), plain(3), plain(['a'])]).toEqual([null, 3, ['a']]);
  });
});
