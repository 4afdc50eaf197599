/** The graph as a container: names, sizes, serialisation, and weights by reference. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Graph, type Value } from '../../../src/onnx/graph.js';
import { add, cast, float32 as constant, linear } from '../../../src/onnx/ops.js';
import { ModelProtoSchema } from '../../../src/onnx/proto/onnx_pb.js';
import { float32, type Tensor as RuntimeTensor, Session } from '../../../src/runtime/session.js';
import { Checkpoint } from '../../../src/tensor/checkpoint.js';
import { bfloat16FromFloat32, float16FromFloat32, float32FromBfloat16, float32FromFloat16 } from '../../../src/tensor/convert.js';
import { writeSafetensors } from '../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../src/tensor/tensor.js';
import { Gaussian } from '../../support/tiny.js';

const bytes = (data: Float32Array | Uint16Array): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

describe('names and sizes', () => {
  it.each<[string, (g: Graph, x: Value) => unknown]>([
    ['an input', (g) => g.input('x', 'float32', [1])],
    ['a constant', (g) => g.constant('x', 'float32', [1], new Uint8Array(4))],
    ['a weight', (g) => g.weight('x', 'float32', [1], { location: 'w', offset: 0, bytes: 4 })],
    ['an output', (g, x) => g.output('x', x)],
  ])('refuses the name of another value for %s', (_, declare) => {
    const g = new Graph();
    const x = g.input('x', 'float32', [1]);
    expect(() => declare(g, x)).toThrow(new TypeError('Expected a new value name but received x, which the graph already has'));
  });

  it('refuses a constant or a weight of another size than its shape', () => {
    const g = new Graph();
    expect(() => g.constant('c', 'float32', [2, 3], new Uint8Array(20))).toThrow(
      new RangeError('Constant c: expected 24 bytes for float32 [2, 3] but received 20'),
    );
    expect(() => g.constant(null, 'int64', [], new Uint8Array(4))).toThrow(RangeError);
    expect(() => g.weight('w', 'float16', [2, 3], { location: 'w', offset: 0, bytes: 24 })).toThrow(
      new RangeError('Weight w: expected 12 bytes for float16 [2, 3] but received 24'),
    );
  });

  it('gives one value for a weight that is asked for twice, and refuses another weight of that name', () => {
    const g = new Graph();
    const data = { location: 'w', offset: 8, bytes: 24 };
    const w = g.weight('w', 'float32', [2, 3], data);
    expect(g.weight('w', 'float32', [2, 3], { ...data })).toBe(w);
    expect(() => g.weight('w', 'float32', [3, 2], data)).toThrow(/Weight w: expected the same float32 \[2, 3\].*\[3, 2\]/);
    expect(() => g.weight('w', 'float32', [2, 3], { ...data, offset: 32 })).toThrow(TypeError);
    g.constant('c', 'float32', [2, 3], new Uint8Array(24));
    expect(() => g.weight('c', 'float32', [2, 3], data)).toThrow(TypeError);
  });
});

describe('serialisation', () => {
  it('puts results last and the earliest of them at the very end, where the runtime begins its walk', () => {
    const g = new Graph();
    const x = g.input('x', 'float32', [1]);
    const first = add(g, x, x);
    g.output('early', add(g, first, x));
    const second = add(g, first, first);
    g.output('late', add(g, second, x));
    const { graph } = fromBinary(ModelProtoSchema, g.toModel());
    expect(graph?.node.map(({ output }) => output[0])).toEqual([first.name, second.name, 'late', 'early']);
  });

  it('writes names of axes, and leaves an axis that may be 1 open', () => {
    const g = new Graph();
    const x = g.input('x', 'float32', ['rows', 4]);
    const y = g.input('y', 'float16', ['rows?', 4]);
    g.output('z', add(g, x, cast(g, y, 'float32')));
    const { graph, opsetImport } = fromBinary(ModelProtoSchema, g.toModel());
    const shapes = [...(graph?.input ?? []), ...(graph?.output ?? [])].map(({ name, type }) => {
      if (type?.value.case !== 'tensorType') throw new TypeError('Expected a tensor');
      const { elemType, shape } = type.value.value;
      return [name, elemType, shape?.dim.map(({ value }) => value.value)];
    });
    expect(shapes).toEqual([
      ['x', 1, ['rows', 4n]],
      ['y', 10, [undefined, 4n]],
      ['z', 1, ['rows', 4n]],
    ]);
    expect(opsetImport.map(({ domain, version }) => [domain, version])).toEqual([
      ['', 21n],
      ['com.microsoft', 1n],
    ]);
  });

  it('runs a node with every kind of attribute and an optional input left out', async () => {
    const g = new Graph();
    const x = g.input('x', 'float32', ['n', 2]);
    const high = constant(g, null, [], [1.5]);
    const like = { dtype: x.dtype, shape: x.shape };
    const [clipped] = g.node('Clip', [x, null, high], [like]) as [Value];
    const [leaky] = g.node('LeakyRelu', [clipped], [like], { alpha: { float: 1 } }) as [Value];
    const [turned] = g.node('Transpose', [leaky], [{ dtype: x.dtype, shape: [2, 'n'] }], { perm: [1, 0] }) as [Value];
    const floats = { floats: [0.5, -0.25] };
    const [vector] = g.node('Constant', [], [{ dtype: 'float32', shape: [2] }], { value_floats: floats }) as [Value];
    const [column] = g.node('Reshape', [vector, int64(g, [2, 1])], [{ dtype: 'float32', shape: [2, 1] }], { allowzero: 1 });
    const [folded] = g.node(
      'ReduceSum',
      [add(g, turned, column as Value), int64(g, [1])],
      [{ dtype: 'float32', shape: [2, 1] }],
      { keepdims: 1 },
    ) as [Value];
    const [padded] = g.node('Pad', [folded, int64(g, [0, 0, 1, 0])], [{ dtype: 'float32', shape: [3, 1] }], { mode: 'edge' });
    g.output('y', padded as Value);
    const session = await Session.open(g.toModel(), { folder: null, threads: 1 });
    const { y } = await session.run({ x: float32(Float32Array.of(-3, 5, 1, 2), [2, 2]) }, { y: null });
    // Clipped [[-3, 1.5], [1, 1.5]]; columns −3 + 1 + 2 · 0.5 and 1.5 + 1.5 − 2 · 0.25; the last repeated at the edge.
    expect(y?.data).toEqual(Float32Array.of(-1, 2.5, 2.5));
    await session.close();
  });
});

function int64(g: Graph, values: readonly number[]): Value {
  return g.constant(null, 'int64', [values.length], new Uint8Array(BigInt64Array.from(values, BigInt).buffer));
}

describe('weights by reference', () => {
  const IN = 6;
  const OUT = 5;
  const random = new Gaussian(7);
  const weight = random.array(OUT * IN, 1);
  const bias = random.array(OUT, 1);
  const x = random.array(3 * IN, 1);
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-graph-'));
  });

  afterAll(() => rm(folder, { recursive: true }));

  async function run(g: Graph, y: Value): Promise<number[]> {
    g.output('y', y);
    const session = await Session.open(g.toModel(), { folder, threads: 1 });
    const result = await session.run({ x: float32(x, [3, IN]) }, { y: null });
    await session.close();
    return Array.from((result['y'] as RuntimeTensor).data as Float32Array);
  }

  async function byReference(): Promise<number[]> {
    const checkpoint = await Checkpoint.open(folder);
    const g = new Graph();
    const value = (name: string): Value => {
      const entry = checkpoint.entry(name);
      if (!entry) throw new TypeError(`Expected ${name}`);
      const data = { location: path.relative(folder, entry.path), offset: entry.offset, bytes: entry.bytes };
      return cast(g, g.weight(name, entry.dtype, entry.shape, data), 'float32');
    };
    const result = await run(g, add(g, linear(g, g.input('x', 'float32', ['n', IN]), value('weight')), value('bias')));
    await checkpoint.close();
    return result;
  }

  function asConstants(w: Float32Array, b: Float32Array): Promise<number[]> {
    const g = new Graph();
    const y = linear(g, g.input('x', 'float32', ['n', IN]), constant(g, 'weight', [OUT, IN], w));
    return run(g, add(g, y, constant(g, 'bias', [OUT], b)));
  }

  // A header may have any length, so weights may lie on any byte.
  it.each([0, 1, 2, 3])('gives the numbers of constants, %i bytes past a word', async (odd) => {
    const entry = (shape: number[], from: number) => ({
      dtype: 'F32',
      shape,
      data_offsets: [from, from + shape.reduce((a, b) => a * b) * 4],
    });
    const json = JSON.stringify({ bias: entry([OUT], 0), weight: entry([OUT, IN], OUT * 4) });
    const header = Buffer.from(json.padEnd(256 + odd));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    await writeFile(path.join(folder, 'model.safetensors'), Buffer.concat([length, header, bytes(bias), bytes(weight)]));
    expect(await byReference()).toEqual(await asConstants(weight, bias));
  });

  it('widens halves exactly', async () => {
    const half = float16FromFloat32(weight);
    const brain = bfloat16FromFloat32(bias);
    const tensors = new Map<string, Tensor>([
      ['weight', { dtype: 'float16', shape: [OUT, IN], data: bytes(half) }],
      ['bias', { dtype: 'bfloat16', shape: [OUT], data: bytes(brain) }],
    ]);
    await writeSafetensors(path.join(folder, 'model.safetensors'), tensors);
    expect(await byReference()).toEqual(await asConstants(float32FromFloat16(half), float32FromBfloat16(brain)));
  });
});
