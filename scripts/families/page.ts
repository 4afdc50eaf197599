/** docs/families.md, of what was found out and measured: the same text for the same numbers. */
import { versionsUsed } from '../../test/support/families/cases.js';
import { type Errors, keyOf } from './errors.js';
import type { LanguageOptions, VisionOptions } from './options.js';

export interface Families {
  readonly language: readonly LanguageOptions[];
  readonly vision: readonly VisionOptions[];
}

/** Encoders are frozen: only a language model is adapted. */
const FROZEN = 'frozen';
const NONE = '-';
const TIED = { either: 'as config.json says', always: 'always', never: 'never' } as const;

export function pageOf({ language, vision }: Families, errors: Errors): string {
  const number = (family: string, column: string, otherwise = 'no fixture'): string =>
    errors.get(keyOf(family, column))?.toExponential(1) ?? otherwise;
  const versions = [...versionsUsed()].map(([library, all]) => `${library} ${all.join(' and ')}`);
  return `# Families

Written by \`npm run families\`, which runs all fixtures of \`test/fixtures\` through Graft: do not edit. Each number is the largest error of all checkpoints
and positions of a family against what ${versions.join(', ')} computed with the same weights. Logits, features and adapters: absolute, of
numbers that are about one large. Gradients: relative to the largest of their tensor. Pixels: of what an encoder is given of an image
file, absolute; there one level of a pixel (1/255) is at least 4e-3. The unit tests hold the same numbers below 1e-4.

A family is the \`model_type\` of config.json. What a checkpoint asks for beyond this is refused by name: \`graft doctor FOLDER\` says what.

## Language models
Logits of a whole row, then the same step by step from the key/value cache; with a LoRA and an IA3 adapter that PEFT saved; and the gradients of both adapters' tensors.

${table(
  ['family', 'logits', 'decode', 'LoRA', 'IA3', 'gradients'],
  language.map(({ family }) => [
    family,
    ...['logits', 'decode', 'lora', 'ia3', 'gradients'].map((column) => number(family, column)),
  ]),
)}

What they take:

${table(
  ['family', 'rotary positions', 'window', 'tied embeddings', 'biases', 'activation'],
  language.map(({ family, rotary, hasWindow, tied, biases, activations }) => [
    family,
    list(rotary),
    hasWindow ? 'rows up to its length' : NONE,
    TIED[tied],
    biases.join('; ') || NONE,
    list(activations),
  ]),
)}

What they refuse, and which modules PEFT adapts where nobody names them:

${table(
  ['family', 'refused', "PEFT's LoRA", "PEFT's IA3"],
  language.map(({ family, refused, targets }) => [family, refused.join('; ') || NONE, list(targets.lora), list(targets.ia3)]),
)}

Of all: heads of a size that is no multiple of 8, weights that are quantized or of 8 bits, and rows longer than the window or \`max_position_embeddings\`.
BitFit is trained and served on every family; it is not a type of PEFT, and measured against PyTorch in \`test/real\`.

## Vision encoders
An encoder is frozen: it has no adapters. Where gradients have a number, they are those of its weights, which \`npm run build:scenes\` trains.

${table(
  ['family', 'features', 'pixels', 'LoRA, IA3', 'gradients'],
  vision.map(({ family }) => [
    family,
    number(family, 'features'),
    number(family, 'pixels'),
    FROZEN,
    number(family, 'gradients', FROZEN),
  ]),
)}

${table(
  ['family', 'model_type', 'activation', 'image size', 'features', 'refused'],
  vision.map(({ family, types, activations, takesAnySize, choosesFeatures, refused }) => [
    family,
    list(types),
    list(activations),
    takesAnySize ? 'any' : "config.json's",
    choosesFeatures ? 'any layer, by backbone.json' : 'the last',
    refused.join('; ') || NONE,
  ]),
)}
`;
}

function list(names: readonly string[]): string {
  return names.map((name) => `\`${name}\``).join(', ') || NONE;
}

/** Columns, each as wide as its widest cell. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((cell, column) => Math.max(cell.length, ...rows.map((cells) => cells[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

const COLUMNS: Readonly<Record<string, string>> = { LoRA: 'lora', IA3: 'ia3' };

/** The numbers of a page, as they stand there. */
export function errorsIn(page: string): Errors {
  const errors = new Map<string, number>();
  let head: readonly string[] = [];
  for (const line of page.split('\n')) {
    const cells = line.startsWith('|')
      ? line
          .split('|')
          .slice(1, -1)
          .map((cell) => cell.trim())
      : [];
    if (cells[0] === 'family') head = cells;
    for (const [column, cell] of cells.entries()) {
      const name = head[column] ?? '';
      if (/^\d\.\de[+-]\d+$/.test(cell)) errors.set(keyOf(cells[0] ?? '', COLUMNS[name] ?? name), Number(cell));
    }
  }
  return errors;
}
