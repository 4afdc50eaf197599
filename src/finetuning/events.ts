/** What happened to a job, a line of JSON an event, appended. A line that a crash cut short is passed over; the next one begins anew. */
import { appendFile, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isAbsent } from '../adapter/file.js';
import { EventJson, type JobEvent } from './job.js';
import { newId } from './name.js';

export class EventLog {
  readonly #folder: string;
  #last: Promise<unknown> = Promise.resolve();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** In the order of the calls. */
  add(job: string, { level, message, data }: Pick<JobEvent, 'level' | 'message' | 'data'>): Promise<void> {
    const event: JobEvent = { id: newId('event'), createdAt: Date.now(), level, message, data };
    const written = this.#last.then(() => appendFile(this.#pathOf(job), `\n${JSON.stringify(event)}`));
    this.#last = written.catch(() => undefined);
    return written;
  }

  /** The oldest first; none of a job that has none. */
  async read(job: string): Promise<JobEvent[]> {
    await this.#last;
    const text = await readFile(this.#pathOf(job), 'utf8').catch((error: unknown) => {
      if (isAbsent(error)) return '';
      throw error;
    });
    return text.split('\n').flatMap((line) => eventOf(line));
  }

  async remove(job: string): Promise<void> {
    await this.#last;
    await rm(this.#pathOf(job), { force: true });
  }

  #pathOf(job: string): string {
    return join(this.#folder, `${job}.events.jsonl`);
  }
}

function eventOf(line: string): JobEvent[] {
  try {
    const parsed = EventJson.safeParse(JSON.parse(line));
    return parsed.success ? [parsed.data] : [];
  } catch {
    return [];
  }
}
