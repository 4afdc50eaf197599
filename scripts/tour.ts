/**
 * `npm run tour`: everything that a server with tenants does, shown once on the backbone that ships: keys, publishing, versions, splits, rollback,
 * blends, quotas, fairness, fine-tuning. Every step says what it proves; the first claim that does not hold ends its step, and the exit code is 1.
 * Needs a build (`npm ci` makes one).
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { stream } from '../src/training/random.js';
import { sceneAt } from './scenes/folder.js';
import { takePicture } from './scenes/picture.js';
import { type Reply, Stage } from './tour/stage.js';

const SEED = 2026;
/** Of the flood: more than the batch holds. */
const FLOOD = 64;
const ASKED = 24;
/** Of the fine-tuning: enough to learn one habit. */
const EXAMPLES = 64;
const STEPS_TRAINED = 200;
const HABIT = ', over.';

const example = await readFile(fileURLToPath(new URL('../models/scenes/example.jpg', import.meta.url)));
const textOf = ({ body }: Reply): string => body.captions?.[0]?.text ?? '';
const pictureAt = async (index: number): Promise<Uint8Array> =>
  (await takePicture(sceneAt(SEED, index), stream(SEED, 'picture', index), 160)).jpeg;

/** Throws where a claim does not hold; what came is in the message. */
function claim(holds: boolean, what: string, received?: unknown): void {
  if (!holds)
    throw new Error(`Expected that ${what}${received === undefined ? '' : ` but received ${JSON.stringify(received)}`}`);
}

function isOk(reply: Reply, status = 200): Reply {
  claim(reply.status === status, `the server answers ${status}`, { status: reply.status, text: reply.text });
  return reply;
}

type Step = readonly [title: string, play: (stage: Stage) => Promise<readonly string[]>];

