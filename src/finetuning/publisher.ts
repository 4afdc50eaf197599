/** Where finished adapters go: what a job needs of it, and the folder of adapters as one that has it. */
import { join } from 'node:path';
import { digestOf, readContent } from '../adapter/format.js';
import { CONFIG_FILE, MANIFEST_FILE } from '../adapter/manifest.js';
import { exists } from '../adapter/scan.js';
import { publishFiles } from '../adapter/write.js';
import { AppError } from '../errors.js';
import { Faults } from '../tensor/faults.js';

export interface Published {
  /** null where there are no versions. */
  readonly version: number | null;
  readonly digest: string;
}

export interface Publisher {
  /** Throws AppError `conflict` where nothing can be published under a name. */
  check(name: string): Promise<void>;
  /** Publishes the adapter in a folder; it can be asked for once this resolves. What is published already is not published again. */
  publish(name: string, folder: string, by: string): Promise<Published>;
}

/** Publishes into a folder of adapters. It has no versions: a name that is taken stays as it is. */
export class FolderPublisher implements Publisher {
  readonly #folder: string;
  readonly #rescan: () => Promise<void>;

  /** `rescan` resolves once what is in the folder can be asked for. */
  constructor(folder: string, rescan: () => Promise<void>) {
    this.#folder = folder;
    this.#rescan = rescan;
  }

  async check(name: string): Promise<void> {
    const [tenant = '', ...rest] = name.split('/');
    const inside = rest.length > 0 ? [join(tenant, MANIFEST_FILE), join(tenant, CONFIG_FILE)] : [];
    for (const path of [name, ...inside]) if (await exists(join(this.#folder, path))) throw taken(name);
  }

  async publish(name: string, folder: string): Promise<Published> {
    const place = join(this.#folder, name);
    const { files } = await readContent(folder, new Faults());
    const digest = digestOf(files);
    if (await exists(place)) {
      // A server that ended between publishing and saying so does it again.
      const there = await readContent(place, new Faults());
      if (digestOf(there.files) !== digest) throw taken(name);
    } else await publishFiles(place, files);
    await this.#rescan();
    return { version: null, digest };
  }
}

/** Copies the files that define an adapter. Throws AppError `adapter_changed` where they are not those of the digest. */
export async function copyAdapter(from: string, digest: string, to: string): Promise<void> {
  const { files } = await readContent(from, new Faults());
  const found = digestOf(files);
  if (found !== digest)
    throw new AppError('adapter_changed', `Expected the adapter to be ${digest} but received ${found}: please retry`);
  await publishFiles(to, files);
}

function taken(name: string): AppError {
  return new AppError('conflict', `suffix: Expected a name that is not taken but ${name} is`, { param: 'suffix' });
}
