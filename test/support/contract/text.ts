/** What the routes that generate are asked: what each answers, and what it refuses. */
import sharp from 'sharp';
import { formOf, noisePng } from '../server.js';
import type { Ask, Call, Calls, Refusals } from './calls.js';
import type { Stage } from './stage.js';

type Server = 'main' | 'tight';

const png = await noisePng();
const wide = await sharp({ create: { width: 201, height: 50, channels: 3, background: 'red' } })
  .png()
  .toBuffer();
const base64 = (bytes: Uint8Array | string) => Buffer.from(bytes).toString('base64');
const TOO_LARGE = base64(Buffer.alloc(20_001));
const TOO_LONG = 'z '.repeat(300);

const BLEND = {
  blend: [
    { name: 'english', weight: 0.7 },
    { name: 'second', weight: 0.3 },
  ],
};

const asking =
  (route: string, usual: object) =>
  (more: object = {}, server: Server = 'main'): Call =>
  (stage: Stage): Ask => ({ url: stage.at(server, route), body: { max_tokens: 4, ...usual, ...more } });

const messages = (image: string, text = '') => [
  {
    role: 'user',
    content: [
      { type: 'image_url', image_url: { url: image } },
      { type: 'text', text },
    ],
  },
];

const caption = asking('/v1/captions', { image: base64(png), model: 'english' });
const completion = asking('/v1/completions', { model: 'english', prompt: 'the' });
const chat = asking('/v1/chat/completions', { model: 'english', messages: messages(`data:image/png;base64,${base64(png)}`) });

const generating = (ask: (more?: object, server?: Server) => Call, tooLong: object, tooLarge: object): Refusals => ({
  invalid_request: ask({ max_tokens: 0 }),
  unknown_field: ask({ tokens: 3 }),
  context_length_exceeded: ask(tooLong),
  payload_too_large: ask(tooLarge),
  unsupported_media_type: async (stage) => ({ ...(await ask()(stage)), headers: { 'content-type': 'text/plain' } }),
  adapter_not_found: ask({ model: 'nobody' }),
  adapter_invalid: ask({ model: 'broken' }),
  adapter_too_large: ask({}, 'tight'),
  deadline_exceeded: ask({ timeout_ms: 1, max_tokens: 60 }),
  download_failed: ask({ model: 'hf://owner/model@portal' }),
  source_unavailable: ask({ model: 'hf://owner/model@busy' }),
  source_timeout: ask({ model: 'hf://owner/model@slow' }),
});

const seeing = (ask: (image: string) => Call): Refusals => ({
  invalid_image: ask(base64('hello')),
  unsupported_image: ask(base64('GIF89a\x01\x00\x01\x00')),
  image_too_large: ask(base64(wide)),
  image_url_refused: ask('https://elsewhere.example/a.png'),
  image_unavailable: ask('http://localhost:9/a.png'),
});

export const TEXT_CALLS: Readonly<Record<string, Calls>> = {
  'POST /v1/captions': {
    replies: [
      (stage) => ({
        url: stage.at('main', '/v1/captions'),
        body: formOf({ image: png, adapter: 'english', max_tokens: '4' }),
      }),
      caption({ n: 2, temperature: 1, stop: ['a'] }),
      caption({ model: null, adapters: ['english', BLEND, 'broken', 'nobody'] }),
      caption({ model: null, adapter: BLEND }),
      caption({ stream: true }),
      caption({ model: null, adapters: ['english', 'nobody'], stream: true }),
    ],
    refusals: {
      ...generating(caption, { prompt: TOO_LONG }, { image: TOO_LARGE }),
      ...seeing((image) => caption({ image })),
      adapter_required: caption({ model: null }),
    },
  },
  'POST /v1/completions': {
    replies: [
      completion(),
      completion({ model: 'tiny', n: 2, num_beams: 2 }),
      completion({ stream: true }),
      completion({ model: null, adapter: BLEND, logprobs: 2 }),
      completion({ model: 'tiny', logprobs: 1, stream: true }),
      completion({ model: 'tiny', stream: true, n: 2, temperature: 1 }),
    ],
    refusals: generating(completion, { prompt: TOO_LONG }, { prompt: 'a'.repeat(1_100_000) }),
  },
  'POST /v1/chat/completions': {
    replies: [
      chat(),
      chat({ model: 'tiny', messages: [{ role: 'user', content: 'the' }], temperature: 1, n: 2, user: 'somebody' }),
      chat({ stream: true }),
      chat({ model: 'tiny', adapter: BLEND, logprobs: true, top_logprobs: 2 }),
      chat({ logprobs: true, top_logprobs: 3, stream: true }),
      chat({ stream: true, stream_options: { include_usage: true } }),
    ],
    refusals: {
      ...generating(chat, { messages: messages(base64(png), TOO_LONG) }, { messages: messages(TOO_LARGE) }),
      ...seeing((image) => chat({ messages: messages(image) })),
      adapter_required: chat({ model: 'tiny' }),
    },
  },
};

/** Streams that take a while. */
export const LONG_STREAMS: Readonly<Record<string, Call>> = Object.fromEntries(
  [caption, completion, chat].map((ask, at) => [
    Object.keys(TEXT_CALLS)[at],
    ask({ stream: true, n: 16, temperature: 2, max_tokens: 110 }),
  ]),
);
