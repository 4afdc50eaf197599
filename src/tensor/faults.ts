/**
 * What is wrong with one file, collected so that one error names all of it. A hostile file has room for a million faults:
 * the first hundred are kept as text, the others counted.
 */
import { AppError, type ErrorCode } from '../errors.js';

const MAX_NAMED = 100;

export class Faults {
  readonly #named: string[] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(fault: string): void {
    this.#count++;
    if (this.#named.length < MAX_NAMED) this.#named.push(fault);
  }

  /** The error that names them, to throw; `subject` opens its message. */
  error(code: ErrorCode, subject: string, cause?: unknown): AppError {
    const rest = this.#count - this.#named.length;
    const named = rest > 0 ? [...this.#named, `and ${rest} more faults`] : [...this.#named];
    return AppError.ofFaults(code, subject, named, { cause });
  }

  /** Throws AppError where there are any. */
  check(code: ErrorCode, subject: string): void {
    if (this.#count > 0) throw this.error(code, subject);
  }
}
