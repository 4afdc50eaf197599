import { mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RunningServer, startServer } from '../../src/cli/serve.js';
import { loadConfig } from '../../src/config.js';
import { formOf, post } from '../support/server.js';
import { hasShared, realBackbone, shared, withShared } from '../support/shared.js';

interface Golden {
  readonly image: string;
  readonly text: string;
  readonly greedy_ids: readonly number[];
}

describe.runIf(hasShared)(`photos to captions, over HTTP${withShared}`, () => {
  let folder: string;
  let server: RunningServer;
  let golden: readonly Golden[];
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-real-'));
    await symlink(shared('reference-adapter'), path.join(folder, 'reference'));
    golden = JSON.parse(await readFile(shared('reference-adapter/golden.json'), 'utf8')) as Golden[];
    const flags = { backbone: realBackbone, adapters: folder, port: '0', logLevel: 'silent' };
    server = await startServer(await loadConfig({ flags, env: {}, folder }));
    await server.ready;
  });
  afterAll(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });

  test('all golden photos at once get the reference’s greedy captions', async () => {
    const replies = await Promise.all(
      golden.map(async ({ image }) => {
        const bytes = await readFile(shared(path.join('flickr8k/dev', image)));
        return post(`${server.url}/v1/captions`, formOf({ image: bytes, adapter: 'reference' }));
      }),
    );
    expect(replies.length).toBeGreaterThan(20);
    expect(replies.map(({ body }) => body.captions?.[0]?.text)).toEqual(golden.map(({ text }) => text));
    const tokens = replies.map(({ body }) => body.usage?.['completion_tokens']);
    expect(tokens).toEqual(golden.map(({ greedy_ids: ids }) => ids.length));
  });
});
