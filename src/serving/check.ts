/** What would fail in a run would fail for all rows of that run: it is refused before. */
import type { Engine } from '../engine/engine.js';
import { AppError } from '../errors.js';
import type { Job } from './job.js';

/** Throws AppError where this engine cannot do what the job asks for. */
export function checkJob(engine: Engine<Job>, { request: { adapter, promptIds, sampling }, image, tokens, width }: Job): void {
  const { backbone, contextLength, decoder } = engine;
  const refuse = (param: string, message: string): never => {
    throw new AppError('invalid_request', message, { param });
  };
  if (image !== null && !backbone.vision)
    refuse('image', `Expected a text request: backbone ${backbone.name} has no vision encoder`);
  if (image !== null && adapter === null)
    refuse('adapter', 'Expected an adapter for a request with an image but received none: a bare backbone cannot see');
  if (promptIds.length === 0) refuse('prompt', 'Expected a prompt of at least one token but received none');
  const { vocabSize } = backbone.language;
  const stranger = promptIds.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
  if (stranger !== undefined)
    refuse('prompt', `Expected token ids from 0 to ${vocabSize - 1} in the prompt but received ${stranger}`);
  if (tokens >= contextLength) {
    throw new AppError(
      'context_length_exceeded',
      `Expected a prompt of fewer than ${contextLength} tokens, the image's included, but received ${tokens}`,
      { param: 'prompt' },
    );
  }
  const { rows } = decoder.kv.shape;
  if (width > rows)
    refuse(sampling.numBeams > 1 ? 'num_beams' : 'n', `Expected at most ${rows} sequences in one request but received ${width}`);
}
