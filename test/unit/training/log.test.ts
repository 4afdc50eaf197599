/** The log that a killed run left behind, and what a resumed one makes of it. */
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type LogLine, RunLog, readLog } from '../../../src/training/log.js';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-log-'));
  path = join(folder, 'run', 'log.jsonl');
});
afterEach(() => rm(folder, { recursive: true }));

const step = (number: number): LogLine => ({
  step: number,
  loss: 1 / number,
  learning_rate: 0.001,
  gradient_norm: 0.5,
  tokens: 10,
  tokens_per_second: 100,
});
const evaluation = (number: number): LogLine => ({ step: number, validation_loss: 2, validation_perplexity: Math.exp(2) });

async function write(from: number, ...lines: readonly LogLine[]): Promise<void> {
  const log = await RunLog.open(path, from);
  for (const line of lines) await log.write(line);
  await log.sync();
  await log.close();
}

describe('RunLog', () => {
  it('makes its folder, writes a line each, and reads back what it wrote', async () => {
    const lines = [step(1), step(2), evaluation(2), step(3)];
    await write(0, ...lines);
    expect((await readFile(path, 'utf8')).split('\n').map((line) => (line === '' ? null : JSON.parse(line)))).toEqual([
      ...lines,
      null,
    ]);
    expect(await readLog(path)).toEqual(lines);
    expect(await readdir(join(folder, 'run'))).toEqual(['log.jsonl']);
  });

  it('goes on behind the step it is told, without the lines of later ones', async () => {
    await write(0, step(1), step(2), evaluation(2), step(3), evaluation(3), step(4));
    await write(2, step(3));
    expect(await readLog(path)).toEqual([step(1), step(2), evaluation(2), step(3)]);
    await write(0);
    expect(await readLog(path)).toEqual([]);
  });

  it('drops a last line that was cut short, at whichever byte', async () => {
    await write(0, step(1), step(2));
    const whole = await readFile(path);
    const first = whole.indexOf('\n') + 1;
    for (let length = first; length <= whole.length; length++) {
      await writeFile(path, whole.subarray(0, length));
      expect(await readLog(path)).toEqual(length === whole.length ? [step(1), step(2)] : [step(1)]);
      await write(5, step(3));
      expect(await readLog(path)).toEqual(length === whole.length ? [step(1), step(2), step(3)] : [step(1), step(3)]);
    }
  });

  it('leaves out what is no line of a log', async () => {
    await write(0, step(1));
    await appendFile(path, '\0\0\0\n\nnull\n17\n[1]\n{"loss": 3}\n{"step": "4"}\n');
    await appendFile(path, `${JSON.stringify(step(2))}\n`);
    expect(await readLog(path)).toEqual([step(1), step(2)]);
  });

  it('is empty where there is none, and does not take what cannot be read for that', async () => {
    expect(await readLog(path)).toEqual([]);
    await write(0);
    expect(await readLog(path)).toEqual([]);
    await truncate(path);
    expect(await readLog(path)).toEqual([]);
    await mkdir(join(folder, 'folder.jsonl'));
    await expect(readLog(join(folder, 'folder.jsonl'))).rejects.toMatchObject({ code: 'EISDIR' });
    await expect(RunLog.open(join(folder, 'folder.jsonl'), 0)).rejects.toMatchObject({ code: 'EISDIR' });
  });
});
