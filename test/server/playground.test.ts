/** The page at `/` over plain HTTP, and in a real browser where there is one. */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { type Browser, chromium, type Page, type Request } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { formOf, noisePng, post, startTinyServer, type TinyServer } from '../support/server.js';
import { startTenantServer, type TenantServer } from '../support/tenants.js';
import { makeTinyBackbone } from '../support/tiny.js';

const CHROMIUM = '/usr/bin/chromium';
const hasBrowser = existsSync(CHROMIUM);
if (!hasBrowser) console.warn(`skipped: the playground in a browser needs ${CHROMIUM}`);

const hasCurl = spawnSync('curl', ['--version']).status === 0;
const run = promisify(execFile);

let tiny: TinyServer;
beforeAll(async () => {
  execFileSync(process.execPath, ['scripts/playground.mjs']);
  tiny = await startTinyServer(['first', 'second', 'third']);
});
afterAll(() => tiny.close());

test.each([
  ['/', 'text/html; charset=utf-8'],
  ['/playground/page.js', 'text/javascript; charset=utf-8'],
  ['/playground/style.css', 'text/css; charset=utf-8'],
  ['/playground/icon.svg', 'image/svg+xml'],
])('GET %s has its type, a strict policy and an ETag that saves the second transfer', async (path, type) => {
  const first = await fetch(tiny.url + path);
  expect(first.status).toBe(200);
  expect((await first.text()).length).toBeGreaterThan(100);
  expect(first.headers.get('content-type')).toBe(type);
  expect(first.headers.get('x-content-type-options')).toBe('nosniff');
  const policy = first.headers.get('content-security-policy') ?? '';
  expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'");
  expect(policy).not.toMatch(/unsafe|https?:|upgrade/);

  // fetch asks for a whole reload (no-cache) where it is given a condition and nothing else.
  const etag = first.headers.get('etag') ?? '';
  const second = await fetch(tiny.url + path, { headers: { 'if-none-match': etag, 'cache-control': 'max-age=0' } });
  expect([second.status, await second.text()]).toEqual([304, '']);
  expect((await fetch(tiny.url + path, { headers: { 'if-none-match': '"other"', 'cache-control': 'max-age=0' } })).status).toBe(
    200,
  );
});

test('only its own files are there, and only to be read', async () => {
  for (const path of ['/playground/', '/playground/page.ts', '/playground/..%2f..%2fcli/main.js', '/page.html'])
    expect((await fetch(tiny.url + path)).status, path).toBe(404);
  expect((await fetch(tiny.url, { method: 'POST' })).status).toBe(405);
});

