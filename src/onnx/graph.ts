/**
 * A graph under construction. Every value knows its dtype and its symbolic shape, so that a wrong operation is refused here,
 * where the stack trace names the line that asked for it, and not by the runtime with a node number.
 *
 * Nodes and values stay readable (`graph.nodes`): differentiation walks them, and serialisation is the last step, not the form.
 * Operations live in ops.ts, one function each; they check and infer, then call `graph.node`.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { DTYPE_BYTES, type DType } from '../tensor/dtype.js';
import { elements } from '../tensor/tensor.js';
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  ModelProtoSchema,
  NodeProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProtoSchema,
  ValueInfoProtoSchema,
} from './proto/onnx_pb.js';
import { type Dim, formatShape, sameShape } from './shape.js';

/** Opset of the standard operators, and ONNX IR version that carries it. */
const OPSET = 21n;
const IR_VERSION = 10n;

/** ONNX's TensorProto.DataType. */
const ONNX_DTYPE: Readonly<Record<DType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  bfloat16: 16,
};

export interface Value {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly Dim[];
}

/** `int` and `float` are told apart by ONNX, not by JavaScript: 1 is an int, so a float attribute says `{ float: 1 }`. */
export type Attribute = number | string | readonly number[] | { readonly float: number } | { readonly floats: readonly number[] };

