/**
 * Three suites: `unit` mirrors src, `server` speaks HTTP to a real server, `real` runs real weights from ../shared/data where they are.
 * Every file gets a process of its own: native code under test may crash, and must not take the run with it.
 */
import { defineConfig } from 'vitest/config';
import { Tally } from './scripts/tally.js';

const suite = (name: string, timeoutMs: number) => ({
  extends: true as const,
  test: { name, include: [`test/${name}/**/*.test.ts`], testTimeout: timeoutMs, hookTimeout: timeoutMs },
});

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    reporters: ['default', new Tally()],
    projects: [suite('unit', 20_000), suite('server', 60_000), suite('real', 120_000)],
  },
});
