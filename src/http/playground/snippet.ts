/** The page's request as code that can be pasted. Names of files come from anywhere, so that every value is quoted for where it stands. */

export type Language = 'curl' | 'fetch';

export interface Request {
  readonly url: string;
  readonly fileName: string;
  /** Fields besides the image. */
  readonly fields: Readonly<Record<string, string>>;
}

export function snippet(language: Language, request: Request): string {
  return language === 'curl' ? curl(request) : script(request);
}

function curl({ url, fileName, fields }: Request): string {
  // curl ends a file's name at `;` or `,` unless it is in double quotes of curl's own.
  const file = /[;,"\\]/.test(fileName) ? `"${fileName.replace(/["\\]/g, '\\$&')}"` : fileName;
  const parts = [`image=@${file}`, ...Object.entries(fields).map(([name, value]) => `${name}=${value}`)];
  return [`curl -N ${shell(url)}`, ...parts.map((part) => `-F ${shell(part)}`)].join(' \\\n  ');
}

function script({ url, fields }: Request): string {
  return [
    'const form = new FormData();',
    "form.append('image', file); // a File or Blob",
    ...Object.entries(fields).map(([name, value]) => `form.append(${text(name)}, ${text(value)});`),
    `const response = await fetch(${text(url)}, { method: 'POST', body: form });`,
    'for await (const events of response.body.pipeThrough(new TextDecoderStream())) {',
    '  console.log(events);',
    '}',
  ].join('\n');
}

function shell(value: string): string {
  return /^[\w@%+=:,./-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`;
}

function text(value: string): string {
  return `'${JSON.stringify(value).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`;
}
