/**
 * `graft doctor`: whether a checkpoint, a backbone or an adapter will work, what exactly does not fit, and what to do about it. The judgement is
 * serving's own: the same functions run, each stage by itself, so that the two cannot disagree.
 */
import { type DiagnosisOptions, diagnose } from './doctor/diagnosis.js';
import type { Part, PartKind } from './doctor/part.js';

/** The flags as they were typed. */
export interface DoctorFlags {
  readonly backbone?: string;
  readonly deep?: boolean;
  readonly json?: boolean;
}

export interface DoctorReport {
  readonly text: string;
  readonly fits: boolean;
}

/** What to print. Throws AppError `invalid_config` where there is nothing to look at, or the flags do not go with what is there. */
export async function doctor(location: string, { backbone, deep = false, json = false }: DoctorFlags): Promise<DoctorReport> {
  const options: DiagnosisOptions = { backbone, deep };
  const { fits, parts } = await diagnose(location, options);
  return { fits, text: json ? JSON.stringify({ fits, parts: parts.map(plain) }, null, 2) : textOf(parts) };
}

const TITLES: Readonly<Record<PartKind, string>> = {
  backbone: 'backbone',
  language: 'language checkpoint',
  vision: 'vision checkpoint',
  adapter: 'adapter',
};

/** Parts as people read them. */
export function textOf(parts: readonly Part[]): string {
  return parts.map(partText).join('\n\n');
}

/** Facts by name. */
function plain({ facts, ...rest }: Part): object {
  return { ...rest, facts: Object.fromEntries(facts.map(({ name, value }) => [name, value])) };
}

/** A fact's name in words: what its unit is, its text says. */
const labelOf = (name: string): string => (name === 'bytes' ? 'size' : name.replace('_bytes', '').replaceAll('_', ' '));

function partText({ kind, folder, facts, notes, faults }: Part): string {
  const width = Math.max(0, ...facts.map(({ name }) => labelOf(name).length));
  const rows = facts.map(({ name, text }) => `  ${labelOf(name).padEnd(width)}  ${text}`);
  const head = `${TITLES[kind]} ${folder}: ${faults.length === 0 ? 'fits' : 'does not fit'}`;
  const found = faults.length === 0 ? [] : [`  ${faults.length} ${faults.length === 1 ? 'fault' : 'faults'}:`];
  for (const { sentence, advice } of faults)
    found.push(`    ${sentence}`, ...(advice === undefined ? [] : [`      to do: ${advice}`]));
  return [head, ...rows, ...notes.map((note) => `  note: ${note}`), ...found].join('\n');
}
