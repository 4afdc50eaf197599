/** A server whose language model has 8 bits: it answers, and keeps what it made where it was told to. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startTinyServer, type TinyServer } from '../support/server.js';

let cache: string;
let tiny: TinyServer;
beforeAll(async () => {
  cache = await mkdtemp(path.join(tmpdir(), 'graft-weights-'));
  tiny = await startTinyServer(['one'], { weights: 'int8', weightsCache: cache });
});
afterAll(async () => {
  await tiny.close();
  await rm(cache, { recursive: true });
});

it('answers with an adapter and without one', async () => {
  for (const model of ['tiny', 'one']) {
    const reply = await fetch(`${tiny.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model, prompt: 'the cat', max_tokens: 4, temperature: 0 }),
    });
    expect(reply.status).toBe(200);
    expect(await reply.json()).toMatchObject({ usage: { completion_tokens: expect.any(Number) as number } });
  }
});

it('has made one file', async () => {
  const names = (await readdir(cache)).filter((name) => name.endsWith('.safetensors'));
  expect(names).toEqual([expect.stringMatching(/^[0-9a-f]{64}\.int8\.safetensors$/)]);
});