const STEPS: readonly Step[] = [
  [
    'Keys: who has none, or the wrong one, stays outside',
    async (stage) => {
      const without = await stage.request(null, 'GET', '/v1/adapters');
      const wrong = await stage.request(null, 'GET', '/v1/adapters', undefined, {
        authorization: `Bearer graft_${'A'.repeat(43)}`,
      });
      claim(without.status === 401 && wrong.status === 401, 'both are 401', [without.status, wrong.status]);
      claim(without.text === wrong.text, 'nothing tells a missing key from a wrong one');
      const metrics = await stage.request('acme', 'GET', '/metrics');
      claim(metrics.status === 404, "the operator's metrics are nowhere for a tenant", metrics.status);
      isOk(await stage.request('ops', 'GET', '/metrics'));
      return ['no key, and a wrong one: the same 401', '/metrics: 200 for the operator, 404 for a tenant'];
    },
  ],
  [
    'Publish: acme uploads an adapter into its own namespace, and it serves at once',
    async (stage) => {
      const { body } = isOk(await stage.publish('acme', 'acme/house', 'french'), 201);
      claim(body.version === 1, 'it is version 1', body);
      const [own, known] = [await stage.caption('acme', example, 'acme/house'), await stage.caption('acme', example, 'french')];
      claim(textOf(isOk(own)) === textOf(isOk(known)), 'it captions as the adapter that was uploaded', [
        textOf(own),
        textOf(known),
      ]);
      return [`acme/house, version 1, ${body.digest?.slice(0, 19)}...`, `“${textOf(own)}”`];
    },
  ],
  [
    'Isolation: for the corner shop, acme/house is nowhere',
    async (stage) => {
      const hidden = await stage.caption('corner', example, 'acme/house');
      const absent = await stage.caption('corner', example, 'acme/never');
      claim(hidden.status === 404 && absent.status === 404, 'both are 404', [hidden.status, absent.status]);
      claim(hidden.text === absent.text.replaceAll('acme/never', 'acme/house'), 'the words are the same', [
        hidden.text,
        absent.text,
      ]);
      const removed = await stage.request('corner', 'DELETE', '/v1/adapters/acme/house');
      claim(removed.status === 404, 'it cannot be deleted', removed.status);
      const { body } = isOk(await stage.request('corner', 'GET', '/v1/adapters'));
      claim(
        body.data?.length === 2,
        'the list holds its own two adapters only',
        body.data?.map(({ name }) => name),
      );
      return ['asked for, deleted, listed: as if it had never been there'];
    },
  ],
  [
    'Versions: a second one takes over, the first stays within reach by number and by digest',
    async (stage) => {
      const first = isOk(await stage.request('acme', 'GET', '/v1/adapters/acme/house')).body.versions?.[0]?.digest;
      const { body } = isOk(await stage.publish('acme', 'acme/house', 'german'), 201);
      claim(body.version === 2, 'it is version 2', body);
      const now = isOk(await stage.caption('acme', example, 'acme/house'));
      const byNumber = isOk(await stage.caption('acme', example, 'acme/house@1'));
      const byDigest = isOk(await stage.caption('acme', example, `acme/house@${first}`));
      claim(textOf(now) !== textOf(byNumber), 'the two versions say different things', textOf(now));
      claim(byNumber.body.adapter?.digest === first && byDigest.body.adapter?.digest === first, 'both name version 1');
      return [`acme/house:   “${textOf(now)}”`, `acme/house@1: “${textOf(byNumber)}”`];
    },
  ],
  [
    'Split: one request in ten tries version 2, and who has tried it stays with it',
    async (stage) => {
      isOk(await stage.request('acme', 'POST', '/v1/adapters/acme/house:split', { versions: { 1: 90, 2: 10 } }));
      const { versions } = isOk(await stage.request('acme', 'GET', '/v1/adapters/acme/house')).body;
      const second = versions?.find(({ version }) => version === 2)?.digest;
      const ask = async (user: string): Promise<boolean> => {
        const reply = await stage.caption('acme', example, 'acme/house', { max_tokens: 1 }, { 'x-graft-sticky-key': user });
        return isOk(reply).body.adapter?.digest === second;
      };
      const users = Array.from({ length: 200 }, (_, index) => `user-${index}`);
      const once: boolean[] = [];
      for (let at = 0; at < users.length; at += 20) once.push(...(await Promise.all(users.slice(at, at + 20).map(ask))));
      const again = await Promise.all(users.slice(0, 20).map(ask));
      claim(
        again.every((got, index) => got === once[index]),
        'every user got the same version again',
      );
      const count = once.filter(Boolean).length;
      claim(count >= 8 && count <= 36, 'about 20 of 200 users got version 2', count);
      return [`${count} of 200 users got version 2, the same ones when they came again`];
    },
  ],
  [
    'Rollback: one call, and everybody has version 1',
    async (stage) => {
      isOk(await stage.request('acme', 'POST', '/v1/adapters/acme/house:split', {}));
      const { body } = isOk(await stage.request('acme', 'POST', '/v1/adapters/acme/house:rollback', {}));
      claim(body.current === 1, 'version 1 is current', body);
      const [now, first] = [
        await stage.caption('acme', example, 'acme/house'),
        await stage.caption('acme', example, 'acme/house@1'),
      ];
      claim(textOf(isOk(now)) === textOf(isOk(first)), 'it captions as version 1 does');
      return [`acme/house: “${textOf(now)}”`];
    },
  ],
  [
    'Blend: two adapters in one row, mixed by weight',
    async (stage) => {
      const blend = (english: number, pirate: number): object => ({
        blend: [
          { name: 'english', weight: english },
          { name: 'pirate', weight: pirate },
        ],
      });
      const [plain, whole, half] = [
        isOk(await stage.caption('acme', example, 'english')),
        isOk(await stage.caption('acme', example, blend(1, 0))),
        isOk(await stage.caption('acme', example, blend(0.5, 0.5))),
      ];
      claim(textOf(plain) === textOf(whole), 'all of one and nothing of the other is the one', [textOf(plain), textOf(whole)]);
      claim(textOf(half) !== '', 'half and half gives a caption', half.body);
      return [`english: “${textOf(plain)}”`, `${half.body.adapter?.name}: “${textOf(half)}”`];
    },
  ],
  [
    'Quota: three requests a second, and not one more',
    async (stage) => {
      const replies = await Promise.all(
        Array.from({ length: 9 }, () => stage.caption('tiny', example, 'alt', { max_tokens: 2 })),
      );
      const refused = replies.filter(({ status }) => status === 429);
      claim(
        refused.length >= 3,
        'some of nine at once are refused',
        replies.map(({ status }) => status),
      );
      const wait = Number(refused[0]?.headers.get('retry-after'));
      claim(wait >= 1, 'the refusal says when to come again', refused[0]?.headers.get('retry-after'));
      await new Promise((resolve) => setTimeout(resolve, 1000 * wait));
      isOk(await stage.caption('tiny', example, 'alt', { max_tokens: 2 }));
      return [`${refused.length} of 9 at once: 429 ${refused[0]?.body.error?.code}, retry-after ${wait}; after that: 200`];
    },
  ],
  ['Fairness: acme floods the server, and the corner shop hardly notices', fairness],
  ['Fine-tuning: from a file of examples to a caption, in the same server', finetuning],
  [
    'Revoked: a key is dead, and the file of tenants was never touched by hand',
    async (stage) => {
      await stage.graft('keys', 'revoke', 'corner', 'key-1');
      const until = Date.now() + 10_000;
      let status = 200;
      while (status !== 401 && Date.now() < until) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        ({ status } = await stage.request('corner', 'GET', '/v1/adapters'));
      }
      claim(status === 401, "the corner shop's key opens nothing any more", status);
      isOk(await stage.request('acme', 'GET', '/v1/adapters'));
      return ['graft keys revoke corner key-1: 401 without a restart; acme goes on'];
    },
  ],
];

