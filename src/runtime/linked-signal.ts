/** A signal that follows another one and can also be aborted on its own. */
export type LinkedSignal = {
  readonly signal: AbortSignal;
  readonly abort: (reason?: unknown) => void;
  /** Stops following. To be called when the work is done, or by `using`. */
  readonly [Symbol.dispose]: () => void;
};

/** Made once: a new one for each abort takes a stack trace, and nearly every request ends in an abort of its own timer. */
const STOPPED = new DOMException("This operation was aborted", "AbortError");

/**
 * In place of `AbortSignal.any`, which (Node 24) keeps every combined signal that has a listener until one of its
 * sources aborts: one for each request under a signal that lives as long as the process is a leak.
 */
export function linkedSignal(outer: AbortSignal): LinkedSignal {
  const controller = new AbortController();
  const follow = () => controller.abort(outer.reason);
  if (outer.aborted) follow();
  else outer.addEventListener("abort", follow, { once: true });
  return {
    signal: controller.signal,
    abort: (reason) => controller.abort(reason ?? STOPPED),
    [Symbol.dispose]: () => outer.removeEventListener("abort", follow),
  };
}
