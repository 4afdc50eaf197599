import type { SamplingParams } from '../../src/serving/protocol.js';

/** One greedy sequence: what most tests and benches ask for. */
export const GREEDY: SamplingParams = {
  maxTokens: 40,
  temperature: 0,
  topK: 0,
  topP: 1,
  repetitionPenalty: 1,
  seed: 0,
  n: 1,
  numBeams: 1,
  lengthPenalty: 1,
  earlyStopping: false,
};
