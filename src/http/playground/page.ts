/** The playground: an image, adapters, their captions as they come. The parts know their corner of the page; this file is what happens. */
import { type Ask, CAPTIONS, KeyWanted, listAdapters, readMetrics, readyBackbone, streamCaptions } from './api.js';
import { Card } from './card.js';
import { Chooser } from './chooser.js';
import { part } from './dom.js';
import { KeyField } from './key.js';
import { Live } from './live.js';
import { meanRows, type Series } from './metrics.js';
import { Picture } from './picture.js';
import { type Language, snippet } from './snippet.js';

const POLL_MS = 1000;
/** How often the list of adapters is asked for where nothing tells that it changed. */
const LIST_MS = 10_000;
/** The backbone whose world is src/scenes: a photo is nothing to it, and its images can be made here. */
const DRAWN_WORLD = 'scenes';
/** What changes when the list of adapters, or what is in memory, does. */
const ADAPTER_SERIES = ['adapters_registered', 'adapters_resident', 'adapter_loads_total', 'adapter_evictions_total'];

const form = part('form', HTMLFormElement);
const submit = part('submit', HTMLButtonElement);
const problem = part('problem', HTMLParagraphElement);
const cardList = part('captions', HTMLDivElement);
const emptyNote = part('captions-empty', HTMLParagraphElement);
const outcome = part('outcome', HTMLParagraphElement);
const state = part('state', HTMLParagraphElement);
const code = part('snippet', HTMLPreElement);
const copy = part('copy', HTMLButtonElement);
const maxTokens = part('max-tokens', HTMLInputElement);
const temperature = part('temperature', HTMLInputElement);

const batchNote = part('batch-note', HTMLParagraphElement);
const stale = part('stale', HTMLSpanElement);

const live = new Live();
const picture = new Picture(changePicture, (error) => say(messageOf(error)));
const chooser = new Chooser(showSnippet);
const key = new KeyField(changeKey);
let running: AbortController | null = null;
/** What the captions on the page are of. */
let captioned: File | null = null;
let backbone: string | null = null;
let adapterState = '';

form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (running) running.abort();
  else void caption();
});
document.addEventListener('input', showSnippet);
copy.addEventListener('click', () => void copySnippet());
document.addEventListener('visibilitychange', () => void poll());
showSnippet();
void poll();

async function caption(): Promise<void> {
  const ask = readAsk();
  if (!ask) return;
  const controller = new AbortController();
  running = controller;
  submit.textContent = 'Stop';
  say('');
  const cards = new Map<string, Card>();
  try {
    const [adapters, before] = await Promise.all([listAdapters(), readMetrics()]);
    chooser.show(adapters);
    for (const name of ask.adapters) cards.set(name, new Card(name, chooser.isResident(name)));
    showCards(ask.image, [...cards.values()]);
    scrollToCards();
    for await (const event of streamCaptions(ask, controller.signal)) {
      if (event.object === 'caption.delta') cards.get(event.adapter)?.push(event.text);
      else if (event.object === 'caption') cards.get(event.adapter.name)?.finish(event);
      else cards.get(event.adapter.name)?.fail(event.error.message);
    }
    const rows = meanRows(before, await readMetrics());
    for (const card of cards.values()) card.batch(rows);
    batchNote.hidden = rows === null;
    outcome.textContent = [...cards.values()].map(({ element }) => element.querySelector('.text')?.textContent ?? '').join('. ');
  } catch (error) {
    if (error instanceof KeyWanted) key.ask();
    const stopped = controller.signal.aborted;
    const message = stopped ? 'Stopped.' : messageOf(error);
    if (!stopped) say(message);
    const begun = [...cards.values()].some((card) => card.begun);
    // What befell the request and no adapter in particular is said once.
    if (cards.size > 0 && !stopped && !begun) showCards(ask.image, []);
    for (const card of cards.values()) if (card.open) card.fail(message);
  } finally {
    running = null;
    submit.textContent = 'Caption';
  }
}

