/** The command's folder: what the trainer reads, whole or not there at all. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { captionsOf } from '../../../../scripts/scenes/captions.js';
import { sceneAt, writeScenes } from '../../../../scripts/scenes/folder.js';
import { isRight, judge } from '../../../../scripts/scenes/judge.js';
import { parseSceneOptions } from '../../../../scripts/scenes.js';
import type { Scene } from '../../../../src/scenes/world.js';
import { stream } from '../../../../src/training/random.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'graft-scenes-'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

const rowsOf = (file: string): Record<string, unknown>[] =>
  readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe('writeScenes', () => {
  it('writes pictures, captions of each task and the truth', async () => {
    const out = join(root, 'scenes');
    const heard: number[] = [];
    await writeScenes({ out, count: 12, seed: 5, tasks: ['english', 'counting'], size: 64 }, (pictures) => heard.push(pictures));
    expect(heard).toEqual(Array.from({ length: 12 }, (_, index) => index + 1));
    expect(readdirSync(root)).toEqual(['scenes']);
    expect(readdirSync(out).toSorted()).toEqual(['counting.jsonl', 'english.jsonl', 'images', 'scenes.jsonl']);
    const [captions, truth] = [rowsOf(join(out, 'english.jsonl')), rowsOf(join(out, 'scenes.jsonl'))];
    for (const [index, row] of captions.entries()) {
      const scene = truth[index]?.['scene'] as Scene;
      expect(row).toEqual({
        image: truth[index]?.['image'],
        captions: captionsOf('english', scene, stream(5, 'english', index)),
      });
      for (const caption of row['captions'] as string[]) expect(isRight(judge('english', caption, scene))).toBe(true);
      const { format, width } = await sharp(join(out, row['image'] as string)).metadata();
      expect({ format, width }).toEqual({ format: 'jpeg', width: 64 });
      expect(scene).toEqual(sceneAt(5, index));
    }
    expect(captions).toHaveLength(12);
  });

  it('leaves a folder alone that has something in it', async () => {
    const out = join(root, 'mine');
    mkdirSync(out);
    writeFileSync(join(out, 'photo.jpg'), 'mine');
    await expect(writeScenes({ out, count: 1, seed: 0, tasks: ['tags'], size: 32 }, () => undefined)).rejects.toMatchObject({
      code: 'invalid_config',
    });
    expect(readdirSync(out)).toEqual(['photo.jpg']);
  });

  it('leaves nothing of a run that fails', async () => {
    const out = join(root, 'scenes');
    const stop = () => {
      throw new Error('stopped');
    };
    await expect(writeScenes({ out, count: 3, seed: 0, tasks: ['tags'], size: 32 }, stop)).rejects.toThrow('stopped');
    expect(existsSync(out)).toBe(false);
  });
});

describe('parseSceneOptions', () => {
  it('reads what was typed', () => {
    expect(
      parseSceneOptions(['--out', 'scenes', '--count', '10', '--seed', '3', '--tasks', 'tags,english', '--size', '64']),
    ).toEqual({
      out: 'scenes',
      count: 10,
      seed: 3,
      tasks: ['english', 'tags'],
      size: 64,
    });
  });

  it('names every fault at once', () => {
    expect(() => parseSceneOptions(['--count', '0', '--seed=-1', '--size', 'big', '--tasks', 'latin'])).toThrow(
      /--tasks.*latin.*--out.*--count.*"0".*--seed.*--size.*"big"/s,
    );
    expect(() => parseSceneOptions(['--colour', 'red'])).toThrow(/--colour/);
  });
});
