/**
 * Words that decide what a full stop is: `st.` stays one token where `street.` becomes a word and a stop that is then dropped. The
 * lists are what Stanford's tokenizer was seen to do: every string of up to four letters and every word of an English dictionary
 * was put before a full stop, in three cases and six surroundings.
 */

/** The stop stays wherever they stand, in any case. */
export const ABBREVIATIONS = [
  'adj adm adv al ala alex apr ariz assn asst atty aug ave bhd bldg blvd brig bros calif capt cf cie cmdr co col colo conn corp',
  'cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb fla fri ft ga gen gov govs hon inc ind insp intl invt jan jos jr',
  'jul jun kan kans ky lt ltd maj mar md messrs mfg mich minn mlle mme mo mon mont mr mrs ms msgr mt mtg natl neb nev nov oct okla',
  'penn pfc ph plc ppte ppty pres prof pte ptes pty ptys pvt rd rep reps rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt',
  'sys tel tenn thu tue tues univ va vs vt wed wis wisc wm wyo',
].flatMap(words);

/** In lower case they are words of their own; with a capital, the stop stays. */
export const STATES = words('ark az del ill la mass miss ore pa tex wash').flatMap(capitals);

/** The stop stays before a number, which they announce; in any case. */
export const NUMBERED = words('art ca fig figs no nos op p pp prop');

/** After a single letter and its stop, these begin a new sentence: the stop ended the old one. */
export const STARTERS = [
  'a about according additionally after an as at but earlier he her here however if in it last many more now once one other our',
  'she since so some such that the their then there these they this we what when while yet you',
]
  .flatMap(words)
  .flatMap(capitals);

function words(list: string): string[] {
  return list.split(' ');
}

function capitals(word: string): string[] {
  return [`${word.charAt(0).toUpperCase()}${word.slice(1)}`, word.toUpperCase()];
}
