import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseProcessor, readProcessor } from '../../../../src/backbone/vision/processor.js';
import { AppError } from '../../../../src/errors.js';

const parse = (file: unknown) => parseProcessor(file, 'it');

const mean = [0.1, 0.2, 0.3];
const std = [0.4, 0.5, 0.6];
const square = { height: 224, width: 224 };

function faultsOf(file: unknown): { code: string; faults: readonly string[] } {
  try {
    parse(file);
  } catch (error) {
    if (error instanceof AppError) return { code: error.code, faults: error.faults ?? [] };
    throw error;
  }
  throw new TypeError('Expected a refusal');
}

describe('parseProcessor', () => {
  it('reads every field of a file', () => {
    const file = {
      image_processor_type: 'MobileNetV2ImageProcessor',
      do_resize: true,
      size: { height: 100, width: 200 },
      resample: 1,
      do_center_crop: true,
      crop_size: { height: 90, width: 180 },
      do_rescale: true,
      rescale_factor: 0.5,
      do_normalize: true,
      image_mean: mean,
      image_std: std,
      do_convert_rgb: true,
      do_reduce_labels: true,
      do_pad: false,
      crop_pct: null,
      _processor_class: 'ignored',
    };
    expect(parse(file)).toEqual({
      recipe: {
        resize: { kind: 'exact', height: 100, width: 200 },
        resample: 'lanczos',
        crop: { height: 90, width: 180 },
        height: 90,
        width: 180,
      },
      normalisation: { rescale: 0.5, mean, std },
    });
  });

  // The class attributes of transformers 5.23's PIL processors.
  it.each([
    ['ViTImageProcessor', { kind: 'exact', ...square }, 'bilinear', null, square, 0.5],
    ['ViTFeatureExtractor', { kind: 'exact', ...square }, 'bilinear', null, square, 0.5],
    ['BeitImageProcessor', { kind: 'exact', ...square }, 'bicubic', null, square, 0.5],
    ['SiglipImageProcessorFast', { kind: 'exact', ...square }, 'bicubic', null, square, 0.5],
    ['DeiTImageProcessor', { kind: 'exact', height: 256, width: 256 }, 'bicubic', square, square, 0.5],
    ['BlipImageProcessor', { kind: 'exact', height: 384, width: 384 }, 'bicubic', null, { height: 384, width: 384 }, 0.48145466],
    ['CLIPFeatureExtractor', { kind: 'shortest_edge', edge: 224 }, 'bicubic', square, square, 0.48145466],
    ['BitImageProcessor', { kind: 'shortest_edge', edge: 224 }, 'bicubic', square, square, 0.48145466],
    ['MobileNetV1ImageProcessor', { kind: 'shortest_edge', edge: 256 }, 'bilinear', square, square, 0.5],
    ['MobileNetV2ImageProcessorFast', { kind: 'shortest_edge', edge: 256 }, 'bilinear', square, square, 0.5],
  ])('knows what %s does where the file is silent', (name, resize, resample, crop, size, red) => {
    const { recipe, normalisation } = parse({ image_processor_type: name });
    expect(recipe).toEqual({ resize, resample, crop, ...size });
    expect(normalisation.rescale).toBe(1 / 255);
    expect(normalisation.mean[0]).toBe(red);
  });

  it('takes a number as both edges or as the shorter one, as the class does', () => {
    expect(parse({ feature_extractor_type: 'ViTFeatureExtractor', size: 30 }).recipe.resize).toEqual({
      kind: 'exact',
      height: 30,
      width: 30,
    });
    expect(parse({ feature_extractor_type: 'CLIPFeatureExtractor', size: 30, crop_size: 20 }).recipe).toMatchObject({
      resize: { kind: 'shortest_edge', edge: 30 },
      crop: { height: 20, width: 20 },
    });
  });

  it('reads a file that names no class, and assumes little', () => {
    expect(parse({ size: [30, 40], image_mean: 0.5, image_std: 0.25 })).toEqual({
      recipe: { resize: { kind: 'exact', height: 30, width: 40 }, resample: 'bilinear', crop: null, height: 30, width: 40 },
      normalisation: { rescale: 1 / 255, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] },
    });
  });

  it('leaves out steps that are switched off', () => {
    expect(parse({ do_resize: false, do_center_crop: true, crop_size: 9, do_rescale: false, do_normalize: false })).toEqual({
      recipe: { resize: null, resample: 'bilinear', crop: { height: 9, width: 9 }, height: 9, width: 9 },
      normalisation: { rescale: 1, mean: [0, 0, 0], std: [1, 1, 1] },
    });
  });

  it('names all that is malformed or not implemented at once', () => {
    const file = {
      image_processor_type: 'DonutImageProcessor',
      do_resize: 'yes',
      size: { shortest_edge: 224, longest_edge: 400 },
      resample: 4,
      image_mean: [1, 2],
      image_std: [0, 1, 1],
      rescale_factor: -1,
      do_pad: true,
      do_thumbnail: true,
      crop_pct: 0.9,
    };
    const { code, faults } = faultsOf(file);
    expect(code).toBe('invalid_file');
    for (const fault of [
      'do_resize: Expected true or false but received "yes"',
      'size: Expected {height, width}, {shortest_edge}, [height, width] or a number, each from 1 to 4096, but received {"shortest_edge":224,"longest_edge":400}',
      'resample: Expected resample 0 (nearest), 1 (lanczos), 2 (bilinear) or 3 (bicubic) but received 4',
      'image_mean: Expected three numbers or one but received [1,2]',
      'image_std: Expected positive numbers but received [0,1,1]',
      'rescale_factor: Expected a positive number but received -1',
      'do_pad: Expected none or false (not implemented) but received true',
      'do_thumbnail: Expected none or false (not implemented) but received true',
      'crop_pct: Expected none or false (not implemented) but received 0.9',
    ]) {
      expect(faults).toContain(fault);
    }
    expect(faults.some((fault) => fault.startsWith('image_processor_type: Expected an image processor of ViT, '))).toBe(true);
    expect(faults).toHaveLength(10);
  });

  it.each([0, 4097, 1.5, -224, '224', [224], {}, { height: 224 }])('refuses the size %j', (size) => {
    const { code, faults } = faultsOf({ image_processor_type: 'ViTImageProcessor', size });
    expect(code).toBe('invalid_file');
    expect(faults.join()).toMatch(/^size: Expected \{height, width\}/);
  });

  it.each([
    ['a resize by the shorter edge without a crop', { do_center_crop: false, size: { shortest_edge: 224 } }],
    ['neither resize nor crop', { do_resize: false, do_center_crop: false }],
  ])('refuses %s: images would come out in different sizes', (_, fields) => {
    const { code, faults } = faultsOf({ image_processor_type: 'CLIPImageProcessor', ...fields });
    expect(code).toBe('unsupported_model');
    expect(faults).toEqual([expect.stringMatching(/^size, do_center_crop: Expected one output size for all images/)]);
    expect(faults[0]).toContain(JSON.stringify(Object.entries(fields)[0]?.[1]));
  });

  it('asks for what a file without a class must say', () => {
    expect(faultsOf({})).toEqual({
      code: 'unsupported_model',
      faults: expect.arrayContaining([expect.stringMatching(/^size: /)]),
    });
    expect(faultsOf({ size: 8 }).faults).toEqual([
      'image_mean: Expected three numbers to normalise with but received nothing',
      'image_std: Expected three numbers to normalise with but received nothing',
    ]);
  });

  it.each([[[]], [null], ['text'], [7]])('refuses %j, which is no object', (value) => {
    expect(faultsOf(value)).toEqual({
      code: 'invalid_file',
      faults: [`Expected an object but received ${JSON.stringify(value)}`],
    });
  });
});

describe('readProcessor', () => {
  it('reads the file of a folder, and names it in an error', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'graft-processor-'));
    await expect(readProcessor(folder)).rejects.toMatchObject({
      code: 'invalid_file',
      message: expect.stringContaining('preprocessor_config.json'),
    });
    writeFileSync(join(folder, 'preprocessor_config.json'), '{"image_processor_type": "ViTImageProcessor", "do_pad": true}');
    await expect(readProcessor(folder)).rejects.toMatchObject({
      code: 'unsupported_model',
      message: `${folder}/preprocessor_config.json: do_pad: Expected none or false (not implemented) but received true`,
    });
    writeFileSync(join(folder, 'preprocessor_config.json'), '{"image_processor_type": "ViTImageProcessor"}');
    await expect(readProcessor(folder)).resolves.toMatchObject({ recipe: { height: 224, width: 224 } });
  });
});
