/**
 * Words of a caption as coco-caption counts them: the Penn Treebank tokens of Stanford's PTBTokenizer (`-preserveLines -lowerCase`)
 * without punctuation. Scores are only comparable where the tokens are, down to its oddities (a bracket stays, as `-lrb-`).
 * The rules were written from what that tokenizer was seen to do, without its telephone numbers, tags with attributes and addresses
 * with a path but no `www`; and a caption stands alone, where the original looks at the next one's first word after `wing B.`
 * As in any lexer, at each place the longest match wins, and of equally long ones the first rule; a character that no rule knows is
 * a space. No rule looks far and then takes little: time is linear in the caption's length.
 */
import { ABBREVIATIONS, NUMBERED, STARTERS, STATES } from './abbreviation.js';

interface Rule {
  /** Its whole match decides which rule wins; the token is the group `token` where there is one: the rest is only looked at. */
  readonly pattern: RegExp;
  readonly words: (token: string) => readonly string[];
}

type Words = Rule['words'];

const rule = (source: string, words: Words = itself): Rule => ({ pattern: new RegExp(source, 'uy'), words });
const anyCase = (source: string, words: Words = itself): Rule => ({ pattern: new RegExp(source, 'iuy'), words });

const L = '[\\p{L}\\p{M}\\u00ad]';
const W = '[\\p{L}\\p{M}\\p{Nd}\\u00ad]';
const HYPHEN = '[-\\u058a\\u2010\\u2011]';
const APOSTROPHE = "['\\u2019]";
const CLITIC = '(?:[smd]|ll|re|ve)';
const DASHED = `${W}+(?:${HYPHEN}${W}+)*`;
const DOTTED = `${L}${W}*(?:\\.${L}${W}*)+`;

const RULES: readonly Rule[] = [
  // Two words written as one.
  anyCase(`(?:cannot|gonna|gotta|wanna|lemme|gimme)(?!${L}|'${CLITIC}(?!${L}))`, splitAt(3)),
  anyCase(`'t(?:is|was)(?!${L})`, splitAt(2)),

  // Words, and what holds their parts together.
  rule(`${W}+(?:_${W}+)*`),
  rule(`${W}+(?:[.,]{1,4}${W}+){0,8}[.,]{0,4}(?:${HYPHEN}${W}+)+`),
  anyCase(`[a-z0-9]+(?:-[a-z0-9]+)*(?:/[a-z0-9]+(?:-[a-z0-9]+)*)+`),
  rule(DOTTED),
  rule(`${L}${W}*[!?]${L}${W}*`),
  rule('[A-Z]+&[A-Z]+'),
  anyCase('[cf]#|c\\+\\+'),

  // Apostrophes: n't and the like are tokens of their own; o'clock, l'eau and ma'am are whole.
  anyCase("(?<token>[a-z]*[a-mo-z])n['`\\u2018\\u2019]t"),
  anyCase("n['`\\u2018\\u2019]t", straighten),
  anyCase(`'${CLITIC}(?!${L})|\\u2019${CLITIC}`, straighten),
  anyCase(`${APOSTROPHE}(?:em|till?|cause|\\d\\ds|\\d\\d(?!\\S))|'n(?:'|(?!${L}))|\\u2019n\\u2019?`),
  rule(`[delnoA-HJ-XZ]${APOSTROPHE}(?!${CLITIC}(?!${L}))${L}${DASHED}`),
  rule(`${W}+[aeiouyAEIOUY]${APOSTROPHE}(?!(?:${CLITIC}|[SMDN]|LL|RE|VE)(?!${L}))[aeiouA-Z]${L}*`),
  anyCase(`(?:[djl]|ol|dunkin)${APOSTROPHE}(?![dms])|(?<token>y${APOSTROPHE})(?![dms])${L}`),
  anyCase(`li${APOSTROPHE}l|ev${APOSTROPHE}ry|cap${APOSTROPHE}n`),

  // Full stops that belong to their word.
  anyCase(`(?:ph\\.d|${ABBREVIATIONS.join('|')}|[a-z](?:\\.[a-z])*)\\.(?:-${W}+)*`),
  rule(`(?:${STATES.join('|')})\\.(?:-${W}+)*`),
  anyCase(`(?<token>(?:${NUMBERED.join('|')})\\.) ?\\d`),
  rule(`(?<token>[A-Za-z])\\.\\s+(?:${STARTERS.join('|')})(?!\\S)`),
  rule(`(?<token>(?:${DASHED}|${DOTTED})\\.)[,;:]`),

  // Numbers and money.
  rule('[-+]?(?:\\p{Nd}*(?:[.:,]\\p{Nd}+)+|\\p{Nd}+)'),
  rule('(?:US|HK|NZ|[AC])?\\$'),

  // Addresses, markup and faces.
  rule('(?:https?://|www\\.)[^\\s"<>|()]*[^\\s"<>|(){}.,!?;:\'-]'),
  anyCase('[a-z0-9_.-]{1,64}@[a-z0-9_-]{1,64}(?:\\.[a-z0-9_-]{1,64}){0,8}'),
  rule(`#\\p{L}+|@[A-Za-z_]\\w*`),
  anyCase('</?[a-z][^<>=]{0,100}>', (token) => token.split(/\s+/)),
  anyCase('&(?:[a-z]{2,8}|#\\d{1,6});', named),
  anyCase(`[:;=]-?(?:[()\\]]|[dp](?!${L}))`, (token) => [token.replace('(', '-lrb-').replace(')', '-rrb-')]),

  // Marks. Runs of some are one token.
  rule("[!?]{2,}|[*#@_]{2,}|<<|>>|-{2,}|\\.{3,}|'{2}|`{2}"),
  rule(
    '(?![\\u{2c00}-\\u{10ffff}])[\\p{S}\\p{No}%&*/@\\\\_#()\\[\\]{}\\u00a1\\u00a7\\u00b6\\u00b7\\u00bf\\u201a\\u201e\\u2020-\\u2022]',
    named,
  ),
];

