/** One picture of a server for a terminal of some size: lines of text, with colours where they are seen and without where they are not. */
import type { Busy, BusyAdapter, BusyTenant, Figures } from './figures.js';

export interface Canvas {
  readonly columns: number;
  /** Lines that fit; tables are cut where they do not. */
  readonly rows: number;
  readonly colours: boolean;
  /** Whether blocks and dashes of Unicode can be shown. */
  readonly unicode: boolean;
}

export interface Heading {
  readonly url: string;
  readonly intervalSeconds: number;
  readonly time: string;
  /** What is wrong with reading the server; the figures are older then. */
  readonly trouble: string | null;
}

type Style = 'plain' | 'strong' | 'quiet' | 'good' | 'warning' | 'bad';
type Piece = readonly [text: string, style?: Style];
type Line = readonly Piece[];

const CODES: Readonly<Record<Style, string>> = {
  plain: '',
  strong: '\u001b[1m',
  quiet: '\u001b[2m',
  good: '\u001b[32m',
  warning: '\u001b[33m',
  bad: '\u001b[31m',
};
const RESET = '\u001b[0m';
const LABEL_WIDTH = 14;
const BAR_WIDTH = 24;
const NUMBER_WIDTH = 13;
const MIN_NAME_WIDTH = 12;
/** Of the lines below the figures, so many are kept for tenants where there are any. */
const TENANT_SHARE = 3;

export function frameOf(figures: Figures | null, heading: Heading, canvas: Canvas): string[] {
  const above = [...title(figures, heading, canvas), ...(figures ? summary(figures, canvas) : [])];
  const below = figures ? tables(figures, canvas, canvas.rows - above.length) : [];
  return [...above, ...below].slice(0, canvas.rows).map((line) => paint(line, canvas));
}

function title(figures: Figures | null, { url, intervalSeconds, time, trouble }: Heading, canvas: Canvas): Line[] {
  const { columns } = canvas;
  const left: Line = [['graft top', 'strong'], ['   '], [plain(url)], ['   '], ...state(figures, trouble)];
  const right = `${time}  every ${intervalSeconds} s`;
  const gap = columns - lengthOf(left) - right.length;
  const first: Line = gap >= 2 ? [...left, [' '.repeat(gap)], [right, 'quiet']] : left;
  return trouble === null ? [first, []] : [first, [[plain(trouble), 'bad']], []];
}

function state(figures: Figures | null, trouble: string | null): Line {
  if (!figures) return [[trouble === null ? 'connecting' : 'away', trouble === null ? 'quiet' : 'bad']];
  const { backbone, unready, upSeconds } = figures;
  const up: Line = upSeconds === null ? [] : [[`   up ${clock(upSeconds)}`, 'quiet']];
  if (trouble !== null) return [['away', 'bad'], ...up];
  return [[plain(backbone ?? '')], [' '], unready === null ? ['ready', 'good'] : [plain(unready), 'warning'], ...up];
}

function summary(figures: Figures, canvas: Canvas): Line[] {
  const { adapters, requests, rows, tokens, firstToken, betweenTokens, kvRatio, cache, restarts, queue } = figures;
  const number = numbers(canvas);
  const alarm = (value: number | null, style: Style): Style => (value !== null && value > 0 ? style : 'plain');
  const rowsOf = rows.max === null ? `${rows.running}` : `${rows.running} of ${rows.max}`;
  const held = `${bytes(cache.bytes)} of ${bytes(cache.capacityBytes)}`;
  return [
    [
      ...label('requests'),
      [`${requests.running} running`, requests.running > 0 ? 'good' : 'plain'],
      [`   ${requests.waiting} waiting`, alarm(requests.waiting, 'warning')],
      [`   ${queue} in the queue`],
      [`   ${number.rate(requests.finishedPerSecond)}/s finished`],
      [`   ${number.whole(requests.refused)} refused (429)`, alarm(requests.refused, 'warning')],
      [`   ${number.whole(requests.failed)} failed`, alarm(requests.failed, 'bad')],
    ],
    [
      ...label('tokens'),
      [`${number.rate(tokens.generatedPerSecond)}/s generated   ${number.rate(tokens.promptPerSecond)}/s prompt`],
    ],
    [...label('first token'), [`p50 ${number.time(firstToken.p50)}   p95 ${number.time(firstToken.p95)}`]],
    [...label('between tokens'), [`p50 ${number.time(betweenTokens.p50)}   p95 ${number.time(betweenTokens.p95)}`]],
    [],
    [...label('rows'), ...bar(rows.max === null ? 0 : rows.running / rows.max, canvas), [`  ${rowsOf}`]],
    [...label('KV cache'), ...bar(kvRatio, canvas), [`  ${percent(kvRatio)}`]],
    [
      ...label('adapters'),
      ...bar(cache.capacityBytes === 0 ? 0 : cache.bytes / cache.capacityBytes, canvas),
      [`  ${held}   ${adapters.resident} of ${adapters.all} in memory`],
      ...(adapters.broken > 0 ? ([[`   ${adapters.broken} broken`, 'bad']] as const) : []),
    ],
    [
      ...label(''),
      [`${cache.hitRatio === null ? number.none : percent(cache.hitRatio)} hits   ${number.whole(cache.loads)} loaded   `],
      [`${number.whole(cache.evictions)} evicted`],
    ],
    [
      ...label('restarts'),
      [`engine ${restarts.engine}`, alarm(restarts.engine, 'bad')],
      [`   images ${restarts.images}`, alarm(restarts.images, 'bad')],
    ],
    [],
  ];
}

