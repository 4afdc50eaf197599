/** The pages at /docs over plain HTTP, and in a real browser where there is one. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { type Browser, chromium, type Locator, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RunningServer, startServer } from '../../src/cli/serve.js';
import { loadConfig } from '../../src/config.js';
import { AppError } from '../../src/errors.js';
import type { OpenApi } from '../../src/http/openapi.js';
import { ANYONE } from '../../src/tenants/tenants.js';
import { formOf, makeTinyFolder, noisePng, tinyFlags } from '../support/server.js';

const CHROMIUM = '/usr/bin/chromium';
const hasBrowser = existsSync(CHROMIUM);
if (!hasBrowser) console.warn(`skipped: the pages at /docs in a browser need ${CHROMIUM}`);

const KEY = 'graft_of-the-test';

let folder: string;
let server: RunningServer;
let api: OpenApi;
beforeAll(async () => {
  folder = await makeTinyFolder(['english']);
  const tenants = {
    isOpen: false,
    authenticate: (key: string | undefined) => {
      if (key === KEY) return ANYONE;
      throw new AppError('invalid_api_key', 'Expected a key of this server but received another one or none');
    },
  };
  server = await startServer(await loadConfig({ flags: tinyFlags(folder), env: {}, folder }), {}, { tenants });
  await server.ready;
  api = (await (await fetch(`${server.url}/openapi.json`)).json()) as OpenApi;
});
afterAll(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

const operations = () => Object.values(api.paths).flatMap((path) => Object.values(path));

test.each([
  ['/docs', 'text/html; charset=utf-8'],
  ['/docs/start.js', 'text/javascript; charset=utf-8'],
  ['/docs/swagger-ui-bundle.js', 'text/javascript; charset=utf-8'],
  ['/docs/swagger-ui.css', 'text/css; charset=utf-8'],
])('GET %s has its type and a policy that lets in nothing from elsewhere', async (path, type) => {
  const response = await fetch(server.url + path);
  expect(response.status).toBe(200);
  expect((await response.text()).length).toBeGreaterThan(100);
  expect(response.headers.get('content-type')).toBe(type);
  const policy = response.headers.get('content-security-policy') ?? '';
  expect(policy).toContain("default-src 'none'; script-src 'self';");
  expect(policy).not.toMatch(/unsafe-eval|https?:/);
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
    page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    complaints = [];
    requests = [];
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('request', (request) => requests.push(request.url()));
    await page.goto(`${server.url}/docs`);
    await page
      .locator('.opblock')
      .nth(operations().length - 1)
      .waitFor();
  });
  afterEach(() => page.close());

  const block = (method: string, path: string) =>
    page.locator(`.opblock-${method}`, { has: page.locator(`[data-path="${path}"]`) });
  const open = async (method: string, path: string) => {
    await block(method, path).locator('.opblock-summary-control').click();
    await block(method, path).locator('.opblock-body').waitFor();
    return block(method, path);
  };

  test('every route is there, with what it says; nothing is loaded from elsewhere, nothing complains', async () => {
    expect(await page.locator('.opblock').count()).toBe(operations().length);
    expect(await page.locator('.info .title').textContent()).toContain('Graft');
    expect(await page.locator('.info .description').textContent()).toContain('from one frozen backbone');
    for (const { summary } of operations()) expect(await page.getByText(summary, { exact: true }).count()).toBeGreaterThan(0);
    const chat = await open('post', '/v1/chat/completions');
    await chat.getByRole('tab', { name: 'Schema' }).first().click();
    await chat.getByText('frequency_penalty').first().waitFor();
    expect(complaints).toEqual([]);
    expect(requests.filter((url) => !url.startsWith(`${server.url}/`) && !url.startsWith('data:'))).toEqual([]);
  });

  test('what is tried is refused without a key and answered with one, in JSON and as a form', async () => {
    const run = async (tried: Locator, status: number) => {
      await tried.getByRole('button', { name: 'Execute' }).click();
      await tried.locator('.live-responses-table .response-col_status', { hasText: String(status) }).waitFor();
      return (await tried.locator('.live-responses-table td.response-col_description:not(.col_header)').textContent()) ?? '';
    };
    const models = await open('get', '/v1/models');
    await models.getByRole('button', { name: 'Try it out' }).click();
    expect(await run(models, 401)).toContain('invalid_api_key');

    await page.getByRole('button', { name: 'Authorize' }).first().click();
    await page.locator('.auth-container', { hasText: 'bearer' }).locator('input').first().fill(KEY);
    await page
      .locator('.auth-container', { hasText: 'bearer' })
      .getByRole('button', { name: 'Apply credentials' })
      .first()
      .click();
    await page.getByRole('button', { name: 'Close' }).first().click();
    expect(await run(models, 200)).toContain('english');

    const captions = await open('post', '/v1/captions');
    await captions.getByRole('button', { name: 'Try it out' }).click();
    expect(await run(captions, 200)).toContain('"object": "caption"');
    await captions.locator('.opblock-section-request-body select').first().selectOption('multipart/form-data');
    const file = { name: 'noise.png', mimeType: 'image/png', buffer: await noisePng() };
    await captions.locator('input[type=file]').setInputFiles(file);
    await captions.locator('[data-property-name=adapter] input[type=text]').fill('english');
    const sent = page.waitForRequest((request) => request.url().endsWith('/v1/captions'));
    await captions.getByRole('button', { name: 'Execute' }).click();
    expect(await (await sent).headerValue('content-type')).toContain('multipart/form-data');
    const form = formOf({ image: file.buffer, adapter: 'english' });
    const asked = await fetch(`${server.url}/v1/captions`, { method: 'POST', body: form, headers: { 'x-api-key': KEY } });
    const {
      captions: [caption],
    } = (await asked.json()) as { captions: [{ text: string }] };
    await captions.locator('.live-responses-table', { hasText: JSON.stringify(caption.text) }).waitFor();
    expect(complaints.filter((complaint) => !complaint.includes('status of 401'))).toEqual([]);
  });

  test('it is dark where the reader wants it dark', async () => {
    const colour = () => page.evaluate<string>('getComputedStyle(document.documentElement).color');
    const light = await colour();
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.locator('html.dark-mode').waitFor();
    expect(await colour()).not.toBe(light);
  });
});