describe.skipIf(!hasBrowser)('in a browser', () => {
  let browser: Browser;
  let page: Page;
  let complaints: string[];
  let requests: string[];
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  });
  afterAll(() => browser.close());
  beforeEach(async () => {
    page = await browser.newPage();
    complaints = [];
    requests = [];
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('request', (request) => requests.push(request.url()));
    await page.goto(tiny.url);
    await page.getByText('tiny is ready').waitFor();
    await page.getByRole('checkbox').nth(2).waitFor();
  });
  afterEach(() => page.close());

  const choose = async (bytes: Buffer, name = 'noise.png') =>
    page.locator('#file').setInputFiles({ name, mimeType: 'image/png', buffer: bytes });
  const card = (name: string) => page.locator(`.card.done[data-adapter=${name}]`);
  const figure = (name: string, title: string) =>
    card(name)
      .locator('div', { has: page.getByText(title, { exact: true }) })
      .locator('dd')
      .textContent();

  test('an image and two adapters stream two captions with their figures; nothing leaves the server, nothing complains', async () => {
    await choose(await noisePng());
    expect(await page.getByRole('checkbox', { checked: true }).count()).toBe(3);
    await page.getByRole('checkbox', { name: 'third' }).uncheck();
    await page.getByRole('button', { name: 'Caption' }).click();
    for (const name of ['first', 'second']) {
      await card(name).waitFor();
      const { body } = await post(`${tiny.url}/v1/captions`, formOf({ image: await noisePng(), adapter: name }));
      expect(await card(name).locator('.text').textContent()).toBe(body.captions?.[0]?.text);
      expect(await figure(name, 'Tokens')).toBe(String(body.usage?.['completion_tokens']));
      expect(await figure(name, 'First token')).toMatch(/^[\d.]+ m?s$/);
      expect(await figure(name, 'Adapter load')).toMatch(/^([\d.]+ m?s|done)$/);
    }
    // Nobody shall take the server's figure for the request's.
    await page.getByText('Server batch: rows a step on average').waitFor();
    expect(await figure('first', 'Server batch')).toMatch(/^[\d.]+ rows$/);
    expect(await page.locator('.card').count()).toBe(2);
    expect(complaints).toEqual([]);
    expect(requests.length).toBeGreaterThan(5);
    // The preview is the page's own bytes.
    expect(requests.filter((url) => !url.startsWith(`${tiny.url}/`) && !url.startsWith(`blob:${tiny.url}/`))).toEqual([]);

    await page.getByRole('button', { name: 'Caption' }).click();
    await page.locator('.card.done dd', { hasText: 'in memory' }).nth(1).waitFor();
  });

  test('a broken file shows what the server says of it, and the next image works', async () => {
    await choose(Buffer.from('no image at all'), 'broken.png');
    await page.getByText('no preview').waitFor();
    await page.getByRole('button', { name: 'Caption' }).click();
    await page.getByRole('alert').filter({ hasText: 'image' }).waitFor();
    const form = formOf({ image: Buffer.from('no image at all'), adapter: 'first' });
    const { body } = await post(`${tiny.url}/v1/captions`, form);
    expect(await page.getByRole('alert').textContent()).toBe(body.error?.message);
    // Once, not once a card.
    expect(await page.locator('.card').count()).toBe(0);
    expect(await page.locator('#captions-empty').isVisible()).toBe(true);
    await choose(await noisePng());
    await page.getByRole('button', { name: 'Caption' }).click();
    await card('first').waitFor();
    expect(await page.getByRole('alert').count()).toBe(0);
  });

  test('the keyboard alone is enough', async () => {
    // Asked for before the page is loaded afresh: the browser would open its own dialog until then.
    const picking = page.waitForEvent('filechooser');
    await page.reload();
    await page.getByText('tiny is ready').waitFor();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await (await picking).setFiles({ name: 'noise.png', mimeType: 'image/png', buffer: await noisePng() });
    // None, then the third.
    for (const key of ['Tab', 'Tab', 'Space', 'Tab', 'Tab', 'Tab', 'Space', 'Enter']) await page.keyboard.press(key);
    await card('third').waitFor();
    expect(await page.locator('.card').count()).toBe(1);
    expect(await page.locator(':focus').getAttribute('value')).toBe('third');
  });

  test('what is missing is said; the code follows the form', async () => {
    await page.getByRole('button', { name: 'Caption' }).click();
    await page.getByRole('alert').filter({ hasText: 'Choose an image first.' }).waitFor();
    expect(await page.locator(':focus').getAttribute('id')).toBe('file');
    await page.getByLabel('Max tokens').fill('7');
    await page.getByRole('checkbox', { name: 'second' }).uncheck();
    expect(await page.locator('#snippet').textContent()).toContain('-F adapters=first,third \\\n  -F max_tokens=7');
    await page.getByRole('radio', { name: 'fetch' }).check();
    expect(await page.locator('#snippet').textContent()).toContain("form.append('max_tokens', '7');");
    await page.getByRole('radio', { name: 'OpenAI client' }).check();
    const code = (await page.locator('#snippet').textContent()) ?? '';
    expect(code).toContain(`new OpenAI({ baseURL: '${tiny.url}/v1', apiKey: 'none needed' });`);
    expect(code).toContain("for (const model of ['first', 'third']) {");
    expect(code).toContain('max_tokens: 7,\n    temperature: 0,\n    stream: true,');
    // An emptied field is left out, not asked for as no number.
    await page.getByLabel('Max tokens').fill('');
    expect(await page.locator('#snippet').textContent()).toContain('}] }],\n    temperature: 0,');
    await page.getByLabel('Max tokens').fill('7');
    await inFolder(async (folder) => {
      await writeFile(path.join(folder, 'code.mjs'), code);
      await run(process.execPath, ['--check', 'code.mjs'], { cwd: folder });
    });
  });

  test.for([
    ['curl', 'code.sh', '/bin/sh'],
    ['fetch', 'code.mjs', process.execPath],
  ] as const)('what the tab %s shows does what the page does', async ([tab, name, program], { skip }) => {
    skip(tab === 'curl' && !hasCurl, 'curl is not installed');
    await choose(await noisePng(), 'a "quoted", odd; name.png');
    await page.getByLabel('Max tokens').fill('9');
    await page.getByRole('radio', { name: tab }).check();
    await page.getByRole('button', { name: 'Caption' }).click();
    await page.locator('.card.done').nth(2).waitFor();
    const code = (await page.locator('#snippet').textContent()) ?? '';
    const { stdout } = await inFolder(async (folder) => {
      await writeFile(path.join(folder, 'a "quoted", odd; name.png'), await noisePng());
      await writeFile(path.join(folder, name), code);
      return run(program, [name], { cwd: folder });
    });
    for (const adapter of ['first', 'second', 'third']) {
      const text = await card(adapter).locator('.text').textContent();
      expect(stdout).toContain(`"captions":[{"text":${JSON.stringify(text)}`);
    }
    expect(stdout.trimEnd().endsWith('data: [DONE]')).toBe(true);
  });

  test('all adapters at once, or none', async () => {
    const chosen = () => page.getByRole('checkbox', { checked: true }).count();
    const adapters = page.getByRole('group', { name: 'Adapters' });
    await adapters.getByRole('button', { name: 'None' }).click();
    expect(await chosen()).toBe(0);
    expect(await page.locator('#snippet').textContent()).toContain('adapters=NAME');
    await choose(await noisePng());
    await page.getByRole('button', { name: 'Caption' }).click();
    await page.getByRole('alert').filter({ hasText: 'Choose at least one adapter.' }).waitFor();
    await adapters.getByRole('button', { name: 'All' }).click();
    expect(await chosen()).toBe(3);
    expect(await page.locator('#snippet').textContent()).toContain('adapters=first,second,third');
  });

  test('it fits a phone, and is dark where the reader wants it dark', async () => {
    const brightness = async () => {
      const colour = await page.evaluate<string>('getComputedStyle(document.body).backgroundColor');
      return Math.max(...(colour.match(/\d+/g) ?? []).map(Number));
    };
    expect(await brightness()).toBeGreaterThan(240);
    await page.emulateMedia({ colorScheme: 'dark' });
    expect(await brightness()).toBeLessThan(32);
    for (const width of [360, 390]) {
      await page.setViewportSize({ width, height: 740 });
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width);
    }
  });

  test('only a backbone of drawn scenes is offered one', async () => {
    expect(await page.getByRole('button', { name: 'Draw a scene' }).count()).toBe(0);
    expect(await page.locator('#preview').isVisible()).toBe(false);
  });

  test('on the backbone of drawn scenes one is there at once, and another at a press', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'graft-scenes-'));
    await makeTinyBackbone(folder);
    const manifest = { format: 'graft-backbone/1', name: 'scenes', vision: 'vision', language: 'language' };
    await writeFile(path.join(folder, 'backbone.json'), JSON.stringify(manifest));
    const scenes = await startTinyServer(['first', 'second'], { backbone: folder });
    // The page itself may not read it back: its policy lets it speak to the server alone.
    const image = async () => {
      const saving = page.waitForEvent('download');
      await page.getByRole('link', { name: 'Save it' }).click();
      return readFile(await (await saving).path());
    };
    const preview = page.locator('#preview:not([hidden])');
    try {
      await page.setViewportSize({ width: 390, height: 844 });
      await page.goto(scenes.url);
      await page.getByText('scenes is ready').waitFor();
      await preview.waitFor();
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(390);
      const first = await image();
      expect(await sharp(first).metadata()).toMatchObject({ format: 'jpeg', width: 448, height: 448 });
      // Not one colour: a canvas that got no drawing is black.
      expect(Math.max(...(await sharp(first).stats()).channels.map(({ stdev }) => stdev))).toBeGreaterThan(5);

      await page.getByRole('button', { name: 'Caption' }).click();
      for (const name of ['first', 'second']) {
        await card(name).waitFor();
        const { body } = await post(`${scenes.url}/v1/captions`, formOf({ image: first, adapter: name }));
        expect(await card(name).locator('.text').textContent()).toBe(body.captions?.[0]?.text);
      }

      const old = (await preview.getAttribute('src')) ?? '';
      await page.getByRole('button', { name: 'Draw a scene' }).click();
      await page.locator(`#preview:not([src="${old}"])`).waitFor();
      await page.getByText('of the image before').waitFor();
      expect((await image()).equals(first)).toBe(false);
      expect(complaints).toEqual([]);
    } finally {
      await scenes.close();
      await rm(folder, { recursive: true });
    }
  });
});

