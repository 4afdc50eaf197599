import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { mapConcurrent } from '../../../src/tensor/concurrent.js';

describe('mapConcurrent', () => {
  it('gives the results in order, with no more than the limit under way', async () => {
    let underWay = 0;
    let most = 0;
    const results = await mapConcurrent([30, 0, 10, 20, 0], 2, async (ms) => {
      most = Math.max(most, ++underWay);
      await sleep(ms);
      underWay--;
      return ms + 1;
    });
    expect(results).toEqual([31, 1, 11, 21, 1]);
    expect(most).toBe(2);
  });

  it('begins no other when one fails, tells those at work, and throws the first failure once they have ended', async () => {
    const begun: number[] = [];
    const ended: number[] = [];
    const work = async (item: number, signal: AbortSignal): Promise<void> => {
      begun.push(item);
      if (item === 1) throw new Error('first');
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      await sleep(5);
      ended.push(item);
      throw new Error('second');
    };
    await expect(mapConcurrent([0, 1, 2, 3], 2, work)).rejects.toThrow('first');
    expect({ begun, ended }).toEqual({ begun: [0, 1], ended: [0] });
  });

  it('does nothing for nothing', async () => {
    expect(await mapConcurrent([], 4, async () => 1)).toEqual([]);
  });
});
