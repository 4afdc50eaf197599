/** Training files in OpenAI's form, and its client, unchanged, at a server of ours. */
import OpenAI, { toFile } from 'openai';
import type { FineTuningJob, FineTuningJobEvent, JobCreateParams } from 'openai/resources/fine-tuning/jobs/jobs';
import sharp from 'sharp';

export interface Example {
  readonly image: Uint8Array | null;
  readonly caption: string;
  readonly prompt?: string;
}

/** JSON lines, a row an example. */
export function rowsOf(examples: readonly Example[]): string {
  return examples.map((example) => `${JSON.stringify(rowOf(example))}\n`).join('');
}

function rowOf({ image, caption, prompt = '' }: Example): object {
  const url = image && `data:image/png;base64,${Buffer.from(image).toString('base64')}`;
  const content = [...(url ? [{ type: 'image_url', image_url: { url } }] : []), { type: 'text', text: prompt }];
  return {
    messages: [
      { role: 'user', content },
      { role: 'assistant', content: caption },
    ],
  };
}

/** Pictures of plain colours, each with a caption that says which. */
export async function colours(): Promise<Example[]> {
  const names = { red: '#f00', green: '#0f0', blue: '#00f', white: '#fff', black: '#000', yellow: '#ff0' };
  return Promise.all(
    Object.entries(names).map(async ([name, background]) => {
      const image = sharp({ create: { width: 40, height: 30, channels: 3, background } });
      return { image: await image.png().toBuffer(), caption: `a ${name} dog.` };
    }),
  );
}

/** Without retries: what fails once is what the test is about. */
export function clientOf(url: string, apiKey = 'none needed'): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
}

export async function upload(client: OpenAI, rows: string, name = 'train.jsonl'): Promise<string> {
  const file = await client.files.create({ purpose: 'fine-tune', file: await toFile(Buffer.from(rows), name) });
  return file.id;
}

/** The job once it is over. */
export async function over(client: OpenAI, id: string): Promise<FineTuningJob> {
  for (;;) {
    const job = await client.fineTuning.jobs.retrieve(id);
    if (['succeeded', 'failed', 'cancelled'].includes(job.status)) return job;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** All events, the oldest first. */
export async function eventsOf(client: OpenAI, id: string): Promise<FineTuningJobEvent[]> {
  const events: FineTuningJobEvent[] = [];
  for await (const event of client.fineTuning.jobs.listEvents(id, { limit: 7 })) events.push(event);
  return events.reverse();
}

/** Numbers of the steps that a job's events tell, and their losses. */
export function stepsOf(events: readonly FineTuningJobEvent[]): { step: number; loss: number }[] {
  return events.flatMap(({ data }) => {
    const { step, train_loss } = (data ?? {}) as { step?: number; train_loss?: number };
    return step === undefined || train_loss === undefined ? [] : [{ step, loss: train_loss }];
  });
}

/** Begins a job; `graft` is what the client's types do not know, and its code passes on. */
export function begin(client: OpenAI, body: JobCreateParams, graft: object): Promise<FineTuningJob> {
  const whole = { ...body, graft };
  return client.fineTuning.jobs.create(whole);
}
