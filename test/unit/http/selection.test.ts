/** Choosing the parts of a blend: what is kept for the request, what its end leaves behind, and what the log is told. */
import { describe, expect, test } from 'vitest';
import { blendRef } from '../../../src/adapter/blend.js';
import type { RegisteredAdapter } from '../../../src/adapter/registry.js';
import { AppError } from '../../../src/errors.js';
import { Catalogue, type Keeper } from '../../../src/http/catalogue.js';
import type { Exchange } from '../../../src/http/exchange.js';
import { adapterBody, note, reselect, select } from '../../../src/http/selection.js';
import type { HeldAdapter, SourceLibrary } from '../../../src/sources/library.js';
import { ANYONE } from '../../../src/tenants/tenants.js';

const adapterOf = (name: string, prompt = '', seesImages = false): RegisteredAdapter => ({
  name,
  ref: { name, digest: `sha256:${name}`, folder: `/${name}` },
  bytes: 10,
  summary: { method: 'lora', contexts: seesImages ? ['image', 'text'] : ['text'], prompt, seesImages, format: 'context-peft/1' },
  registeredAt: 5,
});

/** A keeper that says what it holds. */
function keeper(): Keeper & { readonly held: (() => void)[] } {
  const held: (() => void)[] = [];
  return {
    tenant: ANYONE,
    stickyKey: 'k',
    signal: new AbortController().signal,
    held,
    keep: (release) => void held.push(release),
  };
}

/** A catalogue of folders, and of one name that comes from elsewhere when it is told to. */
function catalogueOf(
  adapters: readonly RegisteredAdapter[],
  late?: { readonly name: string; readonly held: Promise<HeldAdapter> },
) {
  const mended: string[] = [];
  let rescans = 0;
  const directory = {
    list: () => adapters,
    get: (name: string) => adapters.find((adapter) => adapter.name === name),
    rescan: async () => void rescans++,
  };
  const sources = {
    spelling: (name: string) => name,
    knows: (name: string) => name === late?.name,
    acquire: () => late?.held,
    mend: async (digest: string) => void mended.push(digest),
    list: () => [],
  };
  const catalogue = new Catalogue(directory, sources as unknown as SourceLibrary);
  return { catalogue, mended, rescans: () => rescans };
}

const blend = (...names: string[]) => ({ blend: names.map((name, index) => ({ name, weight: index + 0.5 })) });

describe('a blend', () => {
  test('is one adapter for the request: the digest of its parts, the first one’s prompt, all contexts', async () => {
    const { catalogue } = catalogueOf([adapterOf('words', 'say:'), adapterOf('sees', 'look:', true)]);
    const { adapter, fetchMs } = await select(catalogue, blend('words', 'sees'), keeper());
    expect(fetchMs).toBe(0);
    expect(adapter.ref).toEqual(
      blendRef('0.5*words+1.5*sees', [
        { ref: adapterOf('words').ref, weight: 0.5 },
        { ref: adapterOf('sees').ref, weight: 1.5 },
      ]),
    );
    expect(adapter.summary).toMatchObject({ prompt: 'say:', contexts: ['text', 'image'], seesImages: true });
    expect(adapterBody(adapter).blend).toEqual([
      { name: 'words', digest: 'sha256:words', weight: 0.5 },
      { name: 'sees', digest: 'sha256:sees', weight: 1.5 },
    ]);
  });

  test('that is refused for one part waits for the others, which would be kept for ever after the request’s end', async () => {
    let arrive: (held: HeldAdapter) => void = () => {};
    const held = new Promise<HeldAdapter>((resolve) => {
      arrive = resolve;
    });
    const { catalogue } = catalogueOf([], { name: 'late', held });
    const scope = keeper();
    let settled = false;
    const choice = select(catalogue, blend('nowhere', 'late'), scope).finally(() => {
      settled = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect([settled, scope.held.length]).toEqual([false, 0]);
    arrive({ adapter: adapterOf('late'), fetchMs: 7, release: () => {} });
    await expect(choice).rejects.toMatchObject({
      code: 'adapter_not_found',
      message: expect.stringContaining('nowhere') as string,
    });
    expect(scope.held).toHaveLength(1);
  });

  test('is chosen again by the names and weights of the first time, each part looked at afresh', async () => {
    const adapters = [adapterOf('a'), adapterOf('b')];
    const late = { ...adapterOf('late'), source: 's3://bucket/late' };
    const held = Promise.resolve({ adapter: late, fetchMs: 7, release: () => {} });
    const { catalogue, mended, rescans } = catalogueOf(adapters, { name: 'late', held });
    const first = await select(catalogue, blend('a', 'late'), keeper());
    expect(first.fetchMs).toBe(7);
    adapters[0] = { ...adapterOf('a'), ref: { ...adapterOf('a').ref, digest: 'sha256:new' } };
    const again = await reselect(catalogue, first.adapter, first.reference, keeper());
    expect([rescans(), mended]).toEqual([1, ['sha256:late']]);
    expect(again.adapter.name).toBe(first.adapter.name);
    expect(again.adapter.ref.digest).not.toBe(first.adapter.ref.digest);
    expect(adapterBody(again.adapter).blend?.map(({ digest }) => digest)).toEqual(['sha256:new', 'sha256:late']);
    adapters.shift();
    await expect(reselect(catalogue, again.adapter, again.reference, keeper())).rejects.toThrow(AppError);
  });
});

test('the log is told of every adapter its digest, and of a blend its parts', async () => {
  const { catalogue } = catalogueOf([adapterOf('a'), adapterOf('b')]);
  const exchange = { adapters: [] as string[], blends: [] as object[] };
  const chosen = [await select(catalogue, 'a', keeper()), await select(catalogue, blend('a', 'b'), keeper())];
  for (const { adapter } of chosen) note(exchange as unknown as Exchange, adapter);
  expect(exchange).toEqual({
    adapters: chosen.map(({ adapter }) => adapter.ref.digest),
    blends: chosen.slice(1).map(({ adapter }) => adapterBody(adapter)),
  });
});
