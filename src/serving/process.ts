/**
 * The engine process: loads a backbone, says `ready`, and serves until its parent goes. Started by client.ts, which passes `EngineOptions` as JSON.
 * A fault of the backbone is told as `fatal` before `ready`: starting again would not mend it.
 */
import type { AdapterRef, LoadedAdapter } from '../adapter/adapter.js';
import { AdapterCache } from '../adapter/cache.js';
import { AdapterLoader } from '../adapter/loader.js';
import { describeBackbone } from '../backbone/backbone.js';
import { readBackbone } from '../backbone/manifest.js';
import type { AdapterTarget } from '../backbone/module.js';
import { Tokenizer } from '../backbone/tokenizer.js';
import { Engine } from '../engine/engine.js';
import { AppError } from '../errors.js';
import { serveParent } from '../runtime/parent.js';
import type { EngineOptions } from './client.js';
import type { Job } from './job.js';
import { type LoopCommand, ServingLoop } from './loop.js';
import type { EngineCommand, EngineEvent } from './protocol.js';

async function main(): Promise<void> {
  let loop: ServingLoop | undefined;
  let check: ((adapter: AdapterRef) => Promise<void>) | undefined;
  const early: LoopCommand[] = [];
  const parent = serveParent<EngineCommand, EngineEvent>((command) => {
    if (command.type === 'check') {
      const { id, adapter } = command;
      const checked = check?.(adapter) ?? Promise.reject(new AppError('engine_unavailable', 'The engine is still loading'));
      checked.then(
        () => parent.send({ type: 'checked', id, error: null }),
        (error: unknown) => parent.send({ type: 'checked', id, error: AppError.from(error).toData() }),
      );
    } else if (loop) loop.handle(command);
    else early.push(command);
  });
  try {
    const startMs = performance.now();
    const options = JSON.parse(process.argv[2] ?? '{}') as EngineOptions;
    const backbone = await describeBackbone(await readBackbone(options.backbone));
    const engine = await Engine.open<Job>(backbone, options);
    const { eosIds } = await Tokenizer.open(backbone.languageFolder);
    const loader = new AdapterLoader(backbone.target);
    loader.start();
    const loaded = async (ref: AdapterRef): Promise<LoadedAdapter> => {
      const sentMs = performance.now();
      const adapter = await loader.load(ref);
      const { name, digest, method, matched, targeted, bytes } = adapter;
      parent.send({ type: 'loaded', name, digest, method, matched, targeted, bytes, loadMs: performance.now() - sentMs });
      return adapter;
    };
    const cache = new AdapterCache({ maxBytes: options.adapterCacheBytes, load: (ref) => loaded(ref) });
    check = checkOf(backbone.target, options);
    const vocabulary = { size: backbone.language.vocabSize, eosIds };
    loop = new ServingLoop(
      engine,
      cache,
      { vocabulary, prefillTokens: options.prefillTokens, adapterCacheBytes: options.adapterCacheBytes },
      (event) => parent.send(event),
    );
    parent.send({
      type: 'ready',
      info: {
        backbone: backbone.name,
        contextLength: engine.contextLength,
        imageTokens: backbone.vision?.imageTokens ?? 0,
        maxBatch: options.maxBatch,
        vocabSize: vocabulary.size,
        threads: options.threads,
        loadMs: performance.now() - startMs,
      },
    });
    for (const command of early) loop.handle(command);
  } catch (error) {
    parent.fatal(error);
    return;
  }
  // A fault of the loop itself is a bug: let the process die, be restarted, and its requests be told to retry.
  await loop.run();
}

/** In a thread of its own, which starts with the first: what is published does not keep what is served waiting. */
function checkOf(target: AdapterTarget, { adapterCacheBytes }: EngineOptions): (adapter: AdapterRef) => Promise<void> {
  const loader = new AdapterLoader(target);
  return async (adapter) => {
    const { bytes } = await loader.load(adapter);
    if (bytes > adapterCacheBytes)
      throw new AppError(
        'adapter_too_large',
        `Expected adapter ${adapter.name} to fit into ${adapterCacheBytes} bytes of cache but received ${bytes} bytes`,
      );
  };
}

await main();
