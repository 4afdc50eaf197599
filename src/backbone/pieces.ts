/**
 * The bytes that each token adds to a text. A tokenizer's decoder turns whole sequences into text, and shows half a character as U+FFFD; whoever
 * tells of single tokens needs what is in them. That is known for the two ways in which vocabularies hold bytes (GPT-2's table of visible
 * characters, and SentencePiece's `<0xE2>` beside its ▁ for spaces), which all families here have.
 */
import { z } from 'zod';

/** What a decoder does to each token by itself, and to the beginning of a text. */
interface Rules {
  readonly isByteLevel: boolean;
  readonly hasByteFallback: boolean;
  readonly replacements: readonly (readonly [string, string])[];
  readonly stripsSpace: boolean;
}

const Step = z.discriminatedUnion('type', [
  z.looseObject({ type: z.literal('ByteLevel') }),
  z.looseObject({ type: z.literal('ByteFallback') }),
  z.looseObject({ type: z.literal('Fuse') }),
  z.looseObject({ type: z.literal('Replace'), pattern: z.strictObject({ String: z.string().min(1) }), content: z.string() }),
  z.looseObject({ type: z.literal('Metaspace'), replacement: z.string().min(1).default('▁') }),
  z.looseObject({ type: z.literal('Strip'), content: z.literal(' '), start: z.literal(1), stop: z.literal(0) }),
]);
const Decoder = z.union([
  Step.transform((step) => [step]),
  z.looseObject({ type: z.literal('Sequence'), decoders: z.array(Step) }).transform(({ decoders }) => decoders),
]);

const BYTE_TOKEN = /^<0x([0-9A-F]{2})>$/;

export class Pieces {
  readonly #rules: Rules;
  readonly #textOf: (id: number) => string | undefined;
  readonly #isAdded: (id: number) => boolean;
  readonly #encoder = new TextEncoder();

  private constructor(rules: Rules, textOf: (id: number) => string | undefined, isAdded: (id: number) => boolean) {
    this.#rules = rules;
    this.#textOf = textOf;
    this.#isAdded = isAdded;
  }

  /** null for a decoder (of `tokenizer.json`) that joins tokens in another way. `textOf` is a token as the vocabulary has it. */
  static of(decoder: unknown, textOf: (id: number) => string | undefined, isAdded: (id: number) => boolean): Pieces | null {
    const { data: steps } = Decoder.safeParse(decoder);
    if (steps === undefined) return null;
    const has = (type: string): boolean => steps.some((step) => step.type === type);
    const rules: Rules = {
      isByteLevel: has('ByteLevel'),
      hasByteFallback: has('ByteFallback'),
      replacements: steps.flatMap((step): [string, string][] => {
        if (step.type === 'Replace') return [[step.pattern.String, step.content]];
        return step.type === 'Metaspace' ? [[step.replacement, ' ']] : [];
      }),
      stripsSpace: has('Strip') || has('Metaspace'),
    };
    return rules.isByteLevel && steps.length > 1 ? null : new Pieces(rules, textOf, isAdded);
  }

  /** Whether a text loses one space at its beginning: that of the first token's ▁. */
  get stripsSpace(): boolean {
    return this.#rules.stripsSpace;
  }

  /** Bytes of a token within a text; none for an id that is no token's. */
  bytesOf(id: number): Uint8Array {
    const text = this.#textOf(id) ?? '';
    const { isByteLevel, hasByteFallback, replacements } = this.#rules;
    if (isByteLevel && !this.#isAdded(id)) return Uint8Array.from(text, (character) => BYTES.get(character) ?? 0);
    const byte = hasByteFallback ? BYTE_TOKEN.exec(text)?.[1] : undefined;
    if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
    return this.#encoder.encode(replacements.reduce((result, [from, to]) => result.replaceAll(from, to), text));
  }
}

/** GPT-2's table: printable bytes are themselves, the others come from 256 upwards. */
const BYTES: ReadonlyMap<string, number> = new Map(
  (() => {
    const isPrintable = (byte: number): boolean =>
      (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
    let next = 256;
    return Array.from({ length: 256 }, (_, byte): [string, number] => [
      String.fromCodePoint(isPrintable(byte) ? byte : next++),
      byte,
    ]);
  })(),
);
