/**
 * The faults of one file of an adapter, told with the file's name among those of all its files: one error then names everything
 * that is wrong with a folder.
 */
import { Faults } from '../tensor/faults.js';

export class FileFaults extends Faults {
  readonly file: string;
  readonly #all: Faults;

  /** `file` is relative to the adapter's folder; every fault is added to `all` as `file: fault`. */
  constructor(file: string, all: Faults) {
    super();
    this.file = file;
    this.#all = all;
  }

  override add(fault: string): void {
    super.add(fault);
    this.#all.add(`${this.file}: ${fault}`);
  }
}
