/** The whole server on real weights and real photos: what a client gets over HTTP is what PyTorch gave. */
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RunningServer, startServer } from '../../src/cli/serve.js';
import { loadConfig } from '../../src/config.js';
import { formOf, post } from '../support/server.js';
import { hasShared, realBackbone, shared, withShared } from '../support/shared.js';

interface Golden {
  readonly image: string;
  readonly text: string;
  readonly greedy_ids: readonly number[];
  readonly finished: boolean;
  readonly smallest_top2_margin: number;
}

describe.skipIf(!hasShared)(`captions over HTTP${withShared}`, () => {
  let folder: string;
  let server: RunningServer;

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-real-'));
    await cp(shared('reference-adapter'), path.join(folder, 'reference'), { recursive: true });
    const flags = { backbone: realBackbone, adapters: folder, port: '0', maxBatch: '8', logLevel: 'silent' };
    server = await startServer(await loadConfig({ flags, env: {}, folder }));
    await server.ready;
  });

  afterAll(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });

  it('equal the golden ones, all at once and with base rows between them', async () => {
    const golden = JSON.parse(await readFile(shared('reference-adapter/golden.json'), 'utf8')) as Golden[];
    const base = (prompt: string) =>
      post(`${server.url}/v1/completions`, { model: 'real', prompt, max_tokens: 20, temperature: 0 });
    const alone = await base('Once upon a time');
    expect(alone.body.choices?.[0]?.text).toMatch(/[a-z]+ [a-z]+/);

    const replies = await Promise.all(
      golden.map(async ({ image }, index) => {
        const between = index % 4 === 0 ? base('Once upon a time') : undefined;
        const fields = { image: await readFile(shared(`flickr8k/dev/${image}`)), adapter: 'reference', max_tokens: '40' };
        const reply = await post(`${server.url}/v1/captions`, formOf(fields));
        if (between) expect((await between).body.choices?.[0]?.text).toBe(alone.body.choices?.[0]?.text);
        return reply;
      }),
    );
    let close = 0;
    for (const [index, expected] of golden.entries()) {
      const { status, body } = replies[index] as (typeof replies)[number];
      expect(status).toBe(200);
      expect(body.adapter?.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
      expect(body.usage).toMatchObject({ image_tokens: 49, prompt_tokens: 1 });
      if (body.captions?.[0]?.text !== expected.text && expected.smallest_top2_margin < 1e-3) {
        close++;
        continue;
      }
      expect(body.captions).toEqual([{ text: expected.text, finish_reason: expected.finished ? 'stop' : 'length' }]);
      expect(body.usage?.['completion_tokens']).toBe(expected.greedy_ids.length);
    }
    expect(close).toBeLessThanOrEqual(2);
  });
});
