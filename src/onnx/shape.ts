/**
 * Symbolic shapes. A dimension is a size known at build time or a name that stands for one size through a whole run.
 * `rows?` stands for "rows or 1": an axis that broadcasts against `rows` when it has been fed with a single group.
 */

export type Dim = number | string;

export function formatShape(shape: readonly Dim[]): string {
  return `[${shape.join(', ')}]`;
}

export function sameShape(a: readonly Dim[], b: readonly Dim[]): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}

/** The size that two broadcast dimensions give, or undefined where they cannot meet. */
function broadcastDim(a: Dim, b: Dim): Dim | undefined {
  if (a === b || b === 1) return a;
  if (a === 1) return b;
  if (typeof a === 'string' && `${a}?` === b) return a;
  if (typeof b === 'string' && `${b}?` === a) return b;
  return undefined;
}

/** NumPy's broadcasting, aligned at the last axis; undefined where it fails. */
export function broadcast(a: readonly Dim[], b: readonly Dim[]): Dim[] | undefined {
  const rank = Math.max(a.length, b.length);
  const result: Dim[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const dim = broadcastDim(a[axis - rank + a.length] ?? 1, b[axis - rank + b.length] ?? 1);
    if (dim === undefined) return undefined;
    result.push(dim);
  }
  return result;
}
