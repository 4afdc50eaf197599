/**
 * The files of an upload, on their way to the disk. A stranger says what they are called and how large they are, so a file is written only if its
 * name is one that an adapter's file can have, and each byte is counted. What is wrong is collected and told at once in the end; what is
 * simply too much ends it.
 */
import { mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { MAX_JSON_BYTES, MAX_TENSOR_BYTES, readFile } from '../adapter/file.js';
import {
  CONFIG_FILE,
  definingPaths,
  MANIFEST_FILE,
  NEITHER,
  PROJECTOR_FILE,
  parseManifest,
  TENSORS_FILE,
} from '../adapter/manifest.js';
import { AppError } from '../errors.js';
import { Faults } from '../tensor/faults.js';
import { quote } from '../tensor/json.js';

/** An adapter has ten at most, besides texts. */
const MAX_ENTRIES = 128;
const MAX_TEXT_BYTES = 256 * 1024;
/** A folder around the adapter, a context, a file. */
const MAX_DEPTH = 3;

const PART = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const DEFINING: ReadonlySet<string> = new Set([MANIFEST_FILE, PROJECTOR_FILE, CONFIG_FILE, TENSORS_FILE]);
const TEXT = /^(?:README|LICENSE|NOTICE|[^/]+\.(?:md|txt))$/;
/** What a Mac puts beside every file. */
const SHADE = /^(?:\._.*|\.DS_Store)$/;

const ONLY = `Expected only ${[...DEFINING].join(', ')}, and texts such as README.md,`;

export interface IntakeOptions {
  /** An empty one. */
  readonly folder: string;
  readonly maxBytes: number;
}

export class Intake {
  readonly #folder: string;
  readonly #maxBytes: number;
  readonly #faults = new Faults();
  /** In lower case, because there are disks to which `README.md` and `readme.md` are one file. */
  readonly #taken = new Map<string, 'file' | 'folder'>();
  readonly #paths: string[] = [];
  readonly #open = new Set<Promise<void>>();
  #isClosed = false;
  #entries = 0;
  #bytes = 0;

  constructor({ folder, maxBytes }: IntakeOptions) {
    this.#folder = folder;
    this.#maxBytes = maxBytes;
  }

  /** Something that cannot be taken; the rest is looked at all the same. */
  refuse(fault: string): void {
    this.#count();
    this.#faults.add(fault);
  }

  /** A folder, which comes to be with its files. */
  addFolder(name: string): void {
    this.#count();
    const path = name.replace(/\/+$/, '');
    if (path !== '' && path !== '.') this.#pathOf(path);
  }

  /**
   * Takes a file, whose content is read to its end in any case; resolves when it is on the disk. Throws AppError: `payload_too_large` where all
   * is too much, `adapter_invalid` where there are too many files, `disk_full`; what the content throws.
   */
  async addFile(name: string, content: AsyncIterable<Uint8Array>): Promise<void> {
    const taken = this.#take(name, content);
    this.#open.add(taken);
    try {
      await taken;
    } finally {
      this.#open.delete(taken);
    }
  }

  /** Nothing more is written; resolves when what is being written is done with. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled(this.#open);
  }

  /** The adapter's folder: the one around its files, if there is one, is left out. Throws AppError `adapter_invalid` with all faults. */
  async finish(): Promise<string> {
    const around = this.#around();
    if (around === undefined && this.#faults.count === 0) this.#faults.add(NEITHER);
    const root = join(this.#folder, around ?? '');
    if (around !== undefined) {
      const bytes = await readFile(join(root, MANIFEST_FILE), MAX_JSON_BYTES);
      const manifest = bytes === undefined ? null : parseManifest(bytes, new Faults());
      // Of one that cannot be read, the inspection says why.
      const defining = manifest === undefined ? undefined : new Set(definingPaths(manifest));
      for (const path of this.#paths) this.#checkPlace(path, around === '' ? path : path.slice(around.length + 1), defining);
    }
    this.#faults.check('adapter_invalid', 'The upload is no adapter');
    return root;
  }

  async #take(name: string, content: AsyncIterable<Uint8Array>): Promise<void> {
    this.#count();
    const path = this.#pathOf(name, 'file');
    if (path === undefined) {
      for await (const chunk of content) this.#charge(chunk);
      return;
    }
    try {
      await this.#write(path, content);
    } catch (error) {
      // Its folder may have been removed before the file was open.
      this.#checkOpen();
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
      throw new AppError('disk_full', 'Expected room on the disk of the store but there is none', { cause: error });
    }
    this.#paths.push(path);
  }

  /** The folder in which all is; empty where there is none, undefined where nothing looks like an adapter. */
  #around(): string | undefined {
    const has = (...path: string[]): boolean => this.#paths.includes(path.join('/'));
    if (has(MANIFEST_FILE) || has(CONFIG_FILE)) return '';
    const [first = '', ...others] = new Set(this.#paths.map((path) => path.split('/')[0] ?? ''));
    return others.length === 0 && (has(first, MANIFEST_FILE) || has(first, CONFIG_FILE)) ? first : undefined;
  }

  /** A file that the manifest knows nothing of is not part of the digest: nobody would have checked it. */
  #checkPlace(path: string, inside: string, defining: ReadonlySet<string> | undefined): void {
    if (defining === undefined || defining.has(inside) || TEXT.test(nameOf(inside))) return;
    this.#faults.add(`Expected the files that the manifest names, and texts, but received ${quote(path)}`);
  }

  /** The path of an entry below the folder; undefined, always with a fault or for what is left out, where it may have none. */
  #pathOf(given: string, kind: 'file' | 'folder' = 'folder'): string | undefined {
    const path = given.replace(/^(?:\.\/+)+/, '');
    const parts = path.split('/');
    if (parts.every((part) => PART.test(part) || SHADE.test(part)) && SHADE.test(nameOf(path))) return undefined;
    if (!parts.every((part) => PART.test(part)) || parts.length > MAX_DEPTH) {
      this.#faults.add(`Expected a plain path of at most ${MAX_DEPTH} names but received ${quote(given)}`);
      return undefined;
    }
    if (kind === 'folder') return this.#claim(path, 'folder') ? path : undefined;
    const name = nameOf(path);
    if (!DEFINING.has(name) && !TEXT.test(name)) {
      this.#faults.add(`${ONLY} but received ${quote(path)}`);
      return undefined;
    }
    const folders = parts.slice(0, -1).map((_, at) => parts.slice(0, at + 1).join('/'));
    return folders.every((folder) => this.#claim(folder, 'folder')) && this.#claim(path, 'file') ? path : undefined;
  }

  /** Whether nothing else has this name. A folder may come again. */
  #claim(path: string, kind: 'file' | 'folder'): boolean {
    const key = path.toLowerCase();
    const taken = this.#taken.get(key);
    if (taken === undefined) {
      this.#taken.set(key, kind);
      return true;
    }
    if (taken === 'folder' && kind === 'folder') return true;
    this.#faults.add(`Expected each path once but received ${quote(path)} again`);
    return false;
  }

  async #write(path: string, content: AsyncIterable<Uint8Array>): Promise<void> {
    const place = join(this.#folder, path);
    const maxBytes = TEXT.test(nameOf(path)) ? MAX_TEXT_BYTES : path.endsWith('.json') ? MAX_JSON_BYTES : MAX_TENSOR_BYTES;
    this.#checkOpen();
    await mkdir(dirname(place), { recursive: true });
    const file = await open(place, 'wx', 0o600);
    try {
      let bytes = 0;
      for await (const chunk of content) {
        this.#charge(chunk);
        bytes += chunk.byteLength;
        if (bytes > maxBytes) continue;
        for (let at = 0; at < chunk.byteLength; ) at += (await file.write(chunk, at)).bytesWritten;
      }
      if (bytes > maxBytes) this.#faults.add(`${path}: Expected at most ${maxBytes} bytes but received ${bytes}`);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new AppError('cancelled', 'The upload is over');
  }

  #count(): void {
    if (++this.#entries > MAX_ENTRIES)
      throw new AppError('adapter_invalid', `Expected an adapter of at most ${MAX_ENTRIES} files and folders but received more`);
  }

  #charge({ byteLength }: Uint8Array): void {
    this.#checkOpen();
    this.#bytes += byteLength;
    if (this.#bytes > this.#maxBytes)
      throw new AppError('payload_too_large', `Expected an adapter of at most ${this.#maxBytes} bytes but received more`);
  }
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