export interface Node {
  readonly op: string;
  /** '' for standard ONNX, 'com.microsoft' for onnxruntime's own. */
  readonly domain: string;
  /** null: an optional input left out. */
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly Value[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** Where a weight's bytes lie: the runtime reads (maps) them from there, the graph never holds them. */
export interface ExternalData {
  /** Path relative to the folder that the session is given. */
  readonly location: string;
  readonly offset: number;
  readonly bytes: number;
}

interface Initializer {
  readonly value: Value;
  readonly data: Uint8Array | ExternalData;
}

export class Graph {
  readonly nodes: Node[] = [];
  readonly inputs: Value[] = [];
  readonly outputs: Value[] = [];
  readonly initializers = new Map<string, Initializer>();
  readonly #names = new Set<string>();
  /** Names of computed values that are results, by the name they were computed under. */
  readonly #renamed = new Map<string, string>();
  #counter = 0;

  /** Declares a value that every run must be given. */
  input(name: string, dtype: DType, shape: readonly Dim[]): Value {
    const value = this.#declare(name, dtype, shape);
    this.inputs.push(value);
    return value;
  }

  /** Names a value as a result. A computed value is renamed, not copied: a cache that attention appends in place stays in place. */
  output(name: string, value: Value): Value {
    const named = this.#declare(name, value.dtype, value.shape);
    const computed = this.nodes.some((node) => node.outputs.includes(value));
    if (computed && !this.#renamed.has(value.name)) this.#renamed.set(value.name, name);
    else this.nodes.push({ op: 'Identity', domain: '', inputs: [value], outputs: [named], attributes: {} });
    this.outputs.push(named);
    return named;
  }

  /** A constant held inside the graph: for small things. null lets the graph name it. */
  constant(label: string | null, dtype: DType, shape: readonly number[], data: Uint8Array): Value {
    const name = label ?? `constant_${this.#counter++}`;
    if (elements(shape) * DTYPE_BYTES[dtype] !== data.byteLength) {
      throw new RangeError(
        `Constant ${name}: expected ${elements(shape) * DTYPE_BYTES[dtype]} bytes for ${dtype} ${formatShape(shape)} but received ${data.byteLength}`,
      );
    }
    return this.#initialize(name, dtype, shape, data);
  }

  /** A frozen weight, by reference to its bytes on disk. Asking twice for one name gives the same value (tied weights). */
  weight(name: string, dtype: DType, shape: readonly number[], data: ExternalData): Value {
    const known = this.initializers.get(name);
    if (known) {
      const { value } = known;
      if (value.dtype === dtype && sameShape(value.shape, shape) && sameBytes(known.data, data)) return value;
      throw new TypeError(
        `Weight ${name}: expected the same ${value.dtype} ${formatShape(value.shape)} as before but received ${dtype} ${formatShape(shape)} or other bytes`,
      );
    }
    if (elements(shape) * DTYPE_BYTES[dtype] !== data.bytes) {
      throw new RangeError(
        `Weight ${name}: expected ${elements(shape) * DTYPE_BYTES[dtype]} bytes for ${dtype} ${formatShape(shape)} but received ${data.bytes}`,
      );
    }
    return this.#initialize(name, dtype, shape, data);
  }

  /**
   * Appends a node. `outputs` are the dtypes and shapes that the operation has inferred.
   * Operators are in ops.ts: nothing else should call this.
   */
  node(
    op: string,
    inputs: readonly (Value | null)[],
    outputs: readonly { readonly dtype: DType; readonly shape: readonly Dim[] }[],
    attributes: Readonly<Record<string, Attribute>> = {},
    domain = '',
  ): Value[] {
    const values = outputs.map(({ dtype, shape }) => this.#declare(`${op}_${this.#counter++}`, dtype, shape));
    this.nodes.push({ op, domain, inputs, outputs: values, attributes });
    return values;
  }

  /** The whole as an ONNX model. */
  toModel(): Uint8Array {
    return toBinary(
      ModelProtoSchema,
      create(ModelProtoSchema, {
        irVersion: IR_VERSION,
        producerName: 'graft',
        opsetImport: [
          { domain: '', version: OPSET },
          { domain: 'com.microsoft', version: 1n },
        ],
        graph: {
          name: 'graft',
          node: this.#inRunningOrder().map((node, index) =>
            create(NodeProtoSchema, {
              name: `${node.op}_${index}`,
              opType: node.op,
              domain: node.domain,
              input: node.inputs.map((value) => (value ? this.#finalName(value) : '')),
              output: node.outputs.map((value) => this.#finalName(value)),
              attribute: Object.entries(node.attributes).map(([name, attribute]) => attributeProto(name, attribute)),
            }),
          ),
          initializer: [...this.initializers.values()].map(initializerProto),
          input: this.inputs.map(valueProto),
          output: this.outputs.map(valueProto),
        },
      }),
    );
  }

  /**
   * onnxruntime runs nodes as it meets them on a walk back from the results, the last one of the list first. Results therefore stand at the
   * end, the earliest last: each is computed as soon as it can be, and what it was computed from is free at once. (In the order in which they
   * are made, the gradients of a model's last layer would be computed last of all, and everything kept until then.)
   */
  #inRunningOrder(): Node[] {
    const used = new Set(this.nodes.flatMap(({ inputs }) => inputs));
    const isLast = ({ outputs }: Node): boolean => outputs.every((output) => !used.has(output));
    return [...this.nodes.filter((node) => !isLast(node)), ...this.nodes.filter(isLast).reverse()];
  }

  #finalName({ name }: Value): string {
    return this.#renamed.get(name) ?? name;
  }

  #declare(name: string, dtype: DType, shape: readonly Dim[]): Value {
    if (this.#names.has(name)) throw new TypeError(`Expected a new value name but received ${name}, which the graph already has`);
    this.#names.add(name);
    return { name, dtype, shape };
  }

  #initialize(name: string, dtype: DType, shape: readonly number[], data: Uint8Array | ExternalData): Value {
    const value = this.#declare(name, dtype, shape);
    this.initializers.set(name, { value, data });
    return value;
  }
}

function sameBytes(a: Uint8Array | ExternalData, b: ExternalData): boolean {
  return !(a instanceof Uint8Array) && a.location === b.location && a.offset === b.offset && a.bytes === b.bytes;
}

function attributeProto(name: string, attribute: Attribute): AttributeProto {
  if (typeof attribute === 'number') return create(AttributeProtoSchema, { name, type: AttributeType.INT, i: BigInt(attribute) });
  if (typeof attribute === 'string')
    return create(AttributeProtoSchema, { name, type: AttributeType.STRING, s: new TextEncoder().encode(attribute) });
  if ('float' in attribute) return create(AttributeProtoSchema, { name, type: AttributeType.FLOAT, f: attribute.float });
  if ('floats' in attribute)
    return create(AttributeProtoSchema, { name, type: AttributeType.FLOATS, floats: [...attribute.floats] });
  return create(AttributeProtoSchema, { name, type: AttributeType.INTS, ints: attribute.map(BigInt) });
}

function initializerProto({ value, data }: Initializer) {
  const common = { name: value.name, dataType: ONNX_DTYPE[value.dtype], dims: value.shape.map((size) => BigInt(size)) };
  if (data instanceof Uint8Array) return create(TensorProtoSchema, { ...common, rawData: data });
  const entries = { location: data.location, offset: String(data.offset), length: String(data.bytes) };
  return create(TensorProtoSchema, {
    ...common,
    dataLocation: TensorProto_DataLocation.EXTERNAL,
    externalData: Object.entries(entries).map(([key, entry]) => create(StringStringEntryProtoSchema, { key, value: entry })),
  });
}

function valueProto({ name, dtype, shape }: Value) {
  const dim = shape.map((size) =>
    // 'rows?' (rows or 1) has no counterpart in ONNX: the runtime is told nothing about that axis.
    typeof size === 'number'
      ? { value: { case: 'dimValue' as const, value: BigInt(size) } }
      : size.endsWith('?')
        ? {}
        : { value: { case: 'dimParam' as const, value: size } },
  );
  return create(ValueInfoProtoSchema, {
    name,
    type: { value: { case: 'tensorType', value: { elemType: ONNX_DTYPE[dtype], shape: { dim } } } },
  });
}