describe.skipIf(!hasBrowser)('where there are tenants', () => {
  let server: TenantServer;
  let browser: Browser;
  let page: Page;
  const requests: Request[] = [];
  beforeAll(async () => {
    server = await startTenantServer(['acme/own', 'other/own', 'shared'], { acme: 'adapters: [shared]', ops: 'admin: true' });
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
    page = await browser.newPage();
    page.on('request', (request) => requests.push(request));
    await page.goto(server.url);
  });
  afterAll(async () => {
    await browser.close();
    await server.close();
  });

  const enter = async (tenant: string) => {
    await page.getByLabel('API key').fill(server.keys[tenant] ?? 'graft_wrong');
    await page.getByRole('button', { name: 'Continue' }).click();
  };
  const shown = () => page.getByRole('checkbox').evaluateAll((boxes) => boxes.map((box) => box.getAttribute('value')));

  test('a key is asked for, and nothing else shown; a wrong one is said to be', async () => {
    await page.getByLabel('API key').waitFor();
    expect(await page.locator(':focus').getAttribute('id')).toBe('key');
    expect(await page.getByRole('button', { name: 'Caption' }).isVisible()).toBe(false);
    expect(await page.getByRole('alert').count()).toBe(0);
    const before = requests.length;
    await page.getByText('tiny is ready').waitFor();
    await page.waitForTimeout(2500);
    // Whoever has no key is not asked again and again.
    expect(requests.slice(before).filter((request) => !request.url().endsWith('/health/ready'))).toEqual([]);
    await enter('nobody');
    await page.getByRole('alert').filter({ hasText: 'does not know that key' }).waitFor();
    expect(await page.getByLabel('API key').inputValue()).toBe('');
  });

  test('a tenant’s key shows its adapters, and not the server’s own figures; captions come', async () => {
    await enter('acme');
    await page.getByRole('checkbox').nth(1).waitFor();
    expect(await shown()).toEqual(['acme/own', 'shared']);
    expect(await page.getByRole('heading', { name: 'Server' }).isVisible()).toBe(false);
    await page.locator('#file').setInputFiles({ name: 'noise.png', mimeType: 'image/png', buffer: await noisePng() });
    await page.getByRole('button', { name: 'Caption' }).click();
    await page.locator('.card.done[data-adapter="acme/own"]').waitFor();
    await page.locator('.card.done[data-adapter=shared]').waitFor();
    expect(await page.getByText('Server batch: rows a step').isVisible()).toBe(false);
  });

  test('the key is kept for the tab, sent in a header alone, and not shown', async () => {
    const key = server.keys['acme'] ?? '';
    await page.reload();
    await page.getByRole('checkbox').nth(1).waitFor();
    expect(await page.evaluate('JSON.stringify([localStorage.length, document.cookie])')).toBe('[0,""]');
    const code = async (tab: string) => {
      await page.getByRole('radio', { name: tab }).check();
      return page.locator('#snippet').textContent();
    };
    expect(await code('curl')).toContain('-H "Authorization: Bearer $GRAFT_KEY"');
    expect(await code('OpenAI client')).toContain('apiKey: process.env.GRAFT_KEY');
    expect(await page.content()).not.toContain(key);
    for (const request of requests) {
      expect(request.url()).not.toContain('graft_');
      expect(request.headers()['referer'] ?? '').not.toContain('graft_');
    }
    expect(requests.some((request) => request.headers()['authorization'] === `Bearer ${key}`)).toBe(true);
    // Where it is not asked for it is not sent.
    for (const request of requests.filter((one) => /health|playground/.test(one.url())))
      expect(request.headers()['authorization']).toBeUndefined();
    const other = await browser.newPage();
    await other.goto(server.url);
    await other.getByLabel('API key').waitFor();
    await other.close();
  });

  test('another key is another visitor: an operator sees all, and the server', async () => {
    await page.getByRole('button', { name: 'Change key' }).click();
    expect(await page.getByRole('alert').count()).toBe(0);
    await enter('ops');
    await page.getByRole('checkbox').nth(2).waitFor();
    expect(await shown()).toEqual(['acme/own', 'other/own', 'shared']);
    await page.getByRole('heading', { name: 'Server' }).waitFor();
    expect(await page.locator('.card').count()).toBe(0);
  });

  test('a key that is revoked meanwhile is asked for again', async () => {
    await writeFile(server.file, 'tenants: {}');
    await page.getByRole('alert').filter({ hasText: 'does not know that key' }).waitFor();
    expect(await page.evaluate('sessionStorage.length')).toBe(0);
    await page.setViewportSize({ width: 360, height: 740 });
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(360);
  });
});

async function inFolder<T>(act: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-code-'));
  try {
    return await act(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

describe.skipIf(!hasBrowser)('with no adapter', () => {
  test('it says what to do', async () => {
    const empty = await startTinyServer([]);
    const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
    try {
      const page = await browser.newPage();
      await page.goto(empty.url);
      const note = page.locator('#adapters-note', { hasText: 'No adapters yet.' });
      await note.waitFor();
      expect(await note.textContent()).toContain('graft train');
      expect(await page.getByRole('checkbox').count()).toBe(0);
    } finally {
      await browser.close();
      await empty.close();
    }
  });
});
