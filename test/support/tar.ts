/** Tars as no honest program writes them: every field as one likes. */

import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';

export interface TarEntry {
  readonly name: string;
  readonly content?: Uint8Array | string;
  /** The letter of the kind: 0 a file, 1 and 2 links, 3 and 4 devices, 5 a folder, 6 a pipe, x and g PAX records, L a long name. */
  readonly kind?: string;
  readonly link?: string;
  /** What the header says, where that is not the content's. */
  readonly bytes?: number;
  readonly magic?: string;
}

const BLOCK = 512;

export function tarOf(entries: readonly TarEntry[], end = 2): Uint8Array {
  const blocks = entries.flatMap((entry) => {
    const content = bytesOf(entry.content ?? '');
    const padding = new Uint8Array((BLOCK - (content.byteLength % BLOCK)) % BLOCK);
    return [headerOf(entry, content.byteLength), content, padding];
  });
  return Buffer.concat([...blocks, new Uint8Array(end * BLOCK)]);
}

/** One record of a PAX header: its length in front counts itself. */
export function pax(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}

function headerOf({ name, kind = '0', link = '', bytes, magic = 'ustar\u000000' }: TarEntry, size: number): Uint8Array {
  const header = Buffer.alloc(BLOCK);
  header.write(name, 0, 100);
  header.write('0000644\0', 100);
  header.write('0000000\0', 108);
  header.write('0000000\0', 116);
  writeSize(header, bytes ?? size);
  header.write('00000000000\0', 136);
  header.write(kind, 156);
  header.write(link, 157, 100);
  header.write(magic, 257, 'latin1');
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

/** What octal digits cannot say is two's complement, as GNU writes it. */
function writeSize(header: Buffer, bytes: number): void {
  if (bytes >= 0 && bytes < 8 ** 11) {
    header.write(`${bytes.toString(8).padStart(11, '0')}\0`, 124);
    return;
  }
  header.fill(bytes < 0 ? 0xff : 0, 124, 136);
  header[124] = bytes < 0 ? 0xff : 0x80;
  header.writeBigInt64BE(BigInt(bytes), 128);
}

function bytesOf(content: Uint8Array | string): Uint8Array {
  return typeof content === 'string' ? new TextEncoder().encode(content) : content;
}

/** An honest one, of the files of a folder. */
export async function tarOfFolder(folder: string, around = ''): Promise<Uint8Array> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => relative(folder, join(entry.parentPath, entry.name)));
  const files = paths.map(async (path) => ({ name: `${around}${path}`, content: await readFile(join(folder, path)) }));
  return tarOf(await Promise.all(files));
}