function tables({ busiestAdapters, busiestTenants }: Figures, canvas: Canvas, lines: number): Line[] {
  const tenants = Math.min(busiestTenants.length, Math.max(1, Math.floor(lines / TENANT_SHARE) - 2));
  const adapters = lines - 1 - (busiestTenants.length > 0 ? tenants + 2 : 0);
  const number = numbers(canvas);
  const rates = ({ requestsPerSecond, tokensPerSecond }: Busy) => [number.rate(requestsPerSecond), number.rate(tokensPerSecond)];
  const ofAdapter = (busy: BusyAdapter) => [
    ...rates(busy),
    number.time(busy.firstTokenSeconds),
    number.whole(busy.misses),
    busy.bytes === null ? number.none : bytes(busy.bytes),
  ];
  const ofTenant = (busy: BusyTenant) => [...rates(busy), number.whole(busy.refused)];
  return [
    ...table(
      'ADAPTER',
      ['requests/s', 'tokens/s', 'first token', 'cold', 'memory'],
      busiestAdapters.slice(0, adapters),
      ofAdapter,
      canvas,
    ),
    ...(busiestTenants.length > 0
      ? [[], ...table('TENANT', ['requests/s', 'tokens/s', 'refused'], busiestTenants.slice(0, tenants), ofTenant, canvas)]
      : []),
  ];
}

function table<Row extends Busy>(
  name: string,
  headings: readonly string[],
  rows: readonly Row[],
  cells: (row: Row) => readonly string[],
  { columns }: Canvas,
): Line[] {
  // All tables have the widest one's columns, so that they stand below each other.
  const width = Math.max(MIN_NAME_WIDTH, Math.min(40, columns - 5 * NUMBER_WIDTH));
  const shown = headings.slice(0, Math.max(1, Math.floor((columns - width) / NUMBER_WIDTH)));
  const right = (texts: readonly string[]): string =>
    texts
      .slice(0, shown.length)
      .map((text) => text.padStart(NUMBER_WIDTH))
      .join('');
  return [
    [[name.padEnd(width) + right(headings), 'quiet']],
    ...rows.map((row): Line => {
      const idle = (row.requestsPerSecond ?? 0) === 0 && (row.tokensPerSecond ?? 0) === 0;
      return [[cut(plain(row.name), width - 1).padEnd(width) + right(cells(row)), idle ? 'quiet' : 'plain']];
    }),
  ];
}

function label(text: string): Line {
  return [[`${text.padEnd(LABEL_WIDTH)}  `, 'quiet']];
}

function bar(share: number, { unicode, columns }: Canvas): Line {
  const width = columns < 80 ? BAR_WIDTH / 2 : BAR_WIDTH;
  const within = Math.min(1, Math.max(0, share));
  // Whatever is used shows, however little.
  const filled = within > 0 ? Math.max(1, Math.round(within * width)) : 0;
  const [full, empty] = unicode ? ['█', '░'] : ['#', '.'];
  const style = within > 0.95 ? 'bad' : within > 0.8 ? 'warning' : 'good';
  return [
    [full.repeat(filled), style],
    [empty.repeat(width - filled), 'quiet'],
  ];
}

function numbers({ unicode }: Canvas) {
  const none = unicode ? '–' : '-';
  return {
    none,
    whole: (value: number | null): string => (value === null ? none : Math.round(value).toLocaleString('en')),
    rate: (value: number | null): string => {
      if (value === null) return none;
      return value === 0 || value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(1);
    },
    time: (seconds: number | null): string => (seconds === null ? none : duration(seconds)),
  };
}

function duration(seconds: number): string {
  if (seconds >= 1) return `${seconds.toFixed(seconds >= 10 ? 0 : 1)} s`;
  const ms = seconds * 1000;
  return `${ms.toFixed(ms >= 10 ? 0 : 1)} ms`;
}

function clock(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days > 0) return `${days} d ${hours % 24} h`;
  return hours > 0 ? `${hours} h ${minutes % 60} min` : minutes > 0 ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const step = Math.min(units.length - 1, count < 1000 ? 0 : Math.floor(Math.log10(count) / 3));
  const value = count / 1000 ** step;
  return `${value.toFixed(step > 0 && value < 10 ? 1 : 0)} ${units[step]}`;
}

function percent(share: number): string {
  return `${Math.round(share * 100)}%`;
}

/** A server's words could hold a terminal's commands. */
function plain(text: string): string {
  return text.replace(/\p{C}/gu, '?');
}

function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}~`;
}

function lengthOf(line: Line): number {
  return line.reduce((length, [text]) => length + text.length, 0);
}

/** Cuts a line to the width before it gets colours, which take no room. */
function paint(line: Line, { columns, colours }: Canvas): string {
  let left = columns;
  const pieces = line.map(([text, style = 'plain']) => {
    const shown = text.slice(0, left);
    left -= shown.length;
    return colours && style !== 'plain' && shown !== '' ? `${CODES[style]}${shown}${RESET}` : shown;
  });
  const whole = pieces.join('');
  return colours ? whole : whole.trimEnd();
}