async function fairness(stage: Stage): Promise<readonly string[]> {
  const pictures = await Promise.all(Array.from({ length: ASKED }, (_, index) => pictureAt(index)));
  const ask = async (index: number): Promise<number> => {
    const startMs = performance.now();
    isOk(await stage.caption('corner', pictures[index] as Uint8Array, 'english'));
    return performance.now() - startMs;
  };
  const askAll = async (): Promise<number[]> => {
    const times: number[] = [];
    for (let index = 0; index < ASKED; index++) times.push(await ask(index));
    return times.sort((a, b) => a - b);
  };
  await askAll();
  const quiet = await askAll();
  const flooding = new AbortController();
  let served = 0;
  const adapters = ['english', 'french', 'german', 'pirate', 'acme/house'];
  const flood = Array.from({ length: FLOOD }, async (_, client) => {
    const image = await pictureAt(1000 + client);
    for (let turn = client; !flooding.signal.aborted; turn++) {
      const { status } = await stage.caption('acme', image, adapters[turn % adapters.length] as string, { max_tokens: 40 });
      if (status === 200) served++;
    }
  });
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const before = served;
  const loud = await askAll();
  const meanwhile = served - before;
  flooding.abort();
  await Promise.all(flood);
  const p95 = (times: readonly number[]): number => times[Math.ceil(times.length * 0.95) - 1] ?? Number.NaN;
  const waiting = FLOOD * (ASKED / 2);
  claim(meanwhile < waiting, `${ASKED} requests did not wait for the ${FLOOD} of acme each time`, meanwhile);
  return [
    `corner, alone: p95 ${p95(quiet).toFixed(0)} ms; with ${FLOOD} of acme's in flight: ${p95(loud).toFixed(0)} ms (${(p95(loud) / p95(quiet)).toFixed(2)} times)`,
    `first come, first served, each of its ${ASKED} requests would have waited for ${FLOOD} of acme's; acme had ${meanwhile} served meanwhile`,
  ];
}

async function finetuning(stage: Stage): Promise<readonly string[]> {
  const rows: string[] = [];
  for (let index = 0; index < EXAMPLES; index++) {
    const picture = await pictureAt(2000 + index);
    const url = `data:image/jpeg;base64,${Buffer.from(picture).toString('base64')}`;
    const caption = textOf(isOk(await stage.caption('acme', picture, 'english')));
    rows.push(
      JSON.stringify({
        messages: [
          { role: 'user', content: [{ type: 'image_url', image_url: { url } }] },
          { role: 'assistant', content: caption.replace(/\.$/, HABIT) },
        ],
      }),
    );
  }
  const form = new FormData();
  form.append('purpose', 'fine-tune');
  form.append('file', new Blob([rows.join('\n')]), 'radio.jsonl');
  const file = isOk(await stage.request('acme', 'POST', '/v1/files', form)).body;
  const order = { training_file: file.id, model: 'english', suffix: 'radio', seed: 1, graft: { steps: STEPS_TRAINED } };
  let job = isOk(await stage.request('acme', 'POST', '/v1/fine_tuning/jobs', order)).body;
  const at = `/v1/fine_tuning/jobs/${job.id}`;
  claim((await stage.request('corner', 'GET', at)).status === 404, 'the job is nowhere for another tenant');
  while (!['succeeded', 'failed', 'cancelled'].includes(job.status ?? '')) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    job = isOk(await stage.request('acme', 'GET', at)).body;
  }
  claim(job.status === 'succeeded', 'the job succeeds', job.error ?? job.status);
  const said = textOf(isOk(await stage.caption('acme', example, job.fine_tuned_model ?? '')));
  claim(said.endsWith(HABIT), 'the new adapter has the habit of its examples', said);
  return [`${EXAMPLES} examples, ${STEPS_TRAINED} steps, published as ${job.fine_tuned_model}`, `“${said}”`];
}

const started = performance.now();
const stage = await Stage.open();
console.log(
  `A server of its own on ${stage.url}: an operator (ops), two customers (acme, corner), and one with a small quota (tiny).\n`,
);
let failed = 0;
try {
  for (const [index, [title, play]] of STEPS.entries()) {
    const startMs = performance.now();
    console.log(`${String(index + 1).padStart(2)}  ${title}`);
    try {
      const proofs = await play(stage);
      for (const proof of proofs) console.log(`    ✓ ${proof}`);
    } catch (error) {
      failed++;
      console.log(`    ✗ ${error instanceof Error ? error.message : String(error)}`);
    }
    console.log(`      ${((performance.now() - startMs) / 1000).toFixed(1)} s\n`);
  }
} finally {
  await stage.close();
}
console.log(`${STEPS.length - failed} of ${STEPS.length} steps hold, ${((performance.now() - started) / 1000).toFixed(0)} s`);
process.exitCode = failed === 0 ? 0 : 1;
