/** The checker's thread: one file, its rows read to the end. */
import { parentPort, workerData } from 'node:worker_threads';
import { AppError } from '../errors.js';
import { checkRows } from './check.js';
import type { CheckAnswer, CheckOrder } from './checker.js';

const { path, limits } = workerData as CheckOrder;

async function answer(): Promise<CheckAnswer> {
  try {
    return { summary: await checkRows(path, limits) };
  } catch (error) {
    return { error: AppError.from(error).toData() };
  }
}

parentPort?.postMessage(await answer(), []);
