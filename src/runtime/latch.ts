import { orAborted } from "../base/abort.ts";

/** Something that happens once, and can be waited for. */
export type Latch = {
  readonly open: () => void;
  readonly isOpen: () => boolean;
  /** Resolves once it is open, or when `signal` aborts. */
  readonly opened: (signal: AbortSignal) => Promise<void>;
};

export function createLatch(): Latch {
  const { promise, resolve } = Promise.withResolvers<void>();
  let isOpen = false;
  return {
    open: () => {
      isOpen = true;
      resolve();
    },
    isOpen: () => isOpen,
    opened: async (signal) => {
      if (!isOpen && !signal.aborted) await orAborted(promise, signal);
    },
  };
}
