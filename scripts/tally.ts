/**
 * The last line of a test run, alone and plain: `12 passed, 0 failed, 3 skipped`. CI reads it, and so does a person in a hurry.
 * What fails without a test of its own (a file that does not load, a hook, an error nobody caught) counts as failed too:
 * a run that fails never ends with `0 failed`.
 */
import type { Reporter, TestModule } from 'vitest/node';

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

export class Tally implements Reporter {
  #counts: Counts = { passed: 0, failed: 0, skipped: 0 };

  /** Prints when the process ends, because vitest and the other reporters may still have something to say after a run. */
  onInit(): void {
    process.once('exit', () => {
      const { passed, failed, skipped } = this.#counts;
      console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
    });
  }

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    this.#counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    for (const module of modules) this.#add(module);
  }

  #add(module: TestModule): void {
    const failedBefore = this.#counts.failed;
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      // A test that is still pending was cut off: whatever it would have said, it has not passed.
      this.#counts[state === 'pending' ? 'failed' : state] += 1;
    }
    if (!module.ok() && this.#counts.failed === failedBefore) this.#counts.failed += 1;
  }
}
