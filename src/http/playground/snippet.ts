/** The page's request as code that can be pasted. Names of files come from anywhere, so that every value is quoted for where it stands. */

export type Language = 'curl' | 'fetch' | 'openai';

export interface Request {
  readonly url: string;
  readonly file: { readonly name: string; readonly type: string };
  readonly adapters: readonly string[];
  /** Fields besides the image and the adapters. */
  readonly settings: Readonly<Record<string, number | boolean>>;
  /** Whether it needs a key. The key itself is never shown: the code finds it in GRAFT_KEY. */
  readonly isKeyed: boolean;
}

export function snippet(language: Language, request: Request): string {
  return { curl, fetch: script, openai: client }[language](request);
}

function curl(request: Request): string {
  const { name } = request.file;
  // curl ends a file's name at `;` or `,` unless it is in double quotes of curl's own.
  const file = /[;,"\\]/.test(name) ? `"${name.replace(/["\\]/g, '\\$&')}"` : name;
  const parts = [`image=@${file}`, ...fields(request).map(([field, value]) => `${field}=${value}`)];
  const header = request.isKeyed ? ['-H "Authorization: Bearer $GRAFT_KEY"'] : [];
  return [`curl -N ${shell(request.url)}`, ...header, ...parts.map((part) => `-F ${shell(part)}`)].join(' \\\n  ');
}

function script(request: Request): string {
  return [
    "import { readFile } from 'node:fs/promises';",
    '',
    'const form = new FormData();',
    '// In a browser, the File of an input.',
    `form.append('image', new Blob([await readFile(${text(request.file.name)})]));`,
    ...fields(request).map(([field, value]) => `form.append(${text(field)}, ${text(value)});`),
    ...(request.isKeyed ? [`const headers = { authorization: \`Bearer \${process.env.GRAFT_KEY}\` };`] : []),
    `const response = await fetch(${text(request.url)}, { method: 'POST', ${request.isKeyed ? 'headers, ' : ''}body: form });`,
    'for await (const events of response.body.pipeThrough(new TextDecoderStream())) {',
    '  console.log(events);',
    '}',
  ].join('\n');
}

/** A chat completion has one model: a request for each adapter. They share the image's encoding all the same. */
function client({ url, file, adapters, settings, isKeyed }: Request): string {
  const type = /^image\/[\w.+-]+$/.test(file.type) ? file.type : 'image/jpeg';
  return [
    "import { readFile } from 'node:fs/promises';",
    "import OpenAI from 'openai';",
    '',
    `const client = new OpenAI({ baseURL: ${text(url.replace(/\/captions$/, ''))}, apiKey: ${isKeyed ? 'process.env.GRAFT_KEY' : "'none needed'"} });`,
    `const image = await readFile(${text(file.name)}, 'base64');`,
    `for (const model of [${adapters.map(text).join(', ')}]) {`,
    '  const stream = await client.chat.completions.create({',
    '    model,',
    `    messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: ${text(`data:${type};base64,`)} + image } }] }],`,
    ...Object.entries({ ...settings, stream: true }).map(([name, value]) => `    ${name}: ${value},`),
    '  });',
    "  for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? '\\n');",
    '}',
  ].join('\n');
}

/** As a form has them: all text. */
function fields({ adapters, settings }: Request): (readonly [string, string])[] {
  return [['adapters', adapters.join(',')], ...Object.entries(settings).map(([name, value]) => [name, String(value)] as const)];
}

function shell(value: string): string {
  return /^[\w@%+=:,./-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`;
}

function text(value: string): string {
  return `'${JSON.stringify(value).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`;
}
