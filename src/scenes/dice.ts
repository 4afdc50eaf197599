/** Choices out of a stream of random numbers. */

/** Numbers in [0, 1), as `stream` of the trainer gives them. */
export type Random = () => number;

export function between(random: Random, low: number, high: number): number {
  return low + random() * (high - low);
}

export function chance(random: Random, probability: number): boolean {
  return random() < probability;
}

/** Throws RangeError where there is nothing to choose from. */
export function pick<T>(random: Random, items: readonly T[]): T {
  if (items.length === 0) throw new RangeError('Expected something to choose from but received an empty list');
  return items[Math.floor(random() * items.length)] as T;
}

/** Each value as often as its weight says. */
export function weighted<T>(random: Random, values: readonly T[], weights: readonly number[]): T {
  if (values.length !== weights.length) throw new RangeError(`Expected ${values.length} weights but received ${weights.length}`);
  let rest = random() * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [index, value] of values.entries()) {
    rest -= weights[index] as number;
    if (rest < 0) return value;
  }
  return pick(random, values);
}

/** Fisher and Yates, in a new list. */
export function shuffled<T>(random: Random, items: readonly T[]): T[] {
  const mixed = [...items];
  for (let last = mixed.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [mixed[last], mixed[other]] = [mixed[other] as T, mixed[last] as T];
  }
  return mixed;
}
