/** GGUF files made by hand, right or wrong in whatever a test says. */

type Field = readonly [name: string, type: number, value: Buffer];

export interface MadeTensor {
  readonly name: string;
  /** As the file has them: the size of what lies together first. */
  readonly sizes: readonly (number | bigint)[];
  readonly type?: number;
  readonly data?: Buffer;
  readonly offset?: number;
}

export interface MadeGguf {
  readonly magic?: string;
  readonly version?: number;
  readonly counts?: readonly [tensors: number | bigint, fields: number | bigint];
  readonly fields?: readonly Field[];
  readonly tensors?: readonly MadeTensor[];
  readonly alignment?: number;
  readonly trailing?: number;
}

export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

export const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};

export const f32 = (...values: number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);
export const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
export const textField = (name: string, value: string): Field => [name, 8, text(value)];
export const floatField = (name: string, value: number): Field => [name, 6, f32(value)];

/** The fields of a LoRA for a llama, alpha 4. */
export const LORA: readonly Field[] = [
  textField('general.architecture', 'llama'),
  textField('general.type', 'adapter'),
  textField('adapter.type', 'lora'),
  floatField('adapter.lora.alpha', 4),
];

export function makeGguf({
  magic = 'GGUF',
  version = 3,
  counts,
  fields = LORA,
  tensors = [],
  ...rest
}: MadeGguf = {}): Uint8Array {
  const { alignment = 32, trailing = 0 } = rest;
  const padded = (length: number): number => Math.ceil(length / alignment) * alignment;
  let position = 0;
  const infos = tensors.map(({ name, sizes, type = 0, data = Buffer.alloc(0), offset = position }) => {
    position += padded(data.length);
    return Buffer.concat([text(name), u32(sizes.length), ...sizes.map(u64), u32(type), u64(offset)]);
  });
  const head = Buffer.concat([
    Buffer.from(magic),
    u32(version),
    ...(counts ?? [tensors.length, fields.length]).map(u64),
    ...fields.flatMap(([name, type, value]) => [text(name), u32(type), value]),
    ...infos,
  ]);
  const parts = tensors.map(({ data = Buffer.alloc(0) }) => Buffer.concat([data], padded(data.length)));
  return new Uint8Array(Buffer.concat([head, Buffer.alloc(padded(head.length) - head.length), ...parts, Buffer.alloc(trailing)]));
}
