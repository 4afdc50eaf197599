/** Words as a shell takes them. */

/** A word that a shell reads as it is: in quotes where it needs them. */
export function shellWord(word: string): string {
  return /^[\w./=,:@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
