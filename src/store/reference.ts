/** How requests name adapters: `NAME`, `NAME@3` for a version of the store, `NAME@sha256:...` for a content. */

export interface Reference {
  readonly name: string;
  readonly version?: number;
  /** `sha256:` and 64 hex digits. */
  readonly digest?: string;
}

const PART = /[A-Za-z0-9][A-Za-z0-9._-]{0,127}/.source;
const NAME = new RegExp(`^(?=.{1,257}$)${PART}(?:/${PART})*$`);
const AT = /^(?<name>[^@]+)@(?:(?<version>[1-9]\d{0,8})|(?<digest>sha256:[0-9a-f]{64}))$/;

export const NAME_FORM = 'names of letters, digits, dots, _ and -, with slashes between them';

/** Whether a version may be published under it. */
export function isName(text: string): boolean {
  return NAME.test(text);
}

/** What has no version is all name: whether there is such a one is for others to say. */
export function parseReference(text: string): Reference {
  const { name, version, digest } = AT.exec(text)?.groups ?? {};
  if (name === undefined) return { name: text };
  return digest === undefined ? { name, version: Number(version) } : { name, digest };
}
