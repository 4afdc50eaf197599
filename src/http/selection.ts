/**
 * The choice of what a request names, an adapter or a blend of several, and how the chosen is shown. Every part of a blend is chosen by itself, as
 * if it were alone: what its tenant may not see refuses the blend as it refuses the name.
 */
import { blendName, blendRef } from '../adapter/blend.js';
import type { RegisteredAdapter } from '../adapter/registry.js';
import { type Named, type NamedPart, nameOf } from './blend.js';
import type { Catalogue, Keeper, SelectedAdapter } from './catalogue.js';
import type { Exchange } from './exchange.js';

/** An adapter as replies name it. */
interface AdapterBody {
  readonly name: string;
  readonly digest: string;
  readonly blend?: readonly { readonly name: string; readonly digest: string; readonly weight: number }[];
}

/** Throws what `Catalogue.select` throws, for the first part that it refuses. */
export async function select(catalogue: Catalogue, named: Named, keeper: Keeper): Promise<SelectedAdapter> {
  if (typeof named === 'string') return catalogue.select(named, keeper);
  // All are waited for: what comes after the request has ended would be kept for ever.
  const choices = await Promise.allSettled(named.blend.map(({ name }) => catalogue.select(name, keeper)));
  const selected = choices.map((choice) => {
    if (choice.status === 'rejected') throw choice.reason;
    return choice.value;
  });
  return {
    adapter: mixed(
      named.blend,
      selected.map(({ adapter }) => adapter),
    ),
    reference: nameOf(named),
    fetchMs: Math.max(...selected.map(({ fetchMs }) => fetchMs)),
  };
}

/** The same again, where the engine found other content than the digest says. */
export async function reselect(
  catalogue: Catalogue,
  adapter: RegisteredAdapter,
  reference: string,
  keeper: Keeper,
): Promise<SelectedAdapter> {
  const { blend } = adapter;
  if (blend === undefined) {
    await catalogue.refresh(adapter);
    return catalogue.select(reference, keeper);
  }
  await Promise.all(blend.map((part) => catalogue.refresh(part.adapter)));
  return select(catalogue, { blend: blend.map(({ name, weight }) => ({ name, weight })) }, keeper);
}

export function adapterBody({ name, ref, blend }: RegisteredAdapter): AdapterBody {
  if (blend === undefined) return { name, digest: ref.digest };
  const parts = blend.map((part) => ({ name: part.name, digest: part.adapter.ref.digest, weight: part.weight }));
  return { name, digest: ref.digest, blend: parts };
}

/** Tells the log what a request is served with. */
export function note(exchange: Exchange, adapter: RegisteredAdapter): void {
  exchange.adapters.push(adapter.ref.digest);
  if (adapter.blend !== undefined) exchange.blends.push(adapterBody(adapter));
}

/** Only for this request: no list has it. What is asked of one prompt is asked of the first part's. */
function mixed(named: readonly NamedPart[], adapters: readonly RegisteredAdapter[]): RegisteredAdapter {
  const blend = named.flatMap(({ name, weight }, index) => {
    const adapter = adapters[index];
    return adapter ? [{ name, weight, adapter }] : [];
  });
  const [first] = adapters;
  if (first === undefined) throw new RangeError('Expected at least one part of a blend');
  const name = blendName(named);
  return {
    name,
    ref: blendRef(
      name,
      blend.map(({ weight, adapter }) => ({ ref: adapter.ref, weight })),
    ),
    bytes: adapters.reduce((sum, { bytes }) => sum + bytes, 0),
    summary: {
      ...first.summary,
      contexts: [...new Set(adapters.flatMap(({ summary }) => summary.contexts))],
      seesImages: adapters.some(({ summary }) => summary.seesImages),
    },
    registeredAt: Math.max(...adapters.map(({ registeredAt }) => registeredAt)),
    blend,
  };
}
