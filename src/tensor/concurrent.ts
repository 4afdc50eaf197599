/**
 * The results in order, with at most `limit` of the calls under way at once. Where one fails no other is begun, the signal tells those at work,
 * and the first failure is thrown when they have ended: what its caller then removes or closes is nobody's any more.
 */
export async function mapConcurrent<T, R>(
  items: readonly T[],
  limit: number,
  map: (item: T, signal: AbortSignal) => Promise<R>,
): Promise<R[]> {
  const failing = new AbortController();
  const { signal } = failing;
  const results: R[] = [];
  const queue = items.entries();
  const work = async (): Promise<void> => {
    // One iterator for all: each takes the next item that nobody has.
    for (const [index, item] of queue) {
      if (signal.aborted) return;
      try {
        results[index] = await map(item, signal);
      } catch (error) {
        failing.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, work));
  signal.throwIfAborted();
  return results;
}
