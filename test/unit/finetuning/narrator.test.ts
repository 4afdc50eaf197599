/** The events of a job: few, and none twice. */
import { expect, test } from 'vitest';
import type { JobEvent } from '../../../src/finetuning/job.js';
import { Narrator } from '../../../src/finetuning/narrator.js';

const step = (number: number) => ({ type: 'step', step: number, loss: 1 / number, learningRate: 0.01, secondsLeft: 1 }) as const;
const steps = (narrator: Narrator, from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => narrator.tell(step(from + index))).flat();

test('a short run tells every step, a long one about a hundred, with its first and its last', () => {
  expect(steps(new Narrator(3, []), 1, 3).map(({ data }) => data)).toEqual([
    { step: 1, total_steps: 3, train_loss: 1, learning_rate: 0.01 },
    { step: 2, total_steps: 3, train_loss: 0.5, learning_rate: 0.01 },
    { step: 3, total_steps: 3, train_loss: 1 / 3, learning_rate: 0.01 },
  ]);
  const told = steps(new Narrator(12_345, []), 1, 12_345);
  expect(told.length).toBeLessThan(103);
  expect(told[0]?.message).toBe('Step 1/12345: training loss=1.0000');
  expect(told.at(-1)?.data).toMatchObject({ step: 12_345 });
});

test('what was told before a restart is not told again', () => {
  const before = steps(new Narrator(10, []), 1, 7);
  const kept = before.map((draft, index): JobEvent => ({ id: `ftevent-${index}`, createdAt: 0, ...draft }));
  const after = new Narrator(10, kept);
  expect(after.tell({ type: 'resumed', step: 5, past: [] })[0]?.message).toBe('Training goes on after step 5 of 10');
  expect(steps(after, 6, 10).map(({ data }) => data?.['step'])).toEqual([8, 9, 10]);
});

test('what was done after the server had ended is told when it goes on, and only that', () => {
  const before = steps(new Narrator(10, []), 1, 3);
  const kept = before.map((draft, index): JobEvent => ({ id: `ftevent-${index}`, createdAt: 0, ...draft }));
  const done = [2, 3, 4, 5].map((number) => ({ step: number, loss: 1, learningRate: 0.01 }));
  const past = [...done, { step: 5, validationLoss: 0.5 }];
  expect(new Narrator(10, kept).tell({ type: 'resumed', step: 5, past }).map(({ message }) => message)).toEqual([
    'Step 4/10: training loss=1.0000',
    'Step 5/10: training loss=1.0000',
    'Step 5/10: validation loss=0.5000',
    'Training goes on after step 5 of 10',
  ]);
});

test('evaluations have their own loss, and rows that cannot be used are a warning', () => {
  const narrator = new Narrator(10, []);
  expect(narrator.tell({ type: 'evaluation', step: 5, loss: 0.25, isBest: true })).toEqual([
    {
      level: 'info',
      message: 'Step 5/10: validation loss=0.2500, the best so far',
      data: { step: 5, total_steps: 10, valid_loss: 0.25 },
    },
  ]);
  const [warning, said] = narrator.tell({ type: 'prepared', captions: 9, heldOut: 2, parameters: 50, bad: ['line 3 is broken'] });
  expect(warning).toMatchObject({ level: 'warn', message: 'Rows that cannot be used: line 3 is broken' });
  expect(said?.message).toBe('Training 50 parameters on 9 captions, 2 held out');
});