/** What is asked for; null, and said, where something is missing. */
function readAsk(): Ask | null {
  const image = picture.file;
  if (!image) {
    say('Choose an image first.');
    picture.focus();
    return null;
  }
  const adapters = chooser.chosen;
  if (adapters.length === 0) {
    say('Choose at least one adapter.');
    return null;
  }
  return { image, adapters, settings: settings() };
}

function settings(): Readonly<Record<string, number | boolean>> {
  // An emptied field is not asked for.
  const given = Object.entries({ max_tokens: maxTokens.valueAsNumber, temperature: temperature.valueAsNumber }).filter(
    ([, value]) => !Number.isNaN(value),
  );
  return { ...Object.fromEntries(given), stream: true };
}

function say(text: string): void {
  problem.textContent = text;
  problem.hidden = text === '';
}

/** Looks at the server once a second while the page is seen. */
let timer: ReturnType<typeof setTimeout> | undefined;
async function poll(): Promise<void> {
  clearTimeout(timer);
  if (document.visibilityState !== 'visible') return;
  try {
    if (!key.isAwaited) await look();
    backbone ??= await readyBackbone();
    if (backbone !== null) picture.offerDrawing(backbone === DRAWN_WORLD);
    state.textContent = backbone === null ? 'the model is loading' : `${backbone} is ready`;
    state.className = backbone === null ? 'state' : 'state good';
  } catch {
    backbone = null;
    state.textContent = 'server unreachable';
    state.className = 'state bad';
  }
  clearTimeout(timer);
  timer = setTimeout(() => void poll(), POLL_MS);
}

async function look(): Promise<void> {
  try {
    const series = await readMetrics();
    live.show(series);
    await refreshAdapters(series);
  } catch (error) {
    if (!(error instanceof KeyWanted)) throw error;
    key.ask();
  }
}

async function refreshAdapters(series: Series | null): Promise<void> {
  const now = series
    ? ADAPTER_SERIES.map((name) => series.get(`graft_${name}`)).join(' ')
    : String(Math.floor(performance.now() / LIST_MS));
  if (now === adapterState) return;
  chooser.show(await listAdapters());
  adapterState = now;
}

/** Another visitor, as far as the server is concerned. */
function changeKey(): void {
  adapterState = '';
  chooser.forget();
  running?.abort();
  showCards(null, []);
  say('');
  showSnippet();
  void poll();
}

function changePicture(): void {
  say('');
  showStale();
  showSnippet();
}

function showCards(image: File | null, cards: readonly Card[]): void {
  cardList.replaceChildren(...cards.map((card) => card.element));
  emptyNote.hidden = cards.length > 0;
  batchNote.hidden = true;
  captioned = cards.length > 0 ? image : null;
  showStale();
}

function showStale(): void {
  stale.hidden = captioned === null || captioned === picture.file;
}

/** On a phone they are below what was pressed. */
function scrollToCards(): void {
  if (cardList.getBoundingClientRect().top < innerHeight * 0.8) return;
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  part('captions-title', HTMLHeadingElement).scrollIntoView({ behavior: still ? 'auto' : 'smooth' });
}

function showSnippet(): void {
  const chosen = document.querySelector<HTMLInputElement>('input[name=language]:checked');
  const url = new URL(CAPTIONS, document.baseURI).href;
  code.textContent = snippet((chosen?.value ?? 'curl') as Language, {
    url,
    file: picture.file ?? { name: 'photo.jpg', type: 'image/jpeg' },
    adapters: chooser.chosen.length > 0 ? chooser.chosen : ['NAME'],
    settings: settings(),
    isKeyed: key.isGiven,
  });
}

/** Browsers give the clipboard to pages over TLS or on this machine only; elsewhere the text is selected, ready to be copied. */
async function copySnippet(): Promise<void> {
  try {
    await navigator.clipboard.writeText(code.textContent ?? '');
    copy.textContent = 'Copied';
  } catch {
    getSelection()?.selectAllChildren(code);
    copy.textContent = 'Selected';
  }
  setTimeout(() => {
    copy.textContent = 'Copy';
  }, 1500);
}

function messageOf(error: unknown): string {
  // What fetch throws where there is no answer at all is a TypeError with each browser's own words.
  if (error instanceof TypeError) return 'The server does not answer.';
  return error instanceof Error ? error.message : String(error);
}
