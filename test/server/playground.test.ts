/** The page at `/` over plain HTTP, and in a real browser where there is one. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { noisePng, startTinyServer, type TinyServer } from '../support/server.js';

const CHROMIUM = '/usr/bin/chromium';
const hasBrowser = existsSync(CHROMIUM);
if (!hasBrowser) console.warn(`skipped: the playground in a browser needs ${CHROMIUM}`);

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
    await page.getByRole('checkbox', { name: 'second' }).check();
    await page.getByRole('button', { name: 'Caption' }).click();
    for (const name of ['first', 'second']) {
      await card(name).waitFor();
      const form = new FormData();
      form.append('image', new Blob([new Uint8Array(await noisePng())]));
      form.append('adapter', name);
      const alone = (await (await fetch(`${tiny.url}/v1/captions`, { method: 'POST', body: form })).json()) as {
        captions: { text: string }[];
        usage: { completion_tokens: number };
      };
      expect(await card(name).locator('.text').textContent()).toBe(alone.captions[0]?.text);
      expect(await figure(name, 'Tokens')).toBe(String(alone.usage.completion_tokens));
      expect(await figure(name, 'First token')).toMatch(/^[\d.]+ m?s$/);
      expect(await figure(name, 'Adapter')).toMatch(/^loaded/);
    }
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
    const form = new FormData();
    form.append('image', new Blob(['no image at all']));
    form.append('adapter', 'first');
    const reply = (await (await fetch(`${tiny.url}/v1/captions`, { method: 'POST', body: form })).json()) as {
      error: { message: string };
    };
    expect(await page.getByRole('alert').textContent()).toBe(reply.error.message);
    expect(await page.locator('.card.failed .note').textContent()).toBe(reply.error.message);
    expect(await page.locator('.card dl').isVisible()).toBe(false);
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
    await page.keyboard.press('Tab');
    await page.keyboard.press('Space');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Space');
    await page.keyboard.press('Enter');
    await card('third').waitFor();
    expect(await page.locator('.card').count()).toBe(1);
    expect(await page.locator(':focus').getAttribute('value')).toBe('third');
  });

  test('what is missing is said; the code follows the form', async () => {
    await page.getByRole('button', { name: 'Caption' }).click();
    await page.getByRole('alert').filter({ hasText: 'Choose an image first.' }).waitFor();
    expect(await page.locator(':focus').getAttribute('id')).toBe('file');
    await page.getByLabel('Max tokens').fill('7');
    await page.getByRole('checkbox', { name: 'third' }).check();
    expect(await page.locator('#snippet').textContent()).toContain('-F adapters=first,third \\\n  -F max_tokens=7');
    await page.getByRole('radio', { name: 'fetch' }).check();
    expect(await page.locator('#snippet').textContent()).toContain("form.append('max_tokens', '7');");
  });

  test('it fits a phone', async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(360);
  });
});

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
