/** Starting a thread that runs a file of ours. */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { Worker, type WorkerOptions } from 'node:worker_threads';

/**
 * Runs the entry (`new URL('./worker.js', import.meta.url)`) as it lies beside this code: the built file, or its source where this file is
 * source itself. tsx must then be registered by hand: given as `--import`, it leaves threads other than the first alone.
 */
export function startWorker(entry: URL, options: WorkerOptions): Worker {
  const given = { ...options, execArgv: [] };
  if (!import.meta.url.endsWith('.ts')) return new Worker(entry, given);
  const source = entry.href.replace(/\.js$/, '.ts');
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx'));
  const api = new URL('./esm/api/index.mjs', tsx).href;
  const code = `import('${api}').then((tsx) => { tsx.register(); return import('${source}'); });`;
  return new Worker(code, { ...given, eval: true });
}
