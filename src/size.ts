/** Sizes as people write them. Decimal prefixes are powers of 1000, those with an i powers of 1024. */

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 1024,
  MIB: 1024 ** 2,
  GIB: 1024 ** 3,
  TIB: 1024 ** 4,
};

/** What a right size is, for errors. */
export const SIZE = 'a size such as 64MB or 1GiB';

/** The bytes of a text like `5MB`; what is no such text stays what it is, for a schema to judge. */
export function parseSize(value: unknown): unknown {
  const [, amount, unit] = (typeof value === 'string' && /^(\d+(?:\.\d+)?)\s*([KMGT]?i?B|)$/i.exec(value.trim())) || [];
  return amount === undefined ? value : Math.round(Number(amount) * (UNITS[(unit ?? '').toUpperCase()] ?? Number.NaN));
}
