/**
 * A reader for the HTML that the report is made of, stricter than a browser: where a browser would guess (a tag that is not closed, an
 * attribute without quotes, a stray `<` or `&`), this throws.
 */
const VOID = new Set(['meta', 'img']);
const ENTITIES = new Map([
  ['&amp;', '&'],
  ['&lt;', '<'],
  ['&gt;', '>'],
  ['&quot;', '"'],
  ['&#39;', "'"],
]);

export interface Element {
  readonly tag: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: (Element | string)[];
}

/** The element at the root. Throws on anything that is not plainly well-formed. */
export function parseDocument(page: string): Element {
  const doctype = '<!doctype html>\n';
  if (!page.startsWith(doctype)) throw new Error('Expected a doctype');
  const root: Element = { tag: '', attributes: new Map(), children: [] };
  const open = [root];
  let at = doctype.length;
  const take = (pattern: RegExp) => {
    pattern.lastIndex = at;
    const match = pattern.exec(page);
    if (match) at = pattern.lastIndex;
    return match;
  };
  while (at < page.length) {
    const parent = open.at(-1) ?? root;
    const text = take(/[^<]+/y);
    if (text) parent.children.push(decode(text[0]));
    const end = take(/<\/([a-z][a-z0-9]*)>/y);
    if (end) {
      if (open.pop()?.tag !== end[1]) throw new Error(`Expected </${parent.tag}> but received ${end[0]}`);
      continue;
    }
    const start = take(/<([a-z][a-z0-9]*)((?: [a-zA-Z][a-zA-Z0-9-]*(?:="[^"<>]*")?)*)(\/?)>/y);
    if (!start) {
      if (at < page.length) throw new Error(`Expected a tag but received ${page.slice(at, at + 40)}`);
      break;
    }
    const [, tag = '', attributes = '', slash] = start;
    const element: Element = { tag, attributes: readAttributes(attributes), children: [] };
    parent.children.push(element);
    if (tag === 'style') element.children.push(take(/[^<]*(?=<\/style>)/y)?.[0] ?? '');
    if (slash === '' && !VOID.has(tag)) open.push(element);
  }
  if (open.length !== 1) throw new Error(`Expected </${open.at(-1)?.tag}> but received the end`);
  const html = root.children.find((child) => typeof child !== 'string');
  if (!html) throw new Error('Expected an element');
  return html;
}

/** All elements below, in order, with this tag. */
export function elements(root: Element, tag: string): Element[] {
  return root.children.flatMap((child) =>
    typeof child === 'string' ? [] : [...(child.tag === tag ? [child] : []), ...elements(child, tag)],
  );
}

/** Every element below. */
export function descendants(root: Element): Element[] {
  return root.children.flatMap((child) => (typeof child === 'string' ? [] : [child, ...descendants(child)]));
}

export function textOf(root: Element): string {
  return root.children.map((child) => (typeof child === 'string' ? child : textOf(child))).join('');
}

function readAttributes(text: string): Map<string, string> {
  const attributes = new Map<string, string>();
  for (const [, name = '', value = ''] of text.matchAll(/ ([a-zA-Z][a-zA-Z0-9-]*)(?:="([^"]*)")?/g)) {
    if (attributes.has(name)) throw new Error(`Expected one ${name} but received two`);
    attributes.set(name, decode(value));
  }
  return attributes;
}

function decode(text: string): string {
  return text.replace(/&[^;]{0,10};?/g, (entity) => {
    const character = ENTITIES.get(entity);
    if (character === undefined) throw new Error(`Expected an entity but received ${entity}`);
    return character;
  });
}
