/**
 * Runs `work` on each item, at most `limit` at once, started in order. Once `signal` has aborted (or `work` has thrown)
 * no more are started; those in flight are waited for. The results are those of the items that were started: the first
 * of `items`, in their order, so a shorter list means that the rest was left undone.
 */
export async function eachLimited<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T, index: number) => Promise<R>,
  signal: AbortSignal,
): Promise<readonly R[]> {
  const results: R[] = [];
  let next = 0;
  let failed = false;

  async function worker(): Promise<void> {
    while (next < items.length && !signal.aborted && !failed) {
      const index = next;
      next += 1;
      try {
        results[index] = await work(items[index] as T, index);
      } catch (cause) {
        failed = true;
        throw cause;
      }
    }
  }

  const workers = Array.from({ length: Math.max(1, Math.min(limit, items.length)) }, worker);
  const ends = await Promise.allSettled(workers);
  for (const end of ends) if (end.status === "rejected") throw end.reason;
  return results;
}
