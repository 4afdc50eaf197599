import { GREEDY as SAMPLING } from '../../src/engine/strategy.js';
import type { SamplingParams } from '../../src/serving/protocol.js';

/** One greedy sequence: what most tests and benches ask for. */
export const GREEDY: SamplingParams = { ...SAMPLING, maxTokens: 40 };
