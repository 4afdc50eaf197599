/** From what the trainer tells to the events of a job: few enough to be read, and none twice where a run goes on from its checkpoint. */
import type { JobEvent } from './job.js';
import type { PastLine, TrainerEvent } from './protocol.js';

export type EventDraft = Pick<JobEvent, 'level' | 'message' | 'data'>;

/** Steps that become events, at most. */
const TOLD_STEPS = 100;

export class Narrator {
  readonly #steps: number;
  #toldStep: number;
  #toldEvaluation: number;

  /** `steps`: of the whole run; `before`: what has been told of it. */
  constructor(steps: number, before: readonly JobEvent[]) {
    this.#steps = steps;
    this.#toldStep = lastStep(before, 'train_loss');
    this.#toldEvaluation = lastStep(before, 'valid_loss');
  }

  tell(event: TrainerEvent): EventDraft[] {
    switch (event.type) {
      case 'prepared':
        return this.#prepared(event);
      case 'resumed':
        return [
          ...event.past.flatMap((line) => this.#past(line)),
          words('info', `Training goes on after step ${event.step} of ${this.#steps}`),
        ];
      case 'step':
        return this.#step(event);
      case 'evaluation':
        return this.#evaluation(event);
      default:
        return [];
    }
  }

  #prepared({ captions, heldOut, parameters, bad }: Extract<TrainerEvent, { type: 'prepared' }>): EventDraft[] {
    const held = heldOut > 0 ? `, ${heldOut} held out` : '';
    const said = words('info', `Training ${parameters} parameters on ${captions} captions${held}`);
    return bad.length === 0 ? [said] : [words('warn', `Rows that cannot be used: ${bad.join('; ')}`), said];
  }

  #past(line: PastLine): EventDraft[] {
    return 'loss' in line ? this.#step(line) : this.#evaluation({ step: line.step, loss: line.validationLoss, isBest: false });
  }

  #step({
    step,
    loss,
    learningRate,
  }: Pick<Extract<TrainerEvent, { type: 'step' }>, 'step' | 'loss' | 'learningRate'>): EventDraft[] {
    const every = Math.ceil(this.#steps / TOLD_STEPS);
    if (step <= this.#toldStep || (step !== 1 && step !== this.#steps && step % every !== 0)) return [];
    this.#toldStep = step;
    const message = `Step ${step}/${this.#steps}: training loss=${loss.toFixed(4)}`;
    return [{ level: 'info', message, data: { step, total_steps: this.#steps, train_loss: loss, learning_rate: learningRate } }];
  }

  #evaluation({ step, loss, isBest }: Omit<Extract<TrainerEvent, { type: 'evaluation' }>, 'type'>): EventDraft[] {
    if (step <= this.#toldEvaluation) return [];
    this.#toldEvaluation = step;
    const message = `Step ${step}/${this.#steps}: validation loss=${loss.toFixed(4)}${isBest ? ', the best so far' : ''}`;
    return [{ level: 'info', message, data: { step, total_steps: this.#steps, valid_loss: loss } }];
  }
}

/** An event of words alone. */
export function words(level: JobEvent['level'], message: string): EventDraft {
  return { level, message, data: null };
}

function lastStep(events: readonly JobEvent[], key: string): number {
  const steps = events.flatMap(({ data }) =>
    data !== null && key in data && typeof data['step'] === 'number' ? [data['step']] : [],
  );
  return Math.max(0, ...steps);
}