/** What coco-caption drops. It also lists brackets by name, but in capitals, and so keeps them. */
const DROPPED: ReadonlySet<string> = new Set(['', "''", '`', '``', '--', '---', '----']);

const NAMES: ReadonlyMap<string, string> = new Map([
  ['(', '-lrb-'],
  [')', '-rrb-'],
  ['[', '-lsb-'],
  [']', '-rsb-'],
  ['{', '-lcb-'],
  ['}', '-rcb-'],
  ['\u00a2', 'cents'],
  ['\u00a3', '#'],
  ['\u00a4', '$'],
  ['\u20a0', '$'],
  ['\u20ac', '$'],
  ['\u00bc', '1/4'],
  ['\u00bd', '1/2'],
  ['\u00be', '3/4'],
  ['\u2153', '1/3'],
  ['\u2154', '2/3'],
  ['&amp;', '&'],
  ['&lt;', '<'],
  ['&gt;', '>'],
  ['&nbsp;', ''],
  ['&quot;', ''],
  ['&apos;', ''],
  ['&mdash;', ''],
]);

/** The words of a caption in order, in lower case. Takes any text, and never throws. */
export function tokenize(caption: string): string[] {
  const tokens: string[] = [];
  for (let at = 0; at < caption.length; ) {
    const { length, words } = munch(caption, at);
    tokens.push(...words.map((word) => word.replaceAll('\u00ad', '').toLowerCase()));
    at += length;
  }
  return tokens.filter((token) => !DROPPED.has(token) && !token.startsWith('...'));
}

/** The token at a place: its length in the text, and the words it stands for. */
function munch(text: string, at: number): { length: number; words: readonly string[] } {
  let longest = 0;
  let token = '';
  let words: Words = nothing;
  for (const rule of RULES) {
    rule.pattern.lastIndex = at;
    const match = rule.pattern.exec(text);
    if (match === null || match[0].length <= longest) continue;
    longest = match[0].length;
    token = match.groups?.['token'] ?? match[0];
    words = rule.words;
  }
  return { length: Math.max(token.length, 1), words: words(token) };
}

function itself(token: string): string[] {
  return [token];
}

function nothing(): string[] {
  return [];
}

function named(token: string): string[] {
  return [NAMES.get(token.toLowerCase()) ?? token];
}

function straighten(token: string): string[] {
  return [token.replace('\u2019', "'").replace('\u2018', '`')];
}

function splitAt(index: number): Words {
  return (token) => [token.slice(0, index), token.slice(index)];
}
